"""All objects of a PDF's page, those in forms too, and how each is put on the page."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, NamedTuple

import pypdfium2.raw as pdfium

MOST_DEPTH = 8
"""Of forms in forms."""

Matrix = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f) takes (x, y) to (a x + c y + e, b x + d y + f); ISO 32000-1, 8.3.3."""

_NO_INK = (pdfium.FPDF_TEXTRENDERMODE_INVISIBLE, pdfium.FPDF_TEXTRENDERMODE_CLIP)

Corners = list[tuple[float, float]]

UNMOVED: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


class Placed(NamedTuple):
    """An object on a page.

    Attributes:
        object: pdfium's.
        kind: FPDF_PAGEOBJ_*.
        outer: how what holds it is put on the page.
        forms: that it is in, the outermost first.
    """

    object: Any
    kind: int
    outer: Matrix
    forms: tuple[Placed, ...]


def objects_of(page: Any, most: int) -> Iterator[Placed]:
    """The first objects of a page in the order of drawing; forms come before what is in them.

    Args:
        page: pdfium's, open.
        most: objects, all forms' together; to ask for a kind takes 1 us.
    """
    numbers = iter(range(most))

    def walk(holder: Any, outer: Matrix, forms: tuple[Placed, ...]) -> Iterator[Placed]:
        count = pdfium.FPDFFormObj_CountObjects(holder) if forms else pdfium.FPDFPage_CountObjects(holder)
        get = pdfium.FPDFFormObj_GetObject if forms else pdfium.FPDFPage_GetObject
        for number in range(count):
            if next(numbers, None) is None:
                return
            found = get(holder, number)
            placed = Placed(found, pdfium.FPDFPageObj_GetType(found), outer, forms)
            yield placed
            if placed.kind == pdfium.FPDF_PAGEOBJ_FORM and len(forms) < MOST_DEPTH:
                yield from walk(found, times(matrix_of(found), outer), (*forms, placed))

    yield from walk(page, UNMOVED, ())


def matrix_of(found: Any) -> Matrix:
    """How an object is put on what holds it."""
    matrix = pdfium.FS_MATRIX()
    if not pdfium.FPDFPageObj_GetMatrix(found, matrix):
        return UNMOVED
    return (matrix.a, matrix.b, matrix.c, matrix.d, matrix.e, matrix.f)


def times(inner: Matrix, outer: Matrix) -> Matrix:
    """First the one, then the other; ISO 32000-1, 8.3.4."""
    a, b, c, d, e, f = inner
    p, q, r, s, t, u = outer
    return (a * p + b * r, a * q + b * s, c * p + d * r, c * q + d * s, e * p + f * r + t, e * q + f * s + u)


def through(matrix: Matrix, left: float, bottom: float, right: float, top: float) -> Corners:
    """The four corners of a rectangle after a matrix."""
    a, b, c, d, e, f = matrix
    return [(a * x + c * y + e, b * x + d * y + f) for x in (left, right) for y in (bottom, top)]


def bounds_of(found: Any) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of an object, pt, in what holds it."""
    left, bottom, right, top = (ctypes.c_float() for _ in range(4))
    pdfium.FPDFPageObj_GetBounds(found, left, bottom, right, top)
    return left.value, bottom.value, right.value, top.value


def has_ink(text: Any) -> bool:
    """Whether a text object is drawn: neither invisible, as the words of a scan, nor only a clip to what follows."""
    return pdfium.FPDFTextObj_GetTextRenderMode(text) not in _NO_INK
