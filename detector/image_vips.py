"""Large PNG, TIFF and WebP through libvips: row by row, averaged down on the way, in a few dozen megabytes."""

from __future__ import annotations

import functools
import logging
import os
from types import ModuleType
from typing import Any, BinaryIO

import cv2

from detector.errors import CorruptImage
from detector.image_budget import box_reduction
from detector.image_decode import Pixels, eight_bit, raise_if_out_of_memory
from detector.image_header import Header


@functools.cache
def _vips() -> ModuleType:
    # One thread: the machine's cores are shared by workers, and every vips thread holds line buffers of its own.
    # The variables must be set before libvips starts; it is imported late so that a forking parent has no threads.
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    os.environ.setdefault("VIPS_WARNING", "0")
    import pyvips

    logging.getLogger("pyvips").setLevel(logging.ERROR)  # what matters comes as an exception
    pyvips.cache_set_max(0)  # no operation is ever asked for twice
    pyvips.cache_set_max_mem(0)
    pyvips.block_untrusted_set(True)  # loaders that libvips itself calls unsafe on strangers' files
    return pyvips


@functools.cache
def _knows_unlimited() -> bool:
    return "unlimited" in _vips().Introspect.get("tiffload_source").optional_input


def decode_vips(file: BinaryIO, header: Header, page: int, target: tuple[int, int], name: str) -> Pixels:
    """One page, averaged down by a whole factor so that it stays no smaller than `target`.

    Args:
        file: the open file; needs a descriptor.
        header: its header (of this page).
        page: counted from 0; only TIFF has others.
        target: (width, height) in stored orientation, pixels.
        name: for messages.

    Returns:
        (H, W, 3) uint8 RGB in stored orientation, transparent parts on white.

    Raises:
        CorruptImage: damaged or cut off.
    """
    vips = _vips()
    options: dict[str, Any] = {}
    if header.kind == "tiff":
        options["page"] = page
        if _knows_unlimited():
            options["unlimited"] = True  # libvips allows libtiff 50 MB; image_budget has weighed this page already
    factor = box_reduction(header.width, header.height, target)
    if header.kind == "webp" and factor > 1:
        options["scale"] = 1 / factor  # libwebp rescales row by row while it decodes
        factor = 1
    file.seek(0)
    try:
        source = vips.Source.new_from_descriptor(file.fileno())
        image = vips.Image.new_from_source(source, "", access="sequential", fail_on="truncated", **options)
        array = _shrunk(image, factor).numpy()
    except vips.Error as error:
        raise_if_out_of_memory(error)
        reason = " ".join(str(error).split()) or "no reason given"
        raise CorruptImage(f"{name}: the {header.description} data is damaged or cut off ({reason})") from error
    pixels = eight_bit(array)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
    return pixels[:, :, :3]


def _shrunk(image: Any, factor: int) -> Any:
    """sRGB or grey of the file's own depth, without alpha, averaged over factor x factor boxes."""
    if image.interpretation in ("cmyk", "lab", "labs", "labq", "xyz", "scrgb", "hsv", "lch"):
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=65535 if image.format == "ushort" else 255)
    if image.bands == 2 or image.bands > 3:
        image = image.extract_band(0, n=1 if image.bands == 2 else 3)
    return image.shrink(factor, factor) if factor > 1 else image
