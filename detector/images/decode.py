"""Decoders for what OpenCV and Pillow read: header in, RGB pixels out, already reduced where the format allows."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from detector.errors import CorruptImage, is_out_of_memory
from detector.images.header import PARSE_ERRORS, Header, open_pillow
from detector.images.sizes import box_reduction, jpeg_reduction
from detector.memory import limit_in_force

Pixels = npt.NDArray[np.uint8]

DECODE_ERRORS = (*PARSE_ERRORS, cv2.error)

LIGHT = 140
"""Drawn in lighter colours than this on average (0 to 255), little of the picture wants black paper."""

MOSTLY_COVERED = 0.6
"""From this share of opaque pixels on the picture brings its own background: what is left is margin, and white."""

_ROWS = 256
_PIECE = 1 << 16  # bytes
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of a colour type; PNG (third edition), 11.2.1
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def decode_webp(file: BinaryIO, header: Header, name: str) -> Pixels:
    """A small opaque WebP, whole.

    Returns:
        (H, W, 3) uint8 RGB in stored orientation.

    Raises:
        CorruptImage: damaged or cut off.
    """
    file.seek(0)
    data = np.frombuffer(file.read(), np.uint8)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise_if_out_of_memory(error)
        raise CorruptImage(f"{name}: the WebP data is damaged or cut off ({error.err})") from error
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        raise CorruptImage(f"{name}: the WebP data is damaged or cut off")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)  # type: ignore[return-value]


def decode_pillow(file: BinaryIO, header: Header, target: tuple[int, int], name: str) -> Pixels:
    """Anything Pillow reads, averaged down before it becomes an array; a TIFF it turns upright by itself.

    Returns:
        (H, W, 3) uint8 RGB in stored orientation.

    Raises:
        CorruptImage: damaged or cut off.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF, for example; a damaged picture is an exception
            image: Any = open_pillow(file, header.kind)
            if header.kind == "jpeg":
                image.draft(None, _draft_size(header, target))
            if header.directory:
                image.seek(header.directory)
            image.load()
            if header.kind == "png" and _may_lack_rows(image) and _lacks_rows(file):
                raise CorruptImage(
                    f"{name}: the {header.description} data is damaged or cut off (rows are missing or wrong)"
                )
            return to_rgb(image, target)
    except DECODE_ERRORS as error:
        raise_if_out_of_memory(error)
        limit = limit_in_force()
        if header.kind == "jp2" and limit:  # OpenJPEG says "broken data stream" for either
            raise CorruptImage(
                f"{name}: the {header.description} data is damaged, or cannot be decoded within {limit >> 20} MiB "
                f"(OCRFLEET_MEMORY_LIMIT_MB); save it again as PNG if it opens elsewhere ({error})"
            ) from error
        raise CorruptImage(f"{name}: the {header.description} data is damaged or cut off ({error})") from error


def _may_lack_rows(image: Any) -> bool:
    """Whether the last row is 0, as Pillow leaves what did not come; of an interlaced PNG that is other rows, too."""
    last = image.crop((0, image.height - 1, image.width, image.height))
    return bool(image.info.get("interlace")) or not any(last.tobytes())


