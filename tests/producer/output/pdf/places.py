"""Where pdfium draws ink on a page, and where it finds a word."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pypdfium2

from detector.record import WordRecord
from worker.messages import BoxRecord, ImageRecord

Place = tuple[float, float, float, float]
"""Left, top, right, bottom, in shares of the page."""

_FINE = 1_000_000


def read(word: str, page: int, size: tuple[int, int], place: tuple[float, float, float, float]) -> ImageRecord:
    """The record of a page on which one word was read.

    Args:
        word: its text.
        page: its number in the file.
        size: (width, height), upright, pixels.
        place: left, top, right, bottom of the word, pixels.
    """
    x0, y0, x1, y1 = map(float, place)
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    box = BoxRecord(corners, 0.9, word, 0.9, [WordRecord(word, corners, 0.9)], 0.0, 0)
    return ImageRecord(
        job="j", index=page, image="a", page=page, status="ok", width=size[0], height=size[1], boxes=[box]
    )


def ink(page: Any) -> Place:
    """What is dark of a page."""
    scale = 400 / max(page.get_size())
    pixels = page.render(scale=scale).to_numpy()
    rows, columns = np.nonzero(pixels[..., 0] < 128)
    high, wide = pixels.shape[:2]
    return (
        float(columns.min() / wide),
        float(rows.min() / high),
        float((columns.max() + 1) / wide),
        float((rows.max() + 1) / high),
    )


def place_of(page: Any, word: str) -> Place:
    """Where the word is found."""
    text = page.get_textpage()
    start, count = text.search(word).get_next()
    boxes = [text.get_charbox(place, loose=True) for place in range(start, start + count)]
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    corners = [_on_screen(page, *corner) for corner in ((min(lefts), min(bottoms)), (max(rights), max(tops)))]
    (x0, x1), (y0, y1) = (sorted(values) for values in zip(*corners, strict=True))
    return x0, y0, x1, y1


def _on_screen(page: Any, x: float, y: float) -> tuple[float, float]:
    across, down = ctypes.c_int(), ctypes.c_int()
    pypdfium2.raw.FPDF_PageToDevice(page.raw, 0, 0, _FINE, _FINE, 0, x, y, across, down)
    return across.value / _FINE, down.value / _FINE
