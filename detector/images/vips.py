"""Large pages through libvips: row by row, averaged down on the way, in a few dozen megabytes."""

from __future__ import annotations

import functools
import io
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, BinaryIO

import cv2
import numpy as np

from detector.errors import CorruptImage
from detector.images.decode import Pixels, eight_bit, raise_if_out_of_memory
from detector.images.header import Header
from detector.images.sizes import box_reduction, jpeg_reduction

FETCHED_ROWS = 64
"""Rows taken from libvips at a time."""


@functools.cache
def _vips() -> ModuleType:
    # One thread: the machine's cores are shared by workers, and every vips thread holds line buffers of its own.
    # The variables must be set before libvips starts; it is imported late so that a forking parent has no threads.
    os.environ.setdefault("VIPS_CONCURRENCY", "1")
    os.environ.setdefault("VIPS_WARNING", "0")
    import pyvips

    logging.getLogger("pyvips").setLevel(logging.ERROR)  # what matters comes as an exception
    # Its log handler runs Python inside C, where an exception that a signal raises (Ctrl-C, a worker's time limit) is
    # lost. Without it libvips drops its remarks itself.
    getattr(pyvips, "_remove_log_handler", lambda: None)()
    pyvips.cache_set_max(0)  # no operation is ever asked for twice
    pyvips.cache_set_max_mem(0)
    pyvips.block_untrusted_set(True)  # loaders that libvips itself calls unsafe on strangers' files
    module: ModuleType = pyvips
    return module


@functools.cache
def _knows_unlimited() -> bool:
    return "unlimited" in _vips().Introspect.get("tiffload_source").optional_input


def decode_vips(file: BinaryIO, header: Header, page: int, target: tuple[int, int], name: str) -> Pixels:
    """One page, averaged down by a whole factor so that it stays no smaller than `target`.

    Args:
        file: the open file: in memory, or with a descriptor.
        header: its header (of this page).
        page: counted from 0; only TIFF has others.
        target: (width, height) in stored orientation, pixels.
        name: for messages.

    Returns:
        (H, W, 3) uint8 RGB in stored orientation, transparent parts on white.

    Raises:
        CorruptImage: damaged or cut off.
    """
    with _damage_named(header, name):
        array = _load(file, header, page, target).numpy()
    pixels = eight_bit(array)
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
    return pixels[:, :, :3]


class VipsStrips:
    """One page row by row, as `detector.tiling.Rows`; what lies above the rows last asked for is forgotten.

    Args:
        file: the open file: in memory, or with a descriptor; must stay open.
        header: its header (of this page).
        page: counted from 0; only TIFF has others.
        target: (width, height), pixels.
        name: for messages.

    Attributes:
        height, width: pixels, those of `target`.
        eight_bit: whether samples have 8 bits. Deeper ones must be seen whole before one knows how deep they are.

    Raises:
        CorruptImage: damaged or cut off; also raised by `rows`.
    """

    def __init__(self, file: BinaryIO, header: Header, page: int, target: tuple[int, int], name: str) -> None:
        self._header, self._name = header, name
        self.width, self.height = target
        with _damage_named(header, name):
            image = _load(file, header, page, target)
            self.eight_bit = image.format == "uchar"
            # Over the last factor of less than two a triangle kernel is as good as averaging.
            size = (image.width, image.height)
            if size != target:
                image = image.resize(target[0] / size[0], vscale=target[1] / size[1], kernel="linear")
            self._region = _vips().Region.new(image)
            self._bands = image.bands
        self._top = self._next = 0
        self._kept = np.empty((0, self.width, 3), np.uint8)

    def rows(self, top: int, bottom: int) -> Pixels:
        """See `detector.tiling.Rows`."""
        strip = np.empty((bottom - top, self.width, 3), np.uint8)
        kept = self._kept[top - self._top :]
        strip[: len(kept)] = kept
        with _damage_named(self._header, self._name):
            for row in range(max(self._next, top), bottom, FETCHED_ROWS):
                count = min(FETCHED_ROWS, bottom - row)
                strip[row - top : row - top + count] = self._fetch(row, count)
        self._top, self._next, self._kept = top, bottom, strip
        return strip

    def _fetch(self, row: int, count: int) -> Pixels:
        fetched = self._region.fetch(0, row, self.width, count)
        return np.frombuffer(fetched, np.uint8).reshape(count, self.width, self._bands)


def _load(file: BinaryIO, header: Header, page: int, target: tuple[int, int]) -> Any:
    """The lazy image, averaged down by a whole factor so that it stays no smaller than `target`."""
    vips = _vips()
    options: dict[str, Any] = {}
    if header.kind == "tiff":
        options["page"] = page
        if _knows_unlimited():
            options["unlimited"] = True  # libvips allows libtiff 50 MB; images.budget has weighed this page already
    factor = box_reduction(header.width, header.height, target)
    if header.kind == "webp" and factor > 1:
        options["scale"] = 1 / factor  # libwebp rescales row by row while it decodes
        factor = 1
    if header.kind == "jpeg":
        options["shrink"] = jpeg_reduction(header.width, header.height, target)  # so does libjpeg
        factor = 1
    file.seek(0)
    if isinstance(file, io.BytesIO):
        source = vips.Source.new_from_memory(file.getvalue())
    else:
        source = vips.Source.new_from_descriptor(file.fileno())
    return _shrunk(vips.Image.new_from_source(source, "", access="sequential", fail_on="truncated", **options), factor)


@contextmanager
def _damage_named(header: Header, name: str) -> Iterator[None]:
    """libvips' errors become ours.

    Raises:
        CorruptImage: damaged or cut off.
    """
    try:
        yield
    except _vips().Error as error:
        raise_if_out_of_memory(error)
        reason = " ".join(str(error).split()) or "no reason given"
        raise CorruptImage(f"{name}: the {header.description} data is damaged or cut off ({reason})") from error


def _shrunk(image: Any, factor: int) -> Any:
    """sRGB or grey of the file's own depth, without alpha, averaged over factor x factor boxes."""
    if image.interpretation in ("cmyk", "lab", "labs", "labq", "xyz", "scrgb", "hsv", "lch"):
        image = image.colourspace("srgb")
    if image.hasalpha():
        image = image.flatten(background=65535 if image.format == "ushort" else 255)
    if image.bands == 2 or image.bands > 3:
        image = image.extract_band(0, n=1 if image.bands == 2 else 3)
    return image.shrink(factor, factor) if factor > 1 else image
