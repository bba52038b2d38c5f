"""A PDF's page whose picture pdfium left out, or drew in part, is no blank page that is "ok"."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage, TooLarge
from detector.images.decoders import pdf_pictures
from detector.images.decoders.pdf_objects import stored
from detector.images.page import Page, open_page
from detector.images.pdf import PdfPage
from tests.producer.sources.test_page_bounds import written_pdf

SIDE = 800
WHOLE = b"600 0 0 600 0 0 cm /I Do"
BESIDE = b"BT /F 30 Tf 40 40 Td (TOTAL 777) Tj ET "
STAMPED = b"q " + WHOLE + b" Q 1 0 0 rg " + BESIDE
HIDDEN = b"BT 3 Tr /F 30 Tf 40 40 Td (TOTAL 777) Tj ET "


def text() -> np.ndarray:
    """(H, W) uint8: a scan with white margins."""
    pixels = np.full((SIDE, SIDE), 255, np.uint8)
    for line in range(7):
        cv2.putText(pixels, f"INVOICE {line * 777}", (80, 120 + 95 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.9, 0, 4)
    return pixels


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=60, **options)
    return buffer.getvalue()


def jpeg2000(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG2000")
    return buffer.getvalue()


def stream(data: bytes, entries: bytes = b"") -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream\n" % (entries, len(data), data)


def picture(
    data: bytes, filters: bytes, colours: bytes = b"/ColorSpace/DeviceGray/BitsPerComponent 8", side: int = SIDE
) -> bytes:
    size = b"/Type/XObject/Subtype/Image/Width %d/Height %d" % (side, side)
    return stream(data, size + colours + (b"/Filter" + filters if filters else b""))


def document(shown: bytes, contents: bytes = WHOLE, *more: bytes) -> bytes:
    font = b"/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
    page = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Contents 4 0 R/Resources<</XObject<</I 5 0 R>>%s>>>>" % font
    )
    tree = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    return written_pdf(b"<</Type/Catalog/Pages 2 0 R>>", tree, page, stream(contents), shown, *more)


def opened(tmp_path: Path, data: bytes, max_bytes: int = 200 << 20) -> Page:
    path = tmp_path / "a.pdf"
    path.write_bytes(data)
    return open_page(path, 0, limit_side=960, max_bytes=max_bytes)


TEXT = text()
FRAME = SIDE.to_bytes(2, "big") * 2  # height and width in a JPEG's frame header
TALL = jpeg(255 - TEXT).replace(FRAME, (2 * SIDE).to_bytes(2, "big") + SIDE.to_bytes(2, "big"), 1)
PACKED_BLACK = zlib.compress((255 - TEXT).tobytes())
JPEG, PACKED, BLANK = jpeg(TEXT), zlib.compress(TEXT.tobytes()), zlib.compress(bytes([255]) * SIDE * SIDE)
DAMAGED = {
    "JPEG cut off": picture(JPEG[: len(JPEG) // 10], b"/DCTDecode"),
    "JPEG without a head": picture(JPEG[300:], b"/DCTDecode"),
    "no JPEG": picture(b"junk" * 100, b"/DCTDecode"),
    "progressive JPEG cut off": picture(jpeg(TEXT, progressive=True)[:9000], b"/DCTDecode"),
    "JPEG in flate cut off": picture(zlib.compress(JPEG[: len(JPEG) // 3]), b"[/FlateDecode/DCTDecode]"),
    "flate cut off": picture(PACKED[: len(PACKED) // 10], b"/FlateDecode"),
    "no flate": picture(b"x" * 1000, b"/FlateDecode"),
    "flate in ASCII 85 cut off": picture(base64.a85encode(PACKED)[:4000] + b"~>", b"[/ASCII85Decode/FlateDecode]"),
    "flate in flate cut off": picture(zlib.compress(PACKED[:3000]), b"[/FlateDecode/FlateDecode]"),
    "hexadecimal cut off": picture(TEXT.tobytes().hex().encode()[:500_000] + b">", b"/ASCIIHexDecode"),
    "too few bytes": picture(TEXT[:300].tobytes(), b""),
    "no bytes": picture(b"", b""),
    "no bytes of flate": picture(b"", b"/FlateDecode"),
    "no JPEG 2000": picture(b"x" * 1000, b"/JPXDecode"),
    "unknown filter": picture(PACKED, b"/NoSuchDecode"),
    "flate of ink cut off": picture(
        zlib.compress(np.repeat((255 - TEXT)[..., None], 4, 2).tobytes())[:3000],
        b"/FlateDecode",
        b"/ColorSpace/DeviceCMYK/BitsPerComponent 8",
    ),
    "of another size": picture(
        jpeg(np.repeat(TEXT[..., None], 3, 2)), b"/DCTDecode", b"/ColorSpace/DeviceRGB/BitsPerComponent 8", side=65_000
    ),
}
OPEN = """
import sys
from detector.errors import ImageError
from detector.images.page import open_page
from detector.memory import limit_memory, resident_bytes
limit_memory(resident_bytes() + (30 << 20))
try:
    print(open_page(sys.argv[1], 0, limit_side=320, max_bytes=30 << 20).flags)
