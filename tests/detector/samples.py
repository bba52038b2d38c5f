"""Pictures whose every corner is known, and how a camera stores them for each EXIF orientation."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

# How the stored picture is made from the upright one: the inverse of what EXIF 2.3 says a viewer must do.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # the viewer turns it 90 degrees clockwise
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def asymmetric(width: int = 120, height: int = 80) -> Image.Image:
    """Red, green, blue and yellow quarters (clockwise from top-left) and a white patch near the top-left corner."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (220, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 200, 30)
    pixels[height // 2 :, width // 2 :] = (30, 30, 220)
    pixels[height // 2 :, : width // 2] = (220, 220, 30)
    pixels[height // 8 : height // 4, width // 16 : width // 3] = 255
    return Image.fromarray(pixels)


def stored(image: Image.Image, orientation: int) -> Image.Image:
    """The upright picture as a camera with this orientation tag stores it."""
    how = STORED[orientation]
    return image if how is None else image.transpose(how)


def exif_bytes(orientation: int) -> bytes:
    """An EXIF block with nothing but the orientation."""
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


def save_oriented(image: Image.Image, orientation: int, path: Path) -> Path:
    """Writes the upright picture turned for `orientation` and tagged with it; the suffix chooses the format."""
    turned = stored(image, orientation)
    if path.suffix == ".tif":
        turned.save(path, tiffinfo={274: orientation})
    elif path.suffix == ".webp":
        turned.save(path, exif=exif_bytes(orientation), quality=95, method=0)
    else:
        turned.save(path, exif=exif_bytes(orientation), quality=95, subsampling=0)
    return path


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    """The bytes of a picture in some format."""
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture that does not compress to nothing, so that cutting its file cuts pixels."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))
