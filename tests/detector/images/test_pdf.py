"""PDF pages: drawn at the size needed, told in pixels at 200 dpi."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pypdf import PdfReader, PdfWriter

from detector.errors import NotFound, UnsupportedFormat
from detector.images.page import count_pages, open_page
from tests.detector.samples import asymmetric


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    """Two pages: 432x288 pt (6x4 inches) landscape, and its quarter turn."""
    path = tmp_path / "two.pdf"
    page = asymmetric(600, 400)
    page.save(path, resolution=100, save_all=True, append_images=[page])
    reader = PdfReader(path)
    writer = PdfWriter()
    writer.add_page(reader.pages[0])
    writer.add_page(reader.pages[1].rotate(90))
    with path.open("wb") as file:
        writer.write(file)
    return path


def test_size_is_told_at_200_dpi_and_drawn_smaller(pdf: Path) -> None:
    assert count_pages(pdf) == 2
    page = open_page(pdf, limit_side=300)
    assert (page.width, page.height) == (1200, 800)
    assert page.pixels.shape == (200, 300, 3)
    assert page.flags == ("downscaled", "page_rendered")
    expected = np.asarray(asymmetric(300, 200), int)
    assert np.abs(page.pixels.astype(int) - expected).mean() < 6


def test_a_turned_page_is_upright(pdf: Path) -> None:
    page = open_page(pdf, 1, limit_side=300)
    assert (page.width, page.height) == (800, 1200)
    red_corner = page.pixels[10, 190]  # top-left of the picture goes to the top-right
    assert red_corner.argmax() == 0
    assert red_corner[1] < 80


def test_never_drawn_larger_than_200_dpi(pdf: Path) -> None:
    page = open_page(pdf, limit_side=5000)
    assert page.pixels.shape == (800, 1200, 3)
    assert page.flags == ("page_rendered",)


def test_the_limit_of_pixels_is_not_for_drawings(pdf: Path) -> None:
    assert open_page(pdf, limit_side=300, max_pixels=1).width == 1200


@pytest.mark.parametrize("thin", [0.002, 0.000001])
def test_a_page_thinner_than_a_pixel_is_not_drawn_large(thin: float, tmp_path: Path) -> None:
    writer = PdfWriter()
    writer.add_blank_page(14400, thin)
    writer.write(tmp_path / "thin.pdf")
    page = open_page(tmp_path / "thin.pdf", limit_side=640)
    assert page.pixels.size < 10 * 640 * 640


def test_missing_page(pdf: Path) -> None:
    with pytest.raises(NotFound, match="has 2 pages, page 2"):
        open_page(pdf, 2, limit_side=300)


def test_locked(pdf: Path, tmp_path: Path) -> None:
    writer = PdfWriter(clone_from=pdf)
    writer.encrypt("secret", algorithm="RC4-128")
    locked = tmp_path / "locked.pdf"
    with locked.open("wb") as file:
        writer.write(file)
    for attempt in (count_pages, lambda path: open_page(path, limit_side=300)):
        with pytest.raises(UnsupportedFormat, match=r"locked\.pdf: .*password.*qpdf --decrypt"):
            attempt(locked)


@pytest.mark.parametrize(("dpi", "side", "drawn"), [(1200, 600, 600), (4800, 2400, 960), (300, 150, 100)])
def test_a_small_page_is_drawn_as_fine_as_its_picture(tmp_path: Path, dpi: int, side: int, drawn: int) -> None:
    """Before: a film's frame of its true size had 100 pixels, and no text was found on it."""
    asymmetric(side, side // 2).save(tmp_path / "frame.pdf", resolution=dpi)
    page = open_page(tmp_path / "frame.pdf", limit_side=960)
    wide = round(side / dpi * 200)
    assert (page.width, page.height) == (wide, round(wide / 2)), "told at 200 dpi"
    assert page.pixels.shape[1] == drawn
    assert ("downscaled" in page.flags) == (dpi == 4800)
    assert open_page(tmp_path / "frame.pdf", limit_side=64).pixels.shape[1] == 64
    assert open_page(tmp_path / "frame.pdf", limit_side=sys.maxsize).pixels.shape[1] == min(side, 2000) or dpi == 300