except ImageError as error:
    print(error.type, error)
"""
MASK = b"/ImageMask true/BitsPerComponent 1"
SOUND = {
    "JPEG": picture(JPEG, b"/DCTDecode"),
    "padded JPEG": picture(JPEG + bytes(3000), b"/DCTDecode"),
    "flate": picture(PACKED, b"/FlateDecode"),
    "flate without its check sum": picture(PACKED[:-4], b"/FlateDecode"),
    "flate of a wrong check sum": picture(PACKED_BLACK[:-4] + b"xxxx", b"/FlateDecode"),
    "one bit of a wrong check sum": picture(
        zlib.compress(bytes(SIDE // 8 * SIDE))[:-4] + b"xxxx",
        b"/FlateDecode",
        b"/ColorSpace/DeviceGray/BitsPerComponent 1",
    ),
    "JPEG that says more rows": picture(TALL, b"/DCTDecode"),
    "four bits": picture(
        zlib.compress(((TEXT[:, ::2] & 0xF0) | (TEXT[:, 1::2] >> 4)).tobytes()),
        b"/FlateDecode",
        b"/BitsPerComponent 4/ColorSpace[/Indexed/DeviceGray 15<%s>]" % bytes(range(0, 256, 17)).hex().encode(),
    ),
    "flate in ASCII 85": picture(base64.a85encode(PACKED_BLACK) + b"~>", b"[/ASCII85Decode/FlateDecode]"),
    "run lengths": picture(bytes([129, 0]) * (SIDE * SIDE // 128) + b"\x80", b"/RunLengthDecode"),
    "raw": picture(TEXT.tobytes(), b""),
    "JPEG 2000": picture(jpeg2000(TEXT), b"/JPXDecode"),
    "blank flate": picture(BLANK, b"/FlateDecode"),
    "blank JPEG": picture(jpeg(np.full((SIDE, SIDE), 255, np.uint8)), b"/DCTDecode"),
    "blank mask": picture(zlib.compress(bytes([255]) * (SIDE // 8 * SIDE)), b"/FlateDecode", MASK),
    "blank JPEG 2000": picture(jpeg2000(np.full((SIDE, SIDE), 255, np.uint8)), b"/JPXDecode"),
    "transparent": picture(JPEG, b"/DCTDecode", b"/ColorSpace/DeviceGray/BitsPerComponent 8/SMask 6 0 R"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(tmp_path: Path, name: str) -> None:
    with pytest.raises(CorruptImage, match=r"a picture of \d+x\d+ on it \(.*\) is damaged"):
        opened(tmp_path, document(DAMAGED[name]))
    with pytest.raises(CorruptImage):
        opened(tmp_path, document(DAMAGED[name], HIDDEN + WHOLE))
    beside = opened(tmp_path, document(DAMAGED[name], STAMPED))
    assert "damaged" in beside.flags, "what is printed on it is read"
    assert beside.share is not None and beside.share < 0.9


NOT_SEEN = {
    "spaces": b"BT/F 30 Tf 50 500 Td(    )Tj ET ",
    "white": b"BT/F 30 Tf 1 1 1 rg 50 500 Td(white)Tj ET 0 g ",
    "off the page": b"BT/F 30 Tf 700 500 Td(beside)Tj ET ",
    "clipped": b"q 0 0 10 10 re W n BT/F 30 Tf 50 500 Td(clipped)Tj ET Q ",
}


@pytest.mark.parametrize("name", NOT_SEEN)
def test_text_that_is_not_seen_is_nothing_to_read(tmp_path: Path, name: str) -> None:
    """Before: beside such text, which scanning programs leave, a scan that is missing wholly was "ok", damaged."""
    with pytest.raises(CorruptImage, match="is damaged"):
        opened(tmp_path, document(DAMAGED["no flate"], NOT_SEEN[name] + WHOLE))


@pytest.mark.parametrize("mode", [3, 7])
def test_text_that_is_not_drawn_is_nothing_to_read(tmp_path: Path, mode: int) -> None:
    """Invisible, or a clip to nothing: where a line is drawn. Before: a clip was text that is seen."""
    text = b"q BT %d Tr/F 30 Tf 50 500 Td(words)Tj ET Q q " % mode
    with pytest.raises(CorruptImage, match="is damaged"):
        opened(tmp_path, document(DAMAGED["no flate"], text + WHOLE + b" Q 1 g 50 510 200 2 re f"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("turn", [b"", b"0 1 -1 0 600 0 cm ", b".7 .7 -.7 .7 300 -100 cm "])
def test_sound(tmp_path: Path, name: str, turn: bytes) -> None:
    clear = picture(zlib.compress(bytes(SIDE * SIDE)), b"/FlateDecode")
    page = opened(tmp_path, document(SOUND[name], turn + WHOLE, clear))
    assert "damaged" not in page.flags and page.share is None


def test_in_strips_and_forms(tmp_path: Path) -> None:
    """A quarter of the page is lost, whatever lies around it."""
    whole = stream(WHOLE, b"/Type/XObject/Subtype/Form/BBox[0 0 600 600]/Resources<</XObject<</I 6 0 R>>>>")
    quarters = b"q .5 0 0 .5 0 0 cm /I Do Q q .5 0 0 .5 300 300 cm /I Do Q "
    page = document(whole, BESIDE + quarters, DAMAGED["no JPEG"])
    assert opened(tmp_path, page).share == pytest.approx(0.5, abs=0.01)
    assert opened(tmp_path, document(whole, BESIDE + quarters, SOUND["JPEG"])).share is None


@pytest.mark.parametrize(
    "before",
    [
        b"BT 3 Tr /F 6 Tf 20 20 Td (word) Tj ET ",
        b"1 g 20 20 1 1 re f ",
        b"q 3 0 0 3 9 9 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \xff EI Q ",
    ],
)
def test_behind_thousands_of_others(tmp_path: Path, before: bytes) -> None:
    """A scan's words come before it, and a dense page has over 5,000."""
    form = stream(WHOLE, b"/Type/XObject/Subtype/Form/BBox[0 0 600 600]/Resources<</XObject<</I 6 0 R>>>>")
    with pytest.raises(CorruptImage):
        opened(tmp_path, document(form, before * 6000 + b"/I Do", DAMAGED["no JPEG"]))


