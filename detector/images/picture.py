"""Pictures that are in memory already, numpy arrays and PIL images, shrunk by the same rule as files."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from detector.errors import CorruptImage, TooLarge, UnsupportedFormat, show
from detector.images.decode import DECODE_ERRORS, raise_if_out_of_memory, to_rgb
from detector.images.header import ORIENTATION_TAG
from detector.images.page import DEFAULT_MAX_PIXELS, Page, shrink_to, turn_upright
from detector.images.sizes import target_size

Channels = Literal["rgb", "bgr"]
Picture = npt.NDArray[np.uint8] | Image.Image


def picture_page(
    picture: Picture, *, limit_side: int, max_pixels: int = DEFAULT_MAX_PIXELS, channels: Channels = "rgb"
) -> Page:
    """A picture as `open_page` would open a file of the same pixels.

    Args:
        picture: (H, W, 3) or (H, W) uint8, or a PIL image of any mode; it is not changed. A PIL image that still has
            its EXIF orientation is turned upright.
        limit_side: longest side wanted, pixels.
        max_pixels: refuse larger pictures.
        channels: of an array's last axis: "rgb", or "bgr" as OpenCV has it.

    Raises:
        UnsupportedFormat: an array of another shape or type.
        TooLarge: more than `max_pixels`.
        CorruptImage: a PIL image whose file turns out to be damaged when it is loaded.
    """
    if isinstance(picture, np.ndarray):
        image, name, orientation = _image_of(picture, channels), "the array", 1
    else:
        image, name, orientation = picture, show(getattr(picture, "filename", "") or "the PIL image"), 0
    if image.width * image.height > max_pixels:
        raise TooLarge(f"{name}: {image.width}x{image.height} is more than {max_pixels} pixels; shrink it first")
    try:
        image.load()  # Pillow reads files late, and turns a TIFF upright only now
        orientation = orientation or _orientation(image)
        target = target_size(image.width, image.height, limit_side)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = shrink_to(to_rgb(image, target), target)
    except DECODE_ERRORS as error:
        raise_if_out_of_memory(error)
        raise CorruptImage(f"{name}: cannot be read as RGB ({error})") from error
    flags = ["downscaled"] if target != image.size else []
    if orientation != 1:
        flags.append("exif_rotated")
    width, height = reversed(image.size) if orientation >= 5 else image.size
    return Page(turn_upright(pixels, orientation), width, height, tuple(flags))


def _image_of(array: npt.NDArray[Any], channels: Channels) -> Image.Image:
    if channels not in ("rgb", "bgr"):
        raise UnsupportedFormat(f"channels {channels!r}: give 'rgb' or 'bgr'")
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,)) or not array.size:
        raise UnsupportedFormat(
            f"an array of shape {array.shape} and type {array.dtype}: give (H, W, 3) or (H, W) of uint8"
        )
    rgb = array[:, :, ::-1] if channels == "bgr" and array.ndim == 3 else array
    return Image.fromarray(np.ascontiguousarray(rgb))


def _orientation(image: Image.Image) -> int:
    value = image.getexif().get(ORIENTATION_TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
