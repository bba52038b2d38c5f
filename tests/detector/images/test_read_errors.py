"""An error of the disk or the network is no damage of a picture, and no page that met one is "ok"."""

from __future__ import annotations

import errno
import io
import json
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
from PIL import Image

from detector.errors import ReadFailed
from detector.images.count_pages import serve
from detector.images.decoders.remarked import decode_leniently, decode_strictly, readable_rows
from detector.images.header import read_header
from detector.images.page import open_page
from detector.images.source import opened
from detector.images.vips import decode_vips
from tests.broken_disk import Break, breaks

__all__ = ["breaks"]


def a_report(path: Path) -> Path:
    """A PDF of two pages of text, 100 KB of pictures between their data."""
    text = [b"BT /F1 11 Tf 60 700 Td " + b"(page %d) Tj " % page * 30 + b"ET" for page in (1, 2)]
    packed = [zlib.compress(one) for one in text]
    noise = np.random.default_rng(1).bytes(100_000)
    objects = {
        1: b"<</Type/Catalog/Pages 2 0 R>>",
        2: b"<</Type/Pages/Kids[3 0 R 4 0 R]/Count 2>>",
        3: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 6 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        4: b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 8 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
        5: b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        **{
            number: b"<</Length %d%s>>stream\n%s\nendstream" % (len(data), how, data)
            for number, how, data in (
                (6, b"/Filter/FlateDecode", packed[0]),
                (7, b"", noise),
                (8, b"/Filter/FlateDecode", packed[1]),
                (9, b"", noise),
            )
        },
    }
    out, places = b"%PDF-1.4\n", []
    for number in (1, 2, 3, 4, 5, 7, 6, 9, 8):
        places.append((number, len(out)))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, objects[number])
    table = b"".join(b"%010d 00000 n \n" % place for _, place in sorted(places))
    end = b"xref\n0 10\n0000000000 65535 f \n%strailer<</Size 10/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF"
    path.write_bytes(out + end % (table, len(out)))
    return path


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
@pytest.mark.parametrize("page", [0, 1])
def test_a_pdf_page_is_not_blank_for_it(page: int, error: int, tmp_path: Path, breaks: Break) -> None:
    report = a_report(tmp_path / "report.pdf")
    assert open_page(report, page, limit_side=800).pixels.min() < 100
    for times in (1, -1):
        breaks(60_000, times, error)
        with pytest.raises(ReadFailed, match=r"report\.pdf: cannot be read: told by the test") as caught:
            open_page(report, page, limit_side=800)
        assert caught.value.errno == error
    breaks(0, 0)
    assert open_page(report, page, limit_side=800).pixels.min() < 100


def test_any_read_of_a_pdf(tmp_path: Path, breaks: Break) -> None:
    report = a_report(tmp_path / "report.pdf")
    size = report.stat().st_size
    for begin in range(0, size, 4096):
        breaks(begin)
        with report.open("rb") as file, pytest.raises(ReadFailed):  # a file object of somebody else
            open_page(file, 1, limit_side=400)


def test_a_bad_sector_leaves_no_blank_page(tmp_path: Path, breaks: Break) -> None:
    """The ends of the file are whole, so that pdfium opens it: of 100 places 17 were a page that was blank."""
    report = a_report(tmp_path / "report.pdf")
    failed = 0
    for begin in range(8192, report.stat().st_size - 70_000, 4096):
        for times in (1, -1):
            breaks(begin, times, errno.EIO, 60_000)
            try:
                assert open_page(report, 0, limit_side=400).pixels.min() < 200
            except ReadFailed:
                failed += 1
    assert failed


def test_the_counting_process_says_so(tmp_path: Path, breaks: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.images.count_pages.limit_memory", lambda limit: None)  # of this process
    report = a_report(tmp_path / "report.pdf")
    answers = io.StringIO()
    for times in (1, 0):
        breaks(150_000, times)
        serve(io.StringIO(json.dumps({"path": str(report)})), answers)
    failed, counted = map(json.loads, answers.getvalue().splitlines())
    assert not failed["ok"] and "told by the test" in failed["error"]
    assert counted["ok"] and counted["pages"] == 2


NOISE = np.random.default_rng(1).integers(0, 255, (500, 700, 3), np.uint8)
KINDS: dict[str, dict[str, Any]] = {
    **{"a.jpg": {}, "p.jpg": {"progressive": True}, "a.png": {}, "a.webp": {"quality": 95}, "a.bmp": {}, "a.gif": {}},
    **{"a.jp2": {}, "a.ppm": {}, "a.tif": {}, "l.tif": {"compression": "tiff_lzw"}, "j.tif": {"compression": "jpeg"}},
}


@pytest.mark.parametrize("name", KINDS)
def test_no_picture_is_damaged_by_it(name: str, tmp_path: Path, breaks: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detector.images.decoders.jpeg._WHOLE_FILE_BYTES", 100_000)
    path = tmp_path / name
    Image.fromarray(NOISE).save(path, **KINDS[name])
    size = path.stat().st_size
    inside = (size // 8, size // 2, size - 1000) if path.suffix != ".tif" else ()  # whose data libvips reads by itself
    for begin in (0, *inside):
        for times in (1, -1):
            breaks(begin, times, errno.ESTALE)
            with pytest.raises(ReadFailed, match="told by the test"):
                open_page(path, limit_side=300)
    breaks(0, 0)
    assert not open_page(path, limit_side=300).share


@pytest.mark.parametrize("word", ["system", "unix"])
@pytest.mark.parametrize("decode", [decode_strictly, decode_leniently, readable_rows, partial(decode_vips, name="a")])
def test_what_libvips_reads_by_itself(
    decode: Callable[..., object], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.tif")

    def failing(*arguments: object, **options: object) -> None:
        raise pyvips.Error(f"unable to call TiffLoad\nsource: read error\n{word} error: Stale file handle\n")

    for module in ("vips", "decoders.remarked"):
        monkeypatch.setattr(f"detector.images.{module}.load", failing)
    with pytest.raises(ReadFailed, match="Stale file handle") as caught, opened(tmp_path / "a.tif") as (file, _):
        decode(file, read_header(file, "tiff", "a"), (700, 500))
    assert caught.value.errno == errno.ESTALE
