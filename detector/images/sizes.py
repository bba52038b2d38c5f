"""How large a page is opened: pure arithmetic on sizes."""

from __future__ import annotations

import math

LONG_ASPECT = 2
"""Up to this many times its short side the long side of a page counts (`target_size`)."""


THIN_ASPECT = 4
"""From this many times its short side on the area of a page counts, and between the two something in between."""


READABLE_SHARE = 4
"""The short side of a thin page is kept at this part of `limit_side`, in pixels. At 960 a chat of 600x15000 then has
99 % of its lines; at the 192 pixels that its area would leave it, 94 %."""


THIN_AREA = 2
"""For that a thin page may have this many times limit_side² pixels. It is run in tiles, so that the network needs no
more memory than for other pages."""


STRIDE = 32
"""The network's input sides are multiples of this (its deepest features are 1/32 of the input)."""


def target_size(width: int, height: int, limit_side: int) -> tuple[int, int]:
    """The size at which a page is shown to the network: never larger than it is, never stretched.

    The long side of an ordinary page becomes at most `limit_side`. Of a long page (receipts, screenshots of chats, web
    pages) nobody could read anything then: of 600x7484 pixels 77x960 would be left. So its area may become that of a
    square page, limit_side², which takes the same memory, or up to twice that where its short side would be too thin
    to read (such pages are run in tiles). Its short side then is a multiple of 32, so that none of it is padding.

    Args:
        width: of the page, pixels, in either orientation.
        height: likewise.
        limit_side: the longest side wanted, in pixels.

    Returns:
        (width, height) in pixels, each at least 1.
    """
    long, short = max(width, height), min(width, height)
    if long <= LONG_ASPECT * short:
        scale = limit_side / long
    else:
        wanted = math.sqrt(_area_share(long / short) * short / long) * limit_side  # of the short side
        fits = -(-short // STRIDE) * STRIDE * long <= limit_side * limit_side
        if long >= THIN_ASPECT * short and not fits:
            readable = min(limit_side / READABLE_SHARE, math.sqrt(THIN_AREA) * wanted)
            wanted = max(STRIDE, min(max(wanted, readable), short) // STRIDE * STRIDE)
            # Thinner than 32 it is padded to 32: then the long side decides.
            wanted = min(wanted, limit_side * limit_side / STRIDE * short / long)
        scale = wanted / short
    scale = min(1.0, scale)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _area_share(aspect: float) -> float:
    """The share of limit_side² that a page of this aspect (2 or more) may have."""
    blend = min(1.0, (aspect - LONG_ASPECT) / (THIN_ASPECT - LONG_ASPECT))
    return (1.0 - blend) / aspect + blend


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


def overview_limit(height: int, width: int) -> int | None:
    """The `limit_side` at which a page's overview is opened: that of one tile if OVERVIEW_RATIO allows it.

    None for thin pages: a tile sees them from edge to edge, so no lettering is too large for it.

    Args:
        height: of the page as its tiles see it, pixels.
        width: likewise.
    """
    long, short = max(height, width), min(height, width)
    if long >= THIN_ASPECT * short:
        return None
    ratio = min(OVERVIEW_RATIO, math.sqrt(height * width) / (0.99 * TILE))  # a little less: sides are rounded
    whole = long if long <= LONG_ASPECT * short else math.sqrt(long * short / _area_share(long / short))
    return math.floor(whole / ratio) if ratio > 1.0 else None
