"""Bytes, file objects, arrays and PIL images are opened as the file of the same pixels is."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage, NotFound, TooLarge, UnsupportedFormat
from detector.images import count_pages, open_page, page_header
from detector.images.picture import picture_page
from detector.predictor import TextDetector
from tests.detector.samples import save_oriented


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page with a bright bar, and noise that shows any other way of shrinking."""
    pixels = np.random.default_rng(1).integers(0, 60, (900, 1300, 3), dtype=np.uint8)
    pixels[300:380, 200:1000] = (250, 245, 230)
    Image.fromarray(pixels).save(tmp_path / "page.png")
    return tmp_path / "page.png"


@pytest.mark.slow
@pytest.mark.parametrize("limit_side", [320, 640, 1300, 2000])
@pytest.mark.parametrize("tiled", [False, True])
def test_path_bytes_file_array_and_pil_give_the_same_boxes(
    page: Path, tiny_model: Path, limit_side: int, tiled: bool
) -> None:
    detector = TextDetector(tiny_model, limit_side=limit_side, tiled=tiled)
    expected = detector.detect(page)
    assert len(expected.boxes) == 1
    rgb = np.array(Image.open(page))
    with page.open("rb") as file:
        sources = [str(page), page.read_bytes(), file, io.BytesIO(page.read_bytes()), rgb, Image.open(page)]
        found = [detector.detect(source) for source in sources]
    found.append(detector.detect(np.ascontiguousarray(rgb[:, :, ::-1]), channels="bgr"))
    found.append(detector.detect(rgb[:, :, ::-1], channels="bgr"))  # a view that goes backwards
    for detection in found:
        assert detection.boxes == expected.boxes
        assert (detection.width, detection.height, detection.input_size, detection.flags) == (
            expected.width,
            expected.height,
            expected.input_size,
            expected.flags,
        )


def test_gray_is_the_gray_file(tmp_path: Path) -> None:
    gray = np.random.default_rng(2).integers(0, 255, (400, 300), dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    from_file = open_page(tmp_path / "gray.png", limit_side=150)
    from_array = picture_page(gray, limit_side=150)
    assert np.array_equal(from_file.pixels, from_array.pixels)
    assert (from_array.width, from_array.height, from_array.flags) == (300, 400, ("downscaled",))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_pil_image_is_turned_upright_once(tmp_path: Path, orientation: int, suffix: str) -> None:
    drawn = Image.new("RGB", (200, 100), "black")
    drawn.paste("white", (0, 0, 60, 40))
    path = save_oriented(drawn, orientation, tmp_path / f"page{suffix}")
    opened = picture_page(Image.open(path), limit_side=640)
    assert (opened.width, opened.height) == (200, 100)
    assert opened.pixels[20, 30].min() > 200 and opened.pixels[80, 150].max() < 50


@pytest.mark.slow
def test_large_files_come_from_memory_too(tmp_path: Path, tiny_model: Path) -> None:
    """Over 2 megapixels libvips reads, with or without a descriptor; tiles read it in strips, twice."""
    pixels = np.zeros((1700, 2000, 3), np.uint8)
    pixels[600:720, 300:1500] = 255
    Image.fromarray(pixels).save(tmp_path / "large.tif", compression="tiff_lzw")
    detector = TextDetector(tiny_model, limit_side=2000, tiled=True)
    expected = detector.detect(tmp_path / "large.tif")
    assert "tiled" in expected.flags and expected.boxes
    content = (tmp_path / "large.tif").read_bytes()
    assert detector.detect(content).boxes == expected.boxes
    with (tmp_path / "large.tif").open("rb") as file:
        assert detector.detect(file).boxes == expected.boxes
        assert detector.detect(file).boxes == expected.boxes  # and it can be given again
    with zipfile.ZipFile(tmp_path / "pages.zip", "w") as archive:
        archive.writestr("large.tif", content)
    with zipfile.ZipFile(tmp_path / "pages.zip") as archive, archive.open("large.tif") as member:
        assert detector.detect(member).boxes == expected.boxes
    # A GzipFile has a descriptor, of other bytes than it gives.
    with gzip.open(tmp_path / "large.gz", "wb") as packed:
        packed.write(content)
    with gzip.open(tmp_path / "large.gz") as unpacked:
        assert detector.detect(unpacked).boxes == expected.boxes


@pytest.mark.slow
def test_what_lies_before_the_position_of_a_file_object_is_not_read(page: Path) -> None:
    file = io.BytesIO(b"before" + page.read_bytes())
    file.seek(6)
    assert open_page(file, limit_side=100).width == 1300
    assert count_pages(page.read_bytes()) == 1
    assert page_header(io.BytesIO(page.read_bytes())).width == 1300


@pytest.mark.slow
def test_what_cannot_be_taken_is_said_in_one_line(page: Path, tiny_model: Path) -> None:
    detector = TextDetector(tiny_model)
    for shape in ((10, 10, 4), (10, 10, 1), (10,), (2, 10, 10, 3), (0, 10, 3)):
        with pytest.raises(UnsupportedFormat, match=r"give \(H, W, 3\) or \(H, W\) of uint8"):
            detector.detect(np.zeros(shape, np.uint8))
    with pytest.raises(UnsupportedFormat, match="float32"):
        detector.detect(np.zeros((10, 10, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(UnsupportedFormat, match="'cmyk'"):
        detector.detect(np.zeros((10, 10, 3), np.uint8), channels="cmyk")  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="has one page"):
        detector.detect(np.zeros((10, 10, 3), np.uint8), 1)
    with pytest.raises(TooLarge, match=r"20x10 is more than 100 pixels"):
        picture_page(np.zeros((10, 20), np.uint8), limit_side=64, max_pixels=100)
    with pytest.raises(CorruptImage, match=r"^7 bytes: |damaged|header"):
        detector.detect(b"\x89PNG\r\n\x1a\n123")
    with pytest.raises(CorruptImage, match=r"page\.png.*cannot be read as RGB"):
        half = page.with_name("half-page.png")
        half.write_bytes(page.read_bytes()[:20000])
        detector.detect(Image.open(half))
