"""A scan of layers, whose letters are the mask of a picture of one colour: a mask that is damaged is no "ok"."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import CorruptImage
from detector.images.decoders import pdf_masks
from tests.detector.images.test_pdf_pictures import BESIDE, SIDE, TEXT, WHOLE, jpeg, jpeg2000, opened, picture, stream
from tests.producer.sources.test_page_bounds import written_pdf

pytestmark = pytest.mark.slow

LETTERS = 255 - TEXT
PACKED = zlib.compress(LETTERS.tobytes())
JPEG = jpeg(LETTERS)
JPEG_2000 = jpeg2000(LETTERS)
LAYERS = b"q 600 0 0 600 0 0 cm /B Do Q " + WHOLE
ONE_BIT = b"/ImageMask true/BitsPerComponent 1/Decode[0 1]"


def fax(pixels: np.ndarray) -> bytes:
    """The data of its strip, ITU-T T.6."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("1").save(buffer, "TIFF", compression="group4", tiffinfo={278: SIDE})
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        begin, count = image.tag_v2[273][0], image.tag_v2[279][0]  # type: ignore[attr-defined]
    return buffer.getvalue()[begin : begin + count]


def fax_mask(data: bytes) -> bytes:
    parameters = b"/DecodeParms<</K -1/Columns %d/Rows %d>>" % (SIDE, SIDE)
    return picture(data, b"/CCITTFaxDecode" + parameters, ONE_BIT)


DAMAGED = {
    "flate cut off": picture(PACKED[: len(PACKED) // 10], b"/FlateDecode"),
    "no flate": picture(b"x\x9c" + b"\xff" * 50, b"/FlateDecode"),
    "no data": picture(b"", b"/FlateDecode"),
    "unknown filter": picture(PACKED, b"/NoSuchDecode"),
    "JPEG cut off": picture(JPEG[: len(JPEG) // 10], b"/DCTDecode"),
    "empty JPEG": picture(b"", b"/DCTDecode"),
    "JPEG 2000 cut off": picture(JPEG_2000[:100], b"/JPXDecode"),
    "no fax": fax_mask(b""),
}
SOUND = {
    "flate": picture(PACKED, b"/FlateDecode"),
    "JPEG": picture(JPEG, b"/DCTDecode"),
    "JPEG 2000": picture(JPEG_2000, b"/JPXDecode"),
    "fax": fax_mask(fax(LETTERS)),
    "raw": picture(LETTERS.tobytes(), b""),
    "of nothing": picture(zlib.compress(bytes(SIDE * SIDE)), b"/FlateDecode"),
    "of everything": picture(zlib.compress(bytes([255]) * SIDE * SIDE), b"/FlateDecode"),
    "empty JPEG of nothing": picture(jpeg(np.zeros((SIDE, SIDE), np.uint8)), b"/DCTDecode"),
    "one bit": picture(zlib.compress(np.packbits(TEXT < 128, axis=1).tobytes()), b"/FlateDecode", ONE_BIT),
    "with white space that pypdf does not know": picture(PACKED, b"\0/FlateDecode\0"),
}


def layers(mask: bytes, contents: bytes = LAYERS, entry: bytes = b"SMask") -> bytes:
    """A page of a background and of a picture of one colour through a mask; /Form is that picture in a form."""
    even = [jpeg(np.full((50, 50), level, np.uint8)) for level in (245, 20)]
    grey = b"/ColorSpace/DeviceGray/BitsPerComponent 8"
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 600 600]/Resources<</XObject<</I 5 0 R>>>>"
    return written_pdf(
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1/Resources 9 0 R>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 600]/Contents 4 0 R>>",
        stream(contents),
        picture(even[1], b"/DCTDecode", grey + b"/%s 6 0 R" % entry, side=50),
        mask,
        picture(even[0], b"/DCTDecode", grey, side=50),
        stream(WHOLE, form),
        b"<</XObject<</I 5 0 R/B 7 0 R/Form 8 0 R>>/Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>",
    )


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(tmp_path: Path, name: str) -> None:
    entry = b"Mask" if b"ImageMask" in DAMAGED[name] else b"SMask"
    for contents in (WHOLE, LAYERS):
        with pytest.raises(CorruptImage, match="the mask of a picture of 50x50 on it"):
            opened(tmp_path, layers(DAMAGED[name], contents, entry))


def test_damaged_in_a_form_beside_text(tmp_path: Path) -> None:
    page = opened(tmp_path, layers(DAMAGED["flate cut off"], BESIDE + b"q .5 0 0 .5 300 300 cm /Form Do Q"))
    assert page.share == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("name", SOUND)
def test_sound(tmp_path: Path, name: str) -> None:
    entry = b"Mask" if b"ImageMask" in SOUND[name] else b"SMask"
    assert opened(tmp_path, layers(SOUND[name], entry=entry)).share is None
    upper_half = b"q 600 0 0 300 0 300 cm /I Do Q"
    assert opened(tmp_path, layers(SOUND[name], upper_half, entry)).share is None


def test_a_mask_that_is_not_seen(tmp_path: Path) -> None:
    assert opened(tmp_path, layers(DAMAGED["unknown filter"], WHOLE + b" 1 g 0 0 1 1 re f")).share is None


def test_files_that_are_not_taken_apart() -> None:
    file = io.BytesIO(layers(SOUND["flate"]))
    assert len(pdf_masks.masks_on(file, 0, 1 << 20)) == 1
    assert not pdf_masks.masks_on(file, 0, 1000)
    assert not pdf_masks.masks_on(file, 1, 1 << 20)
    assert not pdf_masks.masks_on(io.BytesIO(layers(SOUND["flate"], entry=b"Other")), 0, 1 << 20)
