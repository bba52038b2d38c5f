"""Places on a drawn page: whether all of one, or an edge of it, is of one colour."""

from __future__ import annotations

import numpy as np

from detector.images.decoders.damage import Pixels

_BAND = 0.03  # of a place's rows or columns: an edge
_SOME = 24  # rows and columns
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


def has_even_edge(place: Pixels, darker_than: int = 256) -> bool:
    """Whether an edge is of one colour that is darker than this level in some channel."""
    return any(edge[0, 0].min() < darker_than and is_even(edge) for edge in _edges(place))


def has_even_half(place: Pixels) -> bool:
    """Whether the upper, lower, left or right half is of one colour."""
    rows, columns = (max(1, side // 2) for side in place.shape[:2])
    return any(is_even(half) for half in (place[-rows:], place[:rows], place[:, :columns], place[:, -columns:]))


def is_framed(place: Pixels, colour: tuple[int, int, int] | None = None) -> bool:
    """Whether each edge is of one colour: that of what a picture lies on, perhaps, with other things on it."""
    if not place.size:  # a page drawn again may be a pixel smaller
        return False
    return all(is_even(edge) and colour in (None, tuple(edge[0, 0].tolist())) for edge in _edges(place))
