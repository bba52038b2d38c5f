"""Every way a picture can be stored, opened upright, small and in the right colours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import NotFound
from detector.images import budget as image_budget
from detector.images.page import Page, count_pages, open_page
from tests.detector.samples import asymmetric, encoded, exif_bytes, save_oriented


@pytest.fixture(params=["whole", "streamed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Small pictures through the decoder for small ones, then through the one for large ones."""
    if request.param == "streamed":
        monkeypatch.setattr(image_budget, "VIPS_FROM_PIXELS", 1)
    return str(request.param)


def difference(page: Page, expected: Image.Image) -> float:
    """Mean absolute difference of an opened page from what it should look like, 0 to 255."""
    assert page.pixels.dtype == np.uint8
    assert page.pixels.flags.c_contiguous
    reference = np.asarray(expected.convert("RGB"), np.float64)
    assert page.pixels.shape == reference.shape
    return float(np.abs(page.pixels - reference).mean())


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_exactly_once(tmp_path: Path, way: str, orientation: int, suffix: str) -> None:
    upright = asymmetric()
    path = save_oriented(upright, orientation, tmp_path / f"turned{suffix}")
    page = open_page(path, limit_side=640)
    assert (page.width, page.height) == upright.size
    assert difference(page, upright) < 4
    assert page.flags == (("exif_rotated",) if orientation != 1 else ())


@pytest.mark.parametrize("orientation", [1, 6, 7])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_and_shrinking_together(tmp_path: Path, way: str, orientation: int, suffix: str) -> None:
    upright = asymmetric(480, 320)
    page = open_page(save_oriented(upright, orientation, tmp_path / f"a{suffix}"), limit_side=60)
    assert page.pixels.shape == (40, 60, 3)
    assert (page.width, page.height) == (480, 320)
    assert "downscaled" in page.flags
    assert difference(page, upright.resize((60, 40), Image.Resampling.BOX)) < 6


def grey_ramp(top: int, dtype: type = np.uint16) -> np.ndarray:
    return np.tile(np.linspace(0, top, 64).astype(dtype), (32, 1))


RAMP8 = Image.fromarray(grey_ramp(255, np.uint8))
HALF_CLEAR = Image.merge("RGBA", [*asymmetric(64, 32).split(), Image.fromarray(grey_ramp(255, np.uint8))])
BLACK_UNDER_ALPHA = Image.merge("LA", [Image.new("L", (64, 32), 0), RAMP8])


def palette_with_hole() -> tuple[Image.Image, dict[str, object], Image.Image]:
    palette = Image.new("P", (64, 32), 1)
    palette.putpalette([0, 0, 0, 200, 40, 40, 40, 40, 200])
    palette.paste(0, (0, 0, 32, 32))
    expected = Image.new("RGB", (64, 32), (200, 40, 40))
    expected.paste((255, 255, 255), (0, 0, 32, 32))
    return palette, {"transparency": 0}, expected


def on_white(image: Image.Image) -> Image.Image:
    paper = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")


def colour_keyed() -> tuple[Image.Image, dict[str, object], Image.Image]:
    image = asymmetric(64, 32)
    expected = np.array(image)
    expected[(expected == (220, 30, 30)).all(axis=2)] = 255
    return image, {"transparency": (220, 30, 30)}, Image.fromarray(expected)


MODES: dict[str, Callable[[], tuple[Image.Image, dict[str, object], Image.Image]]] = {
    "grey.jpg": lambda: (RAMP8, {"quality": 95}, RAMP8),
    "grey.png": lambda: (RAMP8, {}, RAMP8),
    "grey.tif": lambda: (RAMP8, {}, RAMP8),
    "sixteen.png": lambda: (Image.fromarray(grey_ramp(65535)), {}, RAMP8),
    "sixteen.tif": lambda: (Image.fromarray(grey_ramp(65535)), {}, RAMP8),
    "twelve-in-sixteen.png": lambda: (Image.fromarray(grey_ramp(4095)), {}, RAMP8),
    "float.tif": lambda: (Image.fromarray(grey_ramp(1000, np.float32)), {}, RAMP8),
    "alpha.png": lambda: (HALF_CLEAR, {}, on_white(HALF_CLEAR)),
    "alpha.webp": lambda: (HALF_CLEAR, {"lossless": True, "exact": True}, on_white(HALF_CLEAR)),
    "alpha.tif": lambda: (HALF_CLEAR, {}, on_white(HALF_CLEAR)),
    "grey-alpha.png": lambda: (BLACK_UNDER_ALPHA, {}, on_white(BLACK_UNDER_ALPHA)),
    "palette.png": lambda: (asymmetric(64, 32).convert("P"), {}, asymmetric(64, 32).convert("P")),
    "palette.tif": lambda: (asymmetric(64, 32).convert("P"), {}, asymmetric(64, 32).convert("P")),
    "palette-hole.png": palette_with_hole,
    "palette-hole.gif": palette_with_hole,
    "colour-key.png": colour_keyed,
    "bilevel.png": lambda: (RAMP8.convert("1"), {}, RAMP8.convert("1")),
    "fax.tif": lambda: (RAMP8.convert("1"), {"compression": "group4"}, RAMP8.convert("1")),
    "lzw.tif": lambda: (asymmetric(64, 32), {"compression": "tiff_lzw"}, asymmetric(64, 32)),
    "bitmap.bmp": lambda: (asymmetric(64, 32), {}, asymmetric(64, 32)),
    "portable.ppm": lambda: (asymmetric(64, 32), {}, asymmetric(64, 32)),
    "two-thousand.jp2": lambda: (asymmetric(64, 32), {}, asymmetric(64, 32)),
    "new.avif": lambda: (asymmetric(64, 32), {"quality": 95}, asymmetric(64, 32)),
}


