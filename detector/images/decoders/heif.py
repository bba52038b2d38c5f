"""HEIC and HEIF, what iPhones save, through the optional pillow-heif (`pip install 'ocrfleet[heif]'`)."""

from __future__ import annotations

from typing import Any, BinaryIO

import cv2
import numpy as np

from detector.errors import CorruptImage, UnsupportedFormat
from detector.images.decode import raise_if_out_of_memory
from detector.images.decoders.damage import Decoded, refuse_unless_most
from detector.images.decoders.heif_boxes import share_before_holes
from detector.images.header import Header
from detector.images.sizes import box_reduction


def heif_header(file: BinaryIO, name: str) -> Header:
    """The header of the primary picture. The library turns it upright by itself.

    Raises:
        UnsupportedFormat: the extra is not installed.
        CorruptImage: damaged.
    """
    picture = _open(file, name)
    width, height = picture.size
    return Header("heif", width, height, description="HEIC", more=len(picture) > 1)


def decode_heif(file: BinaryIO, header: Header, target: tuple[int, int], name: str) -> Decoded:
    """The primary picture, averaged down by a whole factor so that it stays no smaller than `target`; upright.

    Raises:
        CorruptImage: damaged or cut off, or less than `LEAST_SHARE` of its data are there before a hole of zeros.
    """
    share = share_before_holes(file)
    refuse_unless_most(share, header.description, name, "zeros in the place of its data, or its end is cut off")
    picture = _open(file, name)
    try:
        image = picture.to_pillow().convert("RGB")
    except (OSError, ValueError, RuntimeError, EOFError, SyntaxError) as error:
        raise_if_out_of_memory(error)
        raise CorruptImage(f"{name}: the HEIC data is damaged or cut off ({_reason(error)})") from error
    factor = box_reduction(image.width, image.height, target)
    pixels = np.array(image.reduce(factor) if factor > 1 else image)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return Decoded(pixels, share if share < 1.0 else None)


def _open(file: BinaryIO, name: str) -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise UnsupportedFormat(
            f"{name}: a HEIC picture; pip install 'ocrfleet[heif]' where the workers run, or convert it to JPEG"
        ) from None
    file.seek(0)
    try:
        return pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
    except (OSError, ValueError, RuntimeError, EOFError, SyntaxError) as error:
        raise_if_out_of_memory(error)
        raise CorruptImage(f"{name}: the HEIC header is damaged ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())  # libheif ends its messages with a newline