def test_a_small_loss_is_told(tmp_path: Path) -> None:
    page = opened(tmp_path, document(DAMAGED["no JPEG"], b"q 100 0 0 100 30 30 cm /I Do Q"))
    assert page.share == pytest.approx(1 - 1 / 36, abs=0.005)
    assert "damaged" in page.flags


@pytest.mark.parametrize("kind", ["progressive", "JPEG 2000"])
@pytest.mark.parametrize("text", [b"", HIDDEN])
def test_what_there_is_no_memory_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, text: bytes) -> None:
    """Where memory is short pdfium leaves such pictures out, as it does those that it cannot read."""
    monkeypatch.setattr(pdf_pictures, "_held_bytes", lambda data, name: 75 << 20)  # of an honest one of 5000 x 5000
    data, filters = (b"\xff\xd8junk", b"/DCTDecode") if kind == "progressive" else (b"x" * 1000, b"/JPXDecode")
    page = document(picture(data, filters, side=5000), text + WHOLE)
    room: list[int] = []
    (tmp_path / "a.pdf").write_bytes(page)
    with pytest.raises(TooLarge, match="OCRFLEET_MEMORY_LIMIT_MB"):
        open_page(tmp_path / "a.pdf", 0, limit_side=960, max_bytes=40 << 20, make_room=room.append)
    assert room[-1] > 70 << 20
    beside = opened(tmp_path, document(picture(data, filters, side=5000), STAMPED), 40 << 20)
    assert "damaged" in beside.flags


@pytest.mark.parametrize("kind", ["progressive", "JPEG 2000"])
def test_a_blank_page_that_was_drawn(tmp_path: Path, kind: str) -> None:
    """Whatever it is thought to need: what is white on any paper was drawn."""
    side = 1500
    blank = np.full((side, side), 255, np.uint8)
    data = jpeg(blank, progressive=True) if kind == "progressive" else jpeg2000(blank)
    filters = b"/DCTDecode" if kind == "progressive" else b"/JPXDecode"
    path = tmp_path / "a.pdf"
    path.write_bytes(document(picture(data, filters, side=side)))
    with path.open("rb") as file, PdfPage(file, 0, "a.pdf") as page:
        pixels = page.render((600, 600))
        assert not page.unread(pixels, 1 << 20).share


@pytest.mark.slow
def test_a_progressive_jpeg_without_memory_is_black(tmp_path: Path) -> None:
    """In a process of its own, with its limit: as a worker's child has it."""
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8).repeat(50, 0).repeat(50, 1)
    colours = b"/ColorSpace/DeviceRGB/BitsPerComponent 8"
    (tmp_path / "a.pdf").write_bytes(document(picture(jpeg(noise, progressive=True), b"/DCTDecode", colours, 6000)))
    done = subprocess.run([sys.executable, "-c", OPEN, tmp_path / "a.pdf"], capture_output=True, text=True, timeout=60)
    assert "TooLarge" in done.stdout and "needs about 102 MiB" in done.stdout, (done.stdout, done.stderr)


def test_large_jpegs_are_not_held_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one with grain at its edges, nor one that is more than a share of the memory."""
    taken: list[bool] = []

    def counted(*arguments: object, **options: object) -> memoryview | None:
        taken.append((data := stored(*arguments, **options)) is not None)  # type: ignore[arg-type]
        return data

    monkeypatch.setattr(pdf_pictures, "stored", counted)
    grain = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    path = tmp_path / "a.pdf"
    for pixels, max_bytes, expected in ((grain, 200 << 20, []), (TEXT, 100_000, [False]), (TEXT, 200 << 20, [True])):
        taken.clear()
        path.write_bytes(document(picture(jpeg(pixels), b"/DCTDecode")))
        with path.open("rb") as file, PdfPage(file, 0, "a.pdf") as page:
            assert not page.unread(page.render((600, 600)), max_bytes).share
        assert taken == expected
