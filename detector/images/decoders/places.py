"""Places on a drawn page: whether all of one, or an edge of it, is of one colour."""

from __future__ import annotations

import numpy as np

from detector.images.decoders.damage import Pixels

MOSTLY = 0.9
"""Of an edge's pixels: one colour, beside a number, a line or a stamp."""

_BAND = 0.03  # of a place's rows or columns: an edge
_SOME = 24  # rows and columns
_SAMPLING = 0.05  # that some pixels may tell less than all
_NEARLY = 2  # levels that one colour may differ by


def is_even(pixels: Pixels) -> bool:
    """Whether they are all of one colour; some of them tell of most places that they are not."""
    some = pixels[:: max(1, len(pixels) // _SOME), :: max(1, pixels.shape[1] // _SOME)]
    return all(
        bool((part.max(axis=(0, 1)).astype(np.int16) - part.min(axis=(0, 1)) <= _NEARLY).all())
        for part in (some, pixels)
    )


def _edges(place: Pixels) -> list[Pixels]:
    rows, columns = (max(1, int(side * _BAND)) for side in place.shape[:2])
    return [place[:rows], place[-rows:], place[:, :columns], place[:, -columns:]]


def _colour(edge: Pixels, share: float) -> tuple[int, ...] | None:
    """The one that so much of an edge has."""
    if share >= 1.0:
        return tuple(edge[0, 0].tolist()) if is_even(edge) else None
    some = edge[:: max(1, len(edge) // _SOME), :: max(1, edge.shape[1] // _SOME)]
    colour = np.median(some, axis=(0, 1)).astype(np.int16)
    for part, least in ((some, share - _SAMPLING), (edge, share)):
        if (np.abs(part - colour) <= _NEARLY).all(axis=2).mean() < least:
            return None
    return tuple(colour.tolist())


def has_even_edge(place: Pixels, darker_than: int = 256, share: float = 1.0) -> bool:
    """Whether so much of an edge is of one colour that is darker than this level in some channel."""
    colours = (_colour(edge, share) for edge in _edges(place))
    return any(colour is not None and min(colour) < darker_than for colour in colours)


def has_even_half(place: Pixels) -> bool:
    """Whether the upper, lower, left or right half is of one colour."""
    rows, columns = (max(1, side // 2) for side in place.shape[:2])
    return any(is_even(half) for half in (place[-rows:], place[:rows], place[:, :columns], place[:, -columns:]))


def is_framed(place: Pixels, colour: tuple[int, ...] | None = None, share: float = 1.0) -> bool:
    """Whether so much of each edge is of one colour: that of what a picture lies on, with other things on it."""
    if not place.size:  # a page drawn again may be a pixel smaller
        return False
    found = (_colour(edge, share) for edge in _edges(place))
    return all(some is not None and colour in (None, some) for some in found)
