"""A PDF's picture whose data are cut off is told of, whatever lies on the edges of its place."""

from __future__ import annotations

import base64
import zlib
from pathlib import Path

import numpy as np
import pytest

from detector.errors import CorruptImage
from detector.images.decoders import pdf_data
from detector.images.decoders.places import MOSTLY, has_even_edge, is_framed
from detector.images.page import Page
from tests.detector.images import test_pdf_pictures as pictures
from tests.detector.images.test_pdf_pictures import BESIDE, TEXT, WHOLE, jpeg, jpeg2000

pytestmark = pytest.mark.slow

SIDE = 200
GRAIN = (TEXT[::4, ::4] // 2 + np.random.default_rng(0).integers(0, 120, (SIDE, SIDE))).astype(np.uint8)
"""(H, W) uint8: a scan, of one colour nowhere."""

OF_TWO_INKS = pictures.stream(b"{add 2 div}", b"/FunctionType 4/Domain[0 1 0 1]/Range[0 1]")
JPEG, PROGRESSIVE, JPEG2000 = jpeg(GRAIN), jpeg(GRAIN, progressive=True), jpeg2000(GRAIN)
PACKED = zlib.compress(GRAIN.tobytes(), 1)

SPOILT = zlib.compress(GRAIN.tobytes() + bytes(SIDE * 3))[:-4] + b"sums"
"""As a bad stretch leaves them: too few or too many bytes come out, and the check sum is wrong."""

BITS = b"/ColorSpace/DeviceGray/BitsPerComponent %d"
COLOUR = b"/ColorSpace/DeviceRGB/BitsPerComponent 8"


def picture(data: bytes, filters: bytes, *colours: bytes, side: int = SIDE) -> bytes:
    return pictures.picture(data, filters, *colours, side=side)


def opened(tmp_path: Path, shown: bytes, contents: bytes = WHOLE) -> Page:
    """Of a small page: it is quick to draw."""
    page = pictures.document(shown, b".2 0 0 .2 0 0 cm " + contents, OF_TWO_INKS)
    return pictures.opened(tmp_path, page.replace(b"[0 0 600 600]", b"[0 0 120 120]"))


def flate(data: bytes) -> bytes:
    return zlib.compress(data, 1)


def run_lengths(data: bytes) -> bytes:
    return b"".join(b"\x7f" + data[begin : begin + 128] for begin in range(0, len(data), 128)) + b"\x80"


CUT = {
    "JPEG": picture(JPEG[: len(JPEG) // 3], b"/DCTDecode"),
    "progressive JPEG": picture(PROGRESSIVE[: len(PROGRESSIVE) // 3], b"/DCTDecode"),
    "JPEG in flate": picture(flate(JPEG[: len(JPEG) // 3]), b"[/FlateDecode/DCTDecode]"),
    "no JPEG": picture(b"\xff\xd8\xff", b"/DCTDecode"),
    "JPEG 2000": picture(JPEG2000[: len(JPEG2000) // 2], b"/JPXDecode"),
    "JPEG 2000 without its end mark": picture(JPEG2000[:-2], b"/JPXDecode"),  # pdfium draws nothing
    "flate": picture(PACKED[: len(PACKED) // 4], b"/FlateDecode"),
    "flate of a quarter": picture(flate(GRAIN.tobytes())[: len(PACKED) // 4 + 90], b"/FlateDecode"),
    "flate that ends": picture(flate(GRAIN[:70].tobytes()), b"/FlateDecode"),
    "flate of colours that ends": picture(flate(np.repeat(GRAIN[:70], 3).tobytes()), b"/FlateDecode", COLOUR),
    "flate with a bad stretch": picture(SPOILT, b"/FlateDecode"),
    "flate in ASCII 85": picture(base64.a85encode(PACKED[: len(PACKED) // 3]) + b"~>", b"[/ASCII85Decode/FlateDecode]"),
    "run lengths": picture(run_lengths(GRAIN[:100].tobytes()), b"/RunLengthDecode"),
    "raw": picture(GRAIN[:70].tobytes(), b""),
    "unknown filter": picture(PACKED, b"/NoSuchDecode"),
    "CCITT without a byte": picture(b"", b"/CCITTFaxDecode", BITS % 1),
    "JBIG2 without a byte": picture(b"", b"/JBIG2Decode", BITS % 1),
}
TURNED = b"q .9994 .035 -.035 .9994 10 -10 cm 600 0 0 600 0 0 cm /I Do Q "
ON_EDGES = {
    "a line": b" q 1 0 0 1 0 0 cm 0 g 100 4 400 1 re f Q",
    "a stamp": b" q .2 g 0 0 590 3 re f .7 g 0 3 500 20 re f 0 597 500 2 re f 2 20 7 500 re f 596 9 2 500 re f Q",
}
SOUND = {
    "JPEG without its end mark": picture(JPEG[:-2], b"/DCTDecode"),
    "progressive JPEG without its end mark": picture(PROGRESSIVE[:-2], b"/DCTDecode"),
    "padded JPEG": picture(JPEG + bytes(3000), b"/DCTDecode"),
    "padded JPEG 2000": picture(JPEG2000 + bytes(3000), b"/JPXDecode"),
    "flate without its check sum": picture(PACKED[:-4], b"/FlateDecode"),
    "flate and a row without its check sum": picture(flate(GRAIN.tobytes() + bytes(SIDE))[:-4], b"/FlateDecode"),
    "flate with a wrong check sum": picture(PACKED[:-4] + b"sums", b"/FlateDecode"),
    "flate and a line break": picture(flate(GRAIN.tobytes() + b"\r\n"), b"/FlateDecode"),
    "flate and a row": picture(flate(GRAIN.tobytes() + bytes(SIDE)), b"/FlateDecode"),
    "flate of more rows": picture(flate(GRAIN.tobytes() * 2), b"/FlateDecode"),
    "predicted": picture(
        flate(b"".join(b"\0" + row.tobytes() for row in GRAIN)),
        b"/FlateDecode/DecodeParms<</Predictor 15/Columns %d>>" % SIDE,
    ),
    "rows from bit to bit": picture(
        flate(np.packbits(GRAIN[:196, :196] > 90).tobytes()), b"/FlateDecode", BITS % 1, side=196
    ),
    "raw and a line break": picture(GRAIN.tobytes() + b"\n", b""),
    "run lengths": picture(run_lengths(GRAIN.tobytes()), b"/RunLengthDecode"),
    "run lengths of four bits": picture(run_lengths(GRAIN[:100].tobytes()), b"/RunLengthDecode", BITS % 4),
    **{
        f"{bits} bits{' and a line break' * len(more)}": picture(
            flate(GRAIN.tobytes()[: SIDE * SIDE * bits // 8] + more), b"/FlateDecode", BITS % bits
        )
        for bits in (1, 2, 4)
        for more in (b"", b"\n")
    },
    **{
        f"{bits} bits of {colours.decode()} and a line break": picture(
            flate((GRAIN.tobytes() * 8)[: -(-SIDE * bits * channels // 8) * SIDE] + b"\n"),
            b"/FlateDecode",
            b"/ColorSpace/%s/BitsPerComponent %d" % (colours, bits),
        )
        for colours, channels in ((b"DeviceGray", 1), (b"DeviceRGB", 3), (b"DeviceCMYK", 4))
        for bits in (2, 16)
    },
    "two inks": picture(
        flate(GRAIN.tobytes() * 2),
        b"/FlateDecode",
        b"/ColorSpace[/DeviceN[/A/B]/DeviceGray 6 0 R]/BitsPerComponent 8",
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_whatever_lies_on_the_edges(tmp_path: Path, name: str) -> None:
    for over in ON_EDGES.values():
        with pytest.raises(CorruptImage, match=r"a picture of \d+x\d+ on it \(.*\) is damaged"):
            opened(tmp_path, CUT[name], b"q " + WHOLE + b" Q" + over)
    with pytest.raises(CorruptImage):
        opened(tmp_path, CUT[name], TURNED)
    number = b"q " + WHOLE + b" Q 1 0 0 rg " + BESIDE.replace(b"40 40", b"300 2")
    share = opened(tmp_path, CUT[name], number).share
    assert share is not None and share < 0.9


@pytest.mark.parametrize("name", SOUND)
def test_sound(tmp_path: Path, name: str) -> None:
    for contents in (WHOLE, TURNED):
        page = opened(tmp_path, SOUND[name], contents)
        assert "damaged" not in page.flags and page.share is None


def test_no_more_than_so_many_bytes_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond them is judged by its edges: a line across is less than a tenth of one."""
    asked: list[int] = []
    real = pdf_data.unpacked

    def counted(data: memoryview, most: int = pdf_data.MOST_UNPACKED) -> tuple[int, bool]:
        asked.append(most)
        return real(data, most)

    monkeypatch.setattr(pdf_data, "unpacked", counted)
    monkeypatch.setattr(pdf_data, "MOST_ASKED", 60_000)
    halves = b"q 600 0 0 300 0 0 cm /I Do Q q 600 0 0 300 0 300 cm /I Do Q q 600 0 0 90 0 0 cm /I Do Q"
    assert opened(tmp_path, picture(PACKED, b"/FlateDecode"), halves).share is None
    assert asked == [60_000], "40,000 bytes, and as much is not left for another"
    monkeypatch.setattr(pdf_data, "MOST_ASKED", 0)
    with pytest.raises(CorruptImage):
        opened(tmp_path, CUT["flate"], b"q " + WHOLE + b" Q" + ON_EDGES["a line"])


def test_edges_mostly_of_one_colour() -> None:
    place = np.full((400, 400, 3), 200, np.uint8)
    place[:, 180:210] = 0
    assert not has_even_edge(place[:, 170:], 0) and not is_framed(place)
    assert is_framed(place, share=MOSTLY) and is_framed(place, (200, 200, 200), MOSTLY)
    assert has_even_edge(place, 201, MOSTLY) and not has_even_edge(place, 200, MOSTLY)
    place[:, 120:210] = 0
    assert not is_framed(place, share=MOSTLY)
