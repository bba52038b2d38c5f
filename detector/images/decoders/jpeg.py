"""JPEG: scaled while it is decoded, and never grey or garbled rows called a success.

libjpeg paints what is missing in one colour, guesses what is spoilt, and calls both a success with a warning; OpenCV
and Pillow hide even that. So libvips, which can pass warnings on, decodes first; the pixels are the same (all three use
libjpeg-turbo), and the cost is 2 ms a page. What it warns of is decoded again by the others, and judged.
"""

from __future__ import annotations

import re
from io import BytesIO
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from detector.errors import CorruptImage
from detector.images.budget import has_vips
from detector.images.decode import decode_pillow, raise_if_out_of_memory
from detector.images.decoders.damage import Decoded, Pixels, refuse_unless_most
from detector.images.header import Header
from detector.images.sizes import jpeg_reduction

# OpenCV needs the whole file in memory, Pillow reads it in pieces; OpenCV is faster on small files only.
_WHOLE_FILE_BYTES = 4 * 2**20
# A file that lacks only its end is read whole up to this size, to be given one.
_MENDED_FILE_BYTES = 64 * 2**20
_HEAD_BYTES = 4 * 2**20  # looked at for the distance between restart markers, which stands at the end of the head
_END, _SCAN, _RESTARTS = b"\xff\xd9", b"\xff\xda", b"\xff\xdd\0\4"
_GREY = 128
_PREMATURE = "premature end"  # libjpeg's JWRN_HIT_MARKER
_DAMAGE = ("corrupt jpeg data", "inconsistent progression", _PREMATURE)  # other remarks are about odd headers
_TOO_MUCH = re.compile(r"(\d+) extraneous bytes before marker 0xd9")  # some cameras leave a few at the very end
_A_FEW = 100
_MANY_ROWS = 200  # libvips looks for warnings every 8 rows; of so many, the last ones are no loss
_MANY_EVEN = 0.1  # of all rows: looked at again, since a spoilt page may be black or white from somewhere on
_NEARLY = 2  # colours are rounded on their way from YCbCr, and the last rows smoothed
_LOOKED_AT = 32  # columns that must be grey before all are looked at
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def decode_jpeg(file: BinaryIO, header: Header, target: tuple[int, int], name: str) -> Decoded:
    """A JPEG, scaled by 1/2, 1/4 or 1/8 while it is decoded so that it stays no smaller than `target`.

    Args:
        file: the open file.
        header: its header.
        target: (width, height) in stored orientation, pixels.
        name: for messages.

    Raises:
        CorruptImage: too little of it can be read.
    """
    plain = header.channels in (1, 3)
    file.seek(0)
    data = file.read(_WHOLE_FILE_BYTES + 1)
    read = BytesIO(data) if len(data) <= _WHOLE_FILE_BYTES else file  # libvips dies of a read that fails
    sound, warning = _strictly(read, header, target) if plain else (None, "")
    warned = not is_harmless(warning)
    if len(data) <= _WHOLE_FILE_BYTES and plain:
        ended = data.rfind(_END) > header.data_start
        if sound is not None and ended and len(sound) >= _MANY_ROWS:
            return Decoded(sound)
        pixels = sound if sound is not None else _by_opencv(data if ended else data + _END, header, target)
        if pixels is not None:
            return _judged(pixels, data, header, name, ended=ended, warned=warned)
    elif sound is not None:
        return Decoded(sound)
    del data
    try:
        pixels = decode_pillow(file, header, target, name)
    except CorruptImage:
        file.seek(0)
        data = file.read(_MENDED_FILE_BYTES + 1)
        if len(data) > _MENDED_FILE_BYTES or not plain or data.rfind(_END) > header.data_start:
            raise
        mended = _by_opencv(data + _END, header, target)
        if mended is None:
            raise
        return _judged(mended, data, header, name, ended=False, warned=warned)
    file.seek(0)
    return _judged(pixels, file, header, name, ended=True, warned=warned)


def is_harmless(remark: str) -> bool:
    """Whether what libjpeg says, or nothing, is no damage: of an odd header, or a few bytes too many at the end."""
    remark = remark.lower()
    few = (match := _TOO_MUCH.search(remark)) is not None and int(match[1]) <= _A_FEW
    return few or not any(sign in remark for sign in _DAMAGE)


