"""Large pages through libvips: row by row, averaged down on the way, in a few dozen megabytes."""

from __future__ import annotations

import functools
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
import numpy.typing as npt

from detector.errors import CorruptImage
from detector.images.decode import Pixels, eight_bit, on_paper, raise_if_out_of_memory
from detector.images.header import Header
from detector.images.sizes import box_reduction, jpeg_reduction
from detector.images.source import raise_if_unread, read_through

FETCHED_ROWS = 64
"""Rows taken from libvips at a time."""

Alpha = Literal["paper", "kept", "ignored"]

ERROR_BUFFER_BYTES = 10_000
"""libvips' error buffer holds 10 KB; with more in it than this something may not have found room."""

SAMPLES = {"uchar": "u1", "ushort": "u2", "uint": "u4", "short": "i2", "int": "i4", "float": "f4", "double": "f8"}


@functools.cache
def libvips() -> ModuleType:
    """Pyvips, set up once."""
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
    return "unlimited" in libvips().Introspect.get("tiffload_source").optional_input


def decode_vips(file: BinaryIO, header: Header, target: tuple[int, int], name: str) -> Pixels:
    """One page, averaged down by a whole factor so that it stays no smaller than `target`.

    Args:
        file: the open file: in memory, or with a descriptor.
        header: its header (of this page).
        target: (width, height) in stored orientation, pixels.
        name: for messages.

    Returns:
        (H, W, 3) uint8 RGB in stored orientation.

    Raises:
        CorruptImage: damaged or cut off.
    """
    with _damage_named(header, name):
        return whole(load(file, header, target, alpha="kept"), file, header, target)


def whole(image: Any, file: BinaryIO, header: Header, target: tuple[int, int], fail_on: str = "error") -> Pixels:
    """The pixels of a lazy image with its alpha kept, (H, W, 3) uint8 RGB; alpha that is 0 all over is none."""
    array = samples_of(image)
    del image  # which holds a WebP's canvas
    if array.shape[2] in (2, 4) and not array[:, :, -1].any():
        array = samples_of(load(file, header, target, alpha="ignored", fail_on=fail_on))
    return as_rgb(array)


def samples_of(image: Any) -> npt.NDArray[Any]:
    """The samples of a lazy image, (H, W, bands): pyvips gives (H, W) of grey, a mere number of one pixel."""
    return np.asarray(image.numpy()).reshape(image.height, image.width, image.bands)


def as_rgb(array: npt.NDArray[Any]) -> Pixels:
    """(H, W, 3) uint8 RGB of (H, W, bands); colours were multiplied by their alpha, if there is one."""
    pixels = eight_bit(array)
    if pixels.shape[2] == 1:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)  # type: ignore[return-value]
    if pixels.shape[2] in (2, 4):
        return on_paper(np.ascontiguousarray(pixels[:, :, :-1]), np.ascontiguousarray(pixels[:, :, -1]))
    return pixels[:, :, :3]


class VipsStrips:
    """One page row by row, as `detector.tiling.Rows`; what lies above the rows last asked for is forgotten.

    Args:
        file: the open file: in memory, or with a descriptor; must stay open.
        header: its header (of this page).
        target: (width, height), pixels.
        name: for messages.
        harmless: whether a remark of the decoder on the data is of no account; None: none is.

    Attributes:
        height, width: pixels, those of `target`.
        eight_bit: whether samples have 8 bits. Deeper ones must be seen whole before one knows how deep they are.

    Raises:
        CorruptImage: damaged or cut off, or the decoder remarks on its data; also raised by `rows`.
    """

    def __init__(
        self,
        file: BinaryIO,
        header: Header,
        target: tuple[int, int],
        name: str,
        harmless: Callable[[str], bool] | None = None,
    ) -> None:
        self._file, self._header, self._name, self._harmless = file, header, name, harmless
        self.width, self.height = target
        with _damage_named(header, name):
            opaque = header.channels not in (2, 4) or _shows_anything(file, header, target)
            self._alpha: Alpha = "paper" if opaque else "ignored"
            try:
                self._open("warning")
            except libvips().Error as error:
                raise_unless_damage(error)
                self._open("error")  # the header is remarked on (odd tags, mostly): as in `decode_strictly`
        self._top = self._next = 0
        self._kept = np.empty((0, self.width, 3), np.uint8)

    def _open(self, fail_on: str) -> None:
        image = load(self._file, self._header, (self.width, self.height), fail_on=fail_on, alpha=self._alpha)
        self.eight_bit = image.format == "uchar"
        # Over the last factor of less than two a triangle kernel is as good as averaging.
        if (image.width, image.height) != (self.width, self.height):
            image = image.resize(self.width / image.width, vscale=self.height / image.height, kernel="linear")
        forget_remarks()  # on the header
        self._region = libvips().Region.new(image)
        self._bands = image.bands

    def rows(self, top: int, bottom: int) -> Pixels:
        """See `detector.tiling.Rows`."""
        strip = np.empty((bottom - top, self.width, 3), np.uint8)
        kept = self._kept[top - self._top :]
        strip[: len(kept)] = kept
        with _damage_named(self._header, self._name):
            for row in range(max(self._next, top), bottom, FETCHED_ROWS):
                count = min(FETCHED_ROWS, bottom - row)
                strip[row - top : row - top + count] = self._fetch(row, count)
            # Errors are looked for every few rows only: not after the last ones.
            if self._next < self.height <= bottom and (said := remarks()) and not self._is_harmless(said):
                raise libvips().Error(said)
        self._top, self._next, self._kept = top, bottom, strip
        return strip

    def _fetch(self, row: int, count: int) -> Pixels:
        try:
            fetched = self._region.fetch(0, row, self.width, count)
        except libvips().Error as error:
            if not self._is_harmless(str(error)):
                raise
            self._open("error")
            fetched = self._region.fetch(0, row, self.width, count)
        return np.frombuffer(fetched, np.uint8).reshape(count, self.width, self._bands)

    def _is_harmless(self, said: str) -> bool:
        if len(said) > ERROR_BUFFER_BYTES:  # who knows what else was said
            return False
        return self._harmless is not None and all(map(self._harmless, said.splitlines()))


