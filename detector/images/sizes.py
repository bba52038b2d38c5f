"""How large a page is opened: pure arithmetic on sizes."""

from __future__ import annotations

import math

THIN_ASPECT = 10
"""Pictures longer than this many times their short side are thin pages (`target_size`)."""


THIN_SHORT_SIDE = 64
"""A thin page's short side is not shrunk below this many pixels as long as the picture's area stays within limit²."""


STRIDE = 32
"""The network's input sides are multiples of this (its deepest features are 1/32 of the input)."""


def target_size(width: int, height: int, limit_side: int) -> tuple[int, int]:
    """The size at which a page is shown to the network: never larger than it is, never stretched.

    The long side becomes at most `limit_side`. Thin pages are the exception: one of 20000x50 at 640 would be
    640x2, and nobody could read it; so it keeps a short side of up to 64 px while its (padded) area stays within
    limit_side², the area of a square picture, so that it costs no more memory than any other page.

    Args:
        width: of the page, pixels, in either orientation.
        height: likewise.
        limit_side: the longest side wanted, in pixels.

    Returns:
        (width, height) in pixels, each at least 1.
    """
    long, short = max(width, height), min(width, height)
    scale = min(1.0, limit_side / long)
    if long > THIN_ASPECT * short and short * scale < THIN_SHORT_SIDE:
        # The short side is padded to 32 or 64; with either, the padded area stays within limit².
        for padded in (STRIDE, THIN_SHORT_SIDE):
            scale = max(scale, min(1.0, padded / short, limit_side * limit_side / padded / long))
    return max(1, round(width * scale)), max(1, round(height * scale))


def jpeg_reduction(width: int, height: int, target: tuple[int, int]) -> int:
    """The largest of 8, 4, 2, 1 by which a JPEG can be decoded smaller and still be no smaller than `target`."""
    for factor in (8, 4, 2):
        if math.ceil(width / factor) >= target[0] and math.ceil(height / factor) >= target[1]:
            return factor
    return 1


def box_reduction(width: int, height: int, target: tuple[int, int]) -> int:
    """The largest whole factor by which a picture can be averaged down and still be no smaller than `target`."""
    return max(1, min(width // target[0], height // target[1]))


TILE = 672
"""A tile has at most the area of a square of this side, pixels. With 640 validation hmean at 1440 is the same to a
tenth of a point (detector/training/NOTES.md); 5 MiB more buy fewer seams."""


OVERLAP = 192
"""Least overlap of two tiles, pixels: more than the network looks at around a letter to call it text. With 128 receipts
lose 0.2 points of hmean, with 224 0.1."""


OVERVIEW_RATIO = 2.25
"""How much smaller than the page an overview is at most: it must not be too small to tell lines apart. At this ratio no
line of an A4 page of 6 point print is lost at 1440. An overview that is then still larger than a tile is run in tiles
itself, with an overview of its own."""


def needs_tiles(height: int, width: int) -> bool:
    """Whether a page is larger than one tile; one that is not is run whole, whatever its shape."""
    return height * width > TILE * TILE


def tile_size(height: int, width: int) -> tuple[int, int]:
    """The (height, width) of a page's tiles: of all that are not too large those that compute the fewest pixels.

    Args:
        height: of the page, pixels.
        width: likewise.
    """
    best = (0, 0, 0)
    for columns in range(1, _most(width) + 1):
        wide = tile_side(width, columns)
        # With this width, as high as allowed; lower tiles of the same number would only be padded less.
        for rows in range(1, _most(height) + 1):
            high = tile_side(height, rows)
            cost = high * wide * rows * columns
            if high * wide <= TILE * TILE and (not best[0] or cost < best[0]):
                best = (cost, high, wide)
    return best[1], best[2]


def _most(length: int) -> int:
    """Tiles along a side when they are as small as useful: twice the overlap."""
    return max(1, -(-(length - OVERLAP) // OVERLAP))


def tile_side(length: int, count: int) -> int:
    """The side of `count` tiles that cover a length overlapping by OVERLAP or more: a multiple of 32, or the length."""
    if count == 1:
        return length
    side = -(-(length + (count - 1) * OVERLAP) // count)
    return min(length, -(-side // STRIDE) * STRIDE)


def starts(length: int, side: int) -> list[int]:
    """Where tiles of this side begin along a length, evenly spread so that each two overlap by OVERLAP or more.

    Args:
        length: of the page's side, pixels.
        side: of a tile; at most `length`.
    """
    if side >= length:
        return [0]
    count = -(-(length - OVERLAP) // (side - OVERLAP))
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def overview_side(height: int, width: int) -> int:
    """The longest side, pixels, of a page's overview: that of one tile if OVERVIEW_RATIO allows it."""
    ratio = min(OVERVIEW_RATIO, math.sqrt(height * width) / (0.99 * TILE))  # a little less: sides are rounded
    return math.floor(max(height, width) / max(1.0, ratio))