def _lacks_rows(file: BinaryIO) -> bool:
    """Whether a PNG's data end before all its rows, or are spoilt, which Pillow takes for the end of the picture."""
    file.seek(16)
    width, height, depth, colour, interlaced = struct.unpack(">IIBB2xB", file.read(13))
    bits = depth * _PNG_CHANNELS[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes]
    missing = sum(high * (1 - (-wide * bits // 8)) for wide, high in sizes if wide > 0 and high > 0)
    unpacker = zlib.decompressobj()
    file.seek(4, os.SEEK_CUR)
    try:
        while missing > 0 and len(head := file.read(8)) == 8 and not unpacker.eof:
            left, kind = struct.unpack(">I4s", head)
            while kind == b"IDAT" and left and (data := file.read(min(left, _PIECE))):
                left -= len(data)
                while data and missing > 0:
                    missing -= len(unpacker.decompress(data, _PIECE))
                    data = unpacker.unconsumed_tail
            file.seek(left + 4, os.SEEK_CUR)
    except zlib.error:
        return True
    return bool(missing > 0)


def raise_if_out_of_memory(error: BaseException) -> None:
    """Libraries wrap a failed allocation in errors of their own; it must not pass for a damaged file.

    Raises:
        MemoryError: if that is what `error` means.
    """
    if is_out_of_memory(error):
        raise MemoryError(str(error)) from error


def eight_bit(values: npt.NDArray[Any]) -> Pixels:
    """Samples of any depth as 8 bits.

    Signed samples begin at the lowest of them where that is below 0 (in computed tomography at -1024).

    16-bit files often hold 10, 12 or 14 bits (scanners, medical devices); taking the upper byte would show them black.
    So the highest sample decides the depth: 4095 means 12 bits, of which the upper 8 are kept. Floating point samples
    are stretched from their minimum to their maximum.

    Args:
        values: unsigned, signed or floating point, any shape.

    Returns:
        uint8, the same shape.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values.astype(np.float32), nan=0.0, posinf=0.0, neginf=0.0)
        low, high = float(finite.min()), float(finite.max())
        if low >= 0.0 and high <= 1.0:
            low, high = 0.0, 1.0
        return ((finite - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)
    if not values.size:
        return np.empty(values.shape, np.uint8)
    low = min(0, int(values.min()))
    bits = (int(values.max()) - low).bit_length()
    wide = values.dtype if low == 0 else np.int64
    result = np.empty(values.shape, np.uint8)
    for row in range(0, len(values), _ROWS):  # in pieces: whole copies of deep samples are large
        result[row : row + _ROWS] = (values[row : row + _ROWS].astype(wide, copy=False) - low) >> max(0, bits - 8)
    return result


def _draft_size(header: Header, target: tuple[int, int]) -> tuple[int, int]:
    # Pillow's draft() rounds down where libjpeg rounds up, so ask for the size of our own factor, rounded down.
    factor = jpeg_reduction(header.width, header.height, target)
    return max(1, header.width // factor), max(1, header.height // factor)


def to_rgb(image: Any, target: tuple[int, int]) -> Pixels:
    """A loaded PIL image of any mode, averaged down by a whole factor so that it stays no smaller than `target`.

    Args:
        image: `PIL.Image.Image`.
        target: (width, height), pixels.

    Returns:
        (H, W, 3) uint8 RGB, transparent parts on white.
    """
    if image.mode.startswith("I") or image.mode == "F":
        grey = eight_bit(np.asarray(image))
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA" and not image.getchannel("A").getextrema()[1]:
        image = image.convert("RGB")  # alpha of 0 all over is no alpha: writers that fill 32 bits leave it so
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")  # CMYK (Adobe's inversion undone by Pillow), YCbCr, RGBX, HSV
    factor = box_reduction(image.width, image.height, target)
    if factor > 1:
        image = image.reduce(factor)  # premultiplies alpha itself
    pixels = np.array(image)
    if image.mode == "RGBA":
        del image  # all that is held at once counts: the budget has weighed it
        alpha, colours = np.ascontiguousarray(pixels[:, :, 3]), np.ascontiguousarray(pixels[:, :, :3])
        del pixels
        return colours if alpha.min() == 255 else on_paper(premultiplied(colours, alpha), alpha)
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
    return pixels


def on_paper(colours: Pixels, alpha: Pixels) -> Pixels:
    """A picture with transparency as it is read.

    White lettering on nothing (logos, subtitles, dark-mode exports) would vanish on white.

    Args:
        colours: (H, W, C) uint8, C 1 or 3, already multiplied by alpha.
        alpha: (H, W) uint8, 255 = opaque.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    three = colours if colours.ndim == 3 and colours.shape[2] == 3 else cv2.cvtColor(colours, cv2.COLOR_GRAY2RGB)
    opaque = float(cv2.mean(alpha)[0]) / 255.0
    if opaque == 1.0:
        return three  # type: ignore[return-value]
    drawn = sum(cv2.mean(three)[:3]) / 3.0 / max(opaque, 1e-6)
    if drawn > LIGHT and opaque < MOSTLY_COVERED:
        return three  # type: ignore[return-value]  # premultiplied colours are what it looks like on black
    return cv2.add(three, cv2.cvtColor(cv2.bitwise_not(alpha), cv2.COLOR_GRAY2RGB))  # type: ignore[return-value]


def premultiplied(colours: Pixels, alpha: Pixels) -> Pixels:
    """(H, W, 3) colours times (H, W) alpha."""
    return cv2.multiply(colours, cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB), scale=1 / 255)  # type: ignore[return-value]