def _strictly(file: BinaryIO, header: Header, target: tuple[int, int]) -> tuple[Pixels | None, str]:
    if not has_vips():
        return None, ""
    from detector.images.decoders.remarked import decode_strictly

    pixels, warning = decode_strictly(file, header, target)
    return pixels, warning


def _by_opencv(data: bytes, header: Header, target: tuple[int, int]) -> Pixels | None:
    factor = jpeg_reduction(header.width, header.height, target)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise_if_out_of_memory(error)
        return None  # Pillow may still read it, or say better what is wrong
    if pixels is None or pixels.dtype != np.uint8:
        return None
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)  # type: ignore[return-value]


def _judged(
    pixels: Pixels, source: bytes | BinaryIO, header: Header, name: str, *, ended: bool, warned: bool
) -> Decoded:
    even = even_rows(pixels)
    lost = max(grey_rows(pixels), even_rows_at_the_end(pixels))
    missing = grey_share(pixels) if warned and _has_restarts(source, header) else 0.0
    refuse_unless_most(1.0 - missing, header.description, name, "data between its restart markers is missing")
    if ended and not lost and even <= _MANY_EVEN * len(pixels):
        return Decoded(pixels, 1.0 - missing if warned else None)
    data = source if isinstance(source, bytes) else source.read()
    if has_vips():
        ends_early = _PREMATURE in _warning(data if ended else data + _END, header.height)
    else:  # nobody can be asked; libjpeg leaves grey what did not come
        ends_early = not ended or grey_rows(pixels) > 0
    if not ends_early:  # really of one colour; or only the end marker is missing
        return Decoded(pixels, None if ended and not warned else 1.0 - missing)
    scans = header.description.startswith("progressive") or data.count(_SCAN, max(0, header.data_start - 2)) > 1
    if scans and not ended:
        # Every row is there, but of unknown sharpness: a scan that is missing blurs the whole page.
        raise CorruptImage(f"{name}: the {header.description} data is damaged or cut off (scans are missing)")
    share = 1.0 - max(missing, lost / len(pixels))
    refuse_unless_most(share, header.description, name, "the data ends early")
    return Decoded(pixels, share)


def _has_restarts(source: bytes | BinaryIO, header: Header) -> bool:
    """Whether the data begins anew at markers: only then it may be missing anywhere, not from somewhere on alone."""
    if isinstance(source, bytes):
        return _RESTARTS in source[: header.data_start]
    start = source.read(min(header.data_start, _HEAD_BYTES))
    source.seek(0)
    return _RESTARTS in start


def grey_share(pixels: Pixels) -> float:
    """How much of the area is 128 in every channel: what libjpeg leaves of a segment whose data ended."""
    grey = sum(int((rows == _GREY).all(axis=2).sum()) for rows in np.array_split(pixels, max(1, len(pixels) // 256)))
    return float(grey / max(1, pixels.shape[0] * pixels.shape[1]))


def grey_rows(pixels: Pixels) -> int:
    """How many rows are 128 in every channel from edge to edge."""
    step = max(1, pixels.shape[1] // _LOOKED_AT)
    suspects = np.flatnonzero((pixels[:, ::step] == _GREY).all(axis=(1, 2)))
    return sum(bool((pixels[row] == _GREY).all()) for row in suspects.tolist())


def even_rows(pixels: Pixels) -> int:
    """How many rows are of one colour from edge to edge, by some of their pixels: margins, or data that went wrong."""
    some = pixels[:, :: max(1, pixels.shape[1] // _LOOKED_AT)]
    return int((some.max(axis=1) - some.min(axis=1) <= _NEARLY).all(axis=1).sum())


def even_rows_at_the_end(pixels: Pixels) -> int:
    """How many rows at the end are of one colour from edge to edge, and all of nearly the same."""
    colour = pixels[-1, 0].astype(np.int16)

    def is_even(rows: Pixels) -> npt.NDArray[np.bool_]:
        return np.asarray((np.abs(rows - colour) <= _NEARLY).all(axis=(-1, -2)), np.bool_)

    if not is_even(pixels[-1]):
        return 0
    even = is_even(pixels[:, :: max(1, pixels.shape[1] // _LOOKED_AT)])
    return len(even) if even.all() else int(even[::-1].argmin())


def _warning(data: bytes, height: int) -> str:
    from detector.images.decoders.remarked import jpeg_warning

    return jpeg_warning(data, height)
