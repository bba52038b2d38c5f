"""A HEIC with zeros in the place of data (a download that was cut off) is damaged; its decoder paints over that."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from detector.errors import CorruptImage
from detector.images.decoders.heif_boxes import HOLE, share_before_holes
from detector.images.page import open_page
from tests.detector.samples import noise

pytestmark = pytest.mark.slow

pillow_heif = pytest.importorskip("pillow_heif")


def heic(*pictures: Image.Image, **options: object) -> bytes:
    file = pillow_heif.from_pillow(pictures[0])
    for picture in pictures[1:]:
        file.add_from_pillow(picture)
    buffer = BytesIO()
    file.save(buffer, **options)
    return buffer.getvalue()


def holed(data: bytes, begin: float, end: float) -> bytes:
    """Zeros over a part of the media data, in shares of it."""
    start = data.index(b"mdat") + 4
    first, last = (start + round(share * (len(data) - start)) for share in (begin, end))
    return data[:first] + bytes(last - first) + data[last:]


@pytest.mark.parametrize(("begin", "end"), [(0.3, 1.0), (0.6, 1.0), (0.3, 0.4), (0.85, 0.855)])
def test_hole(tmp_path: Path, begin: float, end: float) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(holed(heic(noise(160, 120)), begin, end))
    with pytest.raises(CorruptImage, match="of its rows can be read; zeros in the place of its data"):
        open_page(path, limit_side=160)


def test_a_hole_near_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(holed(heic(noise(160, 120)), 0.95, 1.0))
    page = open_page(path, limit_side=160)
    assert page.flags == ("damaged",) and page.share == pytest.approx(0.95, abs=0.02)


def test_tiles_that_are_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As phones save them. Before: `ok` without a flag, and the tiles that are not there were dark."""
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 64)
    data, path = heic(noise(256, 256)), tmp_path / "a.heic"
    path.write_bytes(data)
    assert (
        pillow_heif.open_heif(path).info["tiling"]["num_columns"] == 4 and open_page(path, limit_side=256).flags == ()
    )
    for kept, share in ((0.97, 15 / 16), (0.5, None)):
        path.write_bytes(data[: round(len(data) * kept)])
        if share:
            page = open_page(path, limit_side=256)
            assert page.flags == ("damaged",) and page.share == pytest.approx(share, abs=0.01)
        else:
            with pytest.raises(CorruptImage, match="of its rows can be read"):
                open_page(path, limit_side=256)


@pytest.mark.parametrize("turned", [None, 3, 5, 8])
def test_tiles_that_cannot_be_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turned: int | None) -> None:
    """Whatever the junk is in them. Before: `ok` without a flag, and they were dark."""
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 128)
    exif = Image.Exif()
    exif[0x112] = turned or 1
    data, path = heic(noise(450, 330), exif=exif.tobytes()), tmp_path / "a.heic"
    path.write_bytes(data)
    assert "damaged" not in open_page(path, limit_side=450).flags
    start = data.index(b"mdat") + 4
    first, last = (start + round(share * (len(data) - start)) for share in (0.3, 0.7))
    path.write_bytes(data[:first] + b"\xf6" * (last - first) + data[last:])
    with pytest.raises(CorruptImage, match="rows can be read; tiles of it are spoilt"):
        open_page(path, limit_side=450)


@pytest.mark.parametrize("colour", [(0, 136, 0), (0, 0, 0)])
def test_tiles_that_are_dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: tuple[int, int, int]) -> None:
    """As those are that were not decoded; but their data are few bytes."""
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 128)
    picture = noise(450, 330)
    picture.paste(colour, (100, 0, 450, 330))
    (tmp_path / "a.heic").write_bytes(heic(picture))
    assert open_page(tmp_path / "a.heic", limit_side=450).flags == ()


def test_transparency_goes_on_white(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: black lettering on nothing was a black page, `ok` and `blank`."""
    picture = Image.new("RGBA", (256, 192), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (64, 64, 128, 128))
    for side in (64, 512):  # in tiles, and whole
        monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", side)
        (tmp_path / "a.heic").write_bytes(heic(picture, quality=95))
        page = open_page(tmp_path / "a.heic", limit_side=256)
        assert page.pixels[96, 96].max() < 9 and page.pixels[20, 20].min() > 246, side


def test_of_several_the_primary_counts() -> None:
    """Its data lie behind the other's."""
    data = heic(noise(160, 120), noise(160, 120, seed=1), primary_index=1)
    assert share_before_holes(BytesIO(holed(data, 0.1, 0.3))) == 1.0
    assert share_before_holes(BytesIO(holed(data, 0.6, 0.8))) < 0.5


@pytest.mark.parametrize("quality", [5, 95])
def test_sound_ones_have_none(quality: int) -> None:
    """An even picture, whose data compress to nothing, and one with a long description of zeros."""
    for picture in (noise(160, 120), Image.new("RGB", (256, 256), "white"), Image.new("RGB", (64, 64))):
        data = heic(picture, quality=quality, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(200))
        assert HOLE in data and share_before_holes(BytesIO(data)) == 1.0


def test_nonsense_is_left_to_the_library() -> None:
    data = heic(noise(60, 40))
    for length in range(0, len(data), 7):
        assert 0.0 <= share_before_holes(BytesIO(data[:length])) <= 1.0
    for place in range(0, data.index(b"mdat"), 3):
        assert 0.0 <= share_before_holes(BytesIO(data[:place] + b"\xff" + data[place + 1 :])) <= 1.0
