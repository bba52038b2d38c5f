"""A machine without pyvips (it has no wheels): pages are held whole, and what is too large for that is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage, TooLarge
from detector.images import vips
from detector.images.budget import VIPS_FROM_PIXELS, has_vips
from detector.images.page import open_page, open_strips
from tests.detector.images.test_strips import soft_picture

WIDTH, HEIGHT = 1800, 1300
SAVED = {
    "page.png": {"compress_level": 1},
    "page.tif": {"compression": "tiff_lzw"},
    "fax.tif": {"compression": "group4"},
    "page.webp": {"quality": 90, "method": 0},
    "clear.webp": {"quality": 90, "method": 0},
    "page.jpg": {"quality": 95},
    "progressive.jpg": {"quality": 95, "progressive": True},
}


def picture(name: str) -> Image.Image:
    whole = soft_picture(WIDTH, HEIGHT)
    return whole.convert("1") if name == "fax.tif" else whole.convert("RGBA") if name == "clear.webp" else whole


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if it had never been installed."""
    assert WIDTH * HEIGHT > VIPS_FROM_PIXELS
    monkeypatch.setitem(sys.modules, "pyvips", None)
    vips.libvips.cache_clear()  # whoever still asks for it gets an ImportError
    has_vips.cache_clear()
    yield
    vips.libvips.cache_clear()
    has_vips.cache_clear()


@pytest.mark.parametrize("name", SAVED)
def test_every_format_is_read_another_way(name: str, tmp_path: Path) -> None:
    picture(name).save(tmp_path / name, **SAVED[name])
    before = open_page(tmp_path / name, limit_side=640)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "pyvips", None)
        vips.libvips.cache_clear()
        has_vips.cache_clear()
        after = open_page(tmp_path / name, limit_side=640)
        with open_strips(tmp_path / name, limit_side=640) as strips:
            assert strips is None
    vips.libvips.cache_clear()
    has_vips.cache_clear()
    assert (after.width, after.height, after.flags) == (before.width, before.height, before.flags)
    assert after.pixels.shape == before.pixels.shape
    apart = np.abs(after.pixels.astype(int) - before.pixels.astype(int))
    assert apart.mean() < 4, "the same picture, shrunk in other steps"


@pytest.mark.slow
def test_too_large_to_be_held_whole_is_refused_in_one_line(nothing: None, tmp_path: Path) -> None:
    Image.new("RGB", (9000, 8000), "white").save(tmp_path / "large.png", compress_level=1)
    with pytest.raises(TooLarge) as refused:
        open_page(tmp_path / "large.png", limit_side=640, max_bytes=128 << 20)
    assert "large.png" in str(refused.value) and "\n" not in str(refused.value)


def test_a_cut_jpeg_is_still_found_out(nothing: None, tmp_path: Path) -> None:
    soft_picture(WIDTH, HEIGHT).save(tmp_path / "cut.jpg", quality=95)
    data = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    with pytest.raises(CorruptImage):
        open_page(tmp_path / "cut.jpg", limit_side=640)
    (tmp_path / "cut.tif").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(CorruptImage):
        open_page(tmp_path / "cut.tif", limit_side=640)


def test_a_command_says_nothing_of_it(tmp_path: Path) -> None:
    """A process of its own, in which pyvips cannot be imported from the start."""
    soft_picture(WIDTH, HEIGHT).save(tmp_path / "a.png")
    program = "import sys; sys.modules['pyvips'] = None; from detector.cli import main; sys.exit(main())"
    told = subprocess.run([sys.executable, "-c", program, "detect", tmp_path / "a.png"], capture_output=True, text=True)
    assert told.returncode == 0 and '"status": "ok"' in told.stdout, told.stderr
    assert "Traceback" not in told.stderr