def forget_remarks() -> None:
    """Before what `remarks` is asked of."""
    libvips().vips_lib.vips_error_clear()


def remarks() -> str:
    """What decoders said since then, a line each, as far as libvips raised no error for it; it keeps 10 KB."""
    text: str = libvips().ffi.string(libvips().vips_lib.vips_error_buffer()).decode(errors="replace")
    forget_remarks()
    raise_if_unread(text)
    return text


def load(
    file: BinaryIO, header: Header, target: tuple[int, int], *, alpha: Alpha = "paper", fail_on: str = "error"
) -> Any:
    """The lazy image, averaged down by a whole factor so that it stays no smaller than `target`.

    With `alpha` "kept" colours are multiplied by it, and it is the last band; else it is put on white, or ignored.
    """
    vips = libvips()
    options: dict[str, Any] = {}
    if header.kind == "tiff":
        options["page"] = header.directory
        if header.sub >= 0:
            options["subifd"] = header.sub
        if _knows_unlimited():
            options["unlimited"] = True  # libvips allows libtiff 50 MB; images.budget has weighed this page already
    factor = box_reduction(header.width, header.height, target)
    if header.kind == "webp" and factor > 1 and alpha != "ignored":  # which it would multiply colours by
        options["scale"] = 1 / factor  # libwebp rescales row by row while it decodes
        factor = 1
    if header.kind == "jpeg":
        options["shrink"] = jpeg_reduction(header.width, header.height, target)  # so does libjpeg
        factor = 1
    if header.kind != "tiff" and not isinstance(file, io.BytesIO):  # a TIFF has other pages, and dies of none
        read_through(file)
    # Named: libvips' own choice for a JPEG with a gain map (Ultra HDR) passes no warnings on.
    loader = getattr(vips.Image, f"{header.kind}load_source")
    image = loader(source_of(file), access="sequential", fail_on=fail_on, **options)
    return _shrunk(image, factor, header.extra, alpha)


def _shows_anything(file: BinaryIO, header: Header, target: tuple[int, int]) -> bool:
    """Whether anything of a page is opaque, or it has no alpha; read down to the first row that is not 0."""
    image = load(file, header, target, alpha="kept")
    region = libvips().Region.new(image)
    for row in range(0, image.height, FETCHED_ROWS):
        count = min(FETCHED_ROWS, image.height - row)
        fetched = np.frombuffer(region.fetch(0, row, image.width, count), SAMPLES[image.format])
        if image.bands not in (2, 4) or fetched[image.bands - 1 :: image.bands].any():
            return True
    return False


def source_of(file: BinaryIO) -> Any:
    """The file for libvips, which reads its descriptor by itself."""
    file.seek(0)
    if isinstance(file, io.BytesIO):
        return libvips().Source.new_from_memory(file.getvalue())
    try:
        # A place of its own in the file: libvips would move Python's, behind the back of its buffer.
        own = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # no Linux, or a file that may be read but not opened any more
        return libvips().Source.new_from_descriptor(file.fileno())
    try:
        return libvips().Source.new_from_descriptor(own)  # which it duplicates
    finally:
        os.close(own)


def raise_unless_damage(error: Exception) -> None:
    """Raises MemoryError or ReadError where libvips says that, before a picture is blamed for it."""
    raise_if_out_of_memory(error)
    raise_if_unread(str(error))


@contextmanager
def _damage_named(header: Header, name: str) -> Iterator[None]:
    """libvips' errors become ours.

    Raises:
        CorruptImage: damaged or cut off.
    """
    try:
        yield
    except libvips().Error as error:
        raise_unless_damage(error)
        reason = " ".join(str(error).split()) or "no reason given"
        raise CorruptImage(f"{name}: the {header.description} data is damaged or cut off ({reason})") from error


def _shrunk(image: Any, factor: int, extra: int, alpha: Alpha) -> Any:
    """sRGB or grey of the file's own depth, averaged over factor x factor boxes."""
    if image.format == "char":
        image = image.copy(format="uchar")  # as Pillow and browsers have it: nobody has 8 bits with a sign
    if 0 < extra < image.bands:
        image = image.extract_band(0, n=image.bands - extra)
    if image.interpretation in ("cmyk", "lab", "labs", "labq", "xyz", "scrgb", "hsv", "lch"):
        image = image.colourspace("srgb")
    colours = 1 if image.bands <= 2 else 3
    if alpha != "ignored" and image.hasalpha() and image.bands > colours:
        if alpha == "kept":
            deep = image.format
            image = image.extract_band(0, n=colours + 1).premultiply().cast(deep)
        else:
            image = image.flatten(background=65535 if image.format == "ushort" else 255)
    elif image.bands > colours:
        image = image.extract_band(0, n=colours)
    return image.shrink(factor, factor) if factor > 1 else image