@pytest.mark.parametrize("name", MODES)
def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path, way: str, name: str) -> None:
    image, options, expected = MODES[name]()
    path = tmp_path / name
    image.save(path, **options)
    page = open_page(path, limit_side=640)
    assert difference(page, expected) < 5
    assert page.flags == ()


@pytest.mark.parametrize("name", ["ink.jpg", "ink.tif"])
def test_cmyk_is_not_shown_as_its_negative(tmp_path: Path, name: str) -> None:
    # Pillow writes CMYK JPEGs as Adobe does: inverted, with an APP14 marker that says so.
    upright = asymmetric(64, 32)
    path = tmp_path / name
    upright.convert("CMYK").save(path, quality=95)
    if name.endswith("jpg"):
        assert b"Adobe" in path.read_bytes()
    page = open_page(path, limit_side=640)
    # libvips converts by a profile of real ink, which is darker; hues and the white patch must survive either way.
    assert difference(page, upright) < 45
    assert page.pixels[6, 10].min() > 240
    assert page.pixels[4, 1].argmax() == 0
    assert page.pixels[28, 60].argmax() == 2


def test_sixteen_bit_colour_keeps_its_upper_bits(tmp_path: Path, way: str) -> None:
    import cv2

    deep = np.asarray(asymmetric(64, 32), np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep[:, :, ::-1])
    assert difference(open_page(tmp_path / "deep.png", limit_side=640), asymmetric(64, 32)) < 1


def test_interlaced_png(tmp_path: Path, way: str) -> None:
    import pyvips

    pyvips.Image.new_from_array(np.asarray(asymmetric())).pngsave(str(tmp_path / "woven.png"), interlace=True)
    assert difference(open_page(tmp_path / "woven.png", limit_side=640), asymmetric()) < 1


@pytest.mark.parametrize("name", ["frames.gif", "frames.webp"])
def test_of_an_animation_the_first_frame_counts(tmp_path: Path, way: str, name: str) -> None:
    first, second = asymmetric(64, 32), Image.new("RGB", (64, 32), "black")
    first.save(tmp_path / name, save_all=True, append_images=[second], duration=100)
    assert difference(open_page(tmp_path / name, limit_side=640), first) < 12
    assert count_pages(tmp_path / name) == 1
    with pytest.raises(NotFound, match="one page"):
        open_page(tmp_path / name, 1, limit_side=640)


def test_a_jpeg_with_previews_is_one_page(tmp_path: Path) -> None:
    first = asymmetric()
    first.save(tmp_path / "phone.jpg", "MPO", save_all=True, append_images=[first.resize((60, 40))], quality=95)
    assert count_pages(tmp_path / "phone.jpg") == 1
    assert difference(open_page(tmp_path / "phone.jpg", limit_side=640), first) < 4


def test_large_jpeg_files_take_the_way_that_reads_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_oriented(asymmetric(960, 640), 6, tmp_path / "a.jpg")
    at_once = open_page(path, limit_side=120)
    monkeypatch.setattr("detector.images.decoders.jpeg._WHOLE_FILE_BYTES", 100)
    in_pieces = open_page(path, limit_side=120)
    assert np.abs(at_once.pixels.astype(int) - in_pieces.pixels).mean() < 2
    assert (at_once.width, at_once.height, at_once.flags) == (in_pieces.width, in_pieces.height, in_pieces.flags)


def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    for number, exif in enumerate([b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", exif_bytes(6)[:14], exif_bytes(99)]):
        path = tmp_path / f"{number}.jpg"
        asymmetric().save(path, exif=exif, quality=95)
        page = open_page(path, limit_side=640)
        assert difference(page, asymmetric()) < 4
        assert page.flags == ()


def test_one_pixel(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (10, 20, 30)).save(tmp_path / "dot.png")
    page = open_page(tmp_path / "dot.png", limit_side=640)
    assert page.pixels.tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize("raw", [b"caf\xe9.jpg", "文字 #1.jpg".encode(), b"two\nlines.jpg", b"-o.jpg"])
def test_any_file_name(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / os.fsdecode(raw)
    path.write_bytes(encoded(asymmetric(), "JPEG"))
    assert open_page(path, limit_side=640).width == 120


def test_tiff_pages_have_their_own_size_and_orientation(tmp_path: Path) -> None:
    path = tmp_path / "book.tif"
    pages = [asymmetric(120, 80), Image.new("L", (50, 70), 128), asymmetric(90, 60)]
    pages[0].save(path, save_all=True, append_images=pages[1:])
    assert count_pages(path) == 3
    sizes = [(p.width, p.height) for p in (open_page(path, n, limit_side=640) for n in range(3))]
    assert sizes == [page.size for page in pages]
    assert difference(open_page(path, 2, limit_side=640), pages[2]) < 1
    with pytest.raises(NotFound, match="has 3 pages, page 3"):
        open_page(path, 3, limit_side=640)
