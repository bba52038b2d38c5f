"""How large a page may be, how large it becomes, and what decoding it costs: arithmetic on headers, no pixels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import replace
from importlib.util import find_spec

from detector.errors import TooLarge
from detector.images.header import Header
from detector.images.sizes import box_reduction, jpeg_reduction, target_size

DEFAULT_MAX_PIXELS = 200_000_000
"""Pixels a page may claim. Decoders that shrink while they read need little memory even for this many."""

DEFAULT_MAX_BYTES = 640 * 2**20
"""Estimated decoding memory a page may need (`estimate_bytes`); only formats that must be held whole get there."""


SMALLEST_LIMIT_SIDE = 320
"""Pages that do not fit into memory are tried smaller down to this long side, pixels; less finds headlines only."""


MOST_JPEG_SIDE = 65_500
"""Pixels; libjpeg writes no longer ones."""

VIPS_FROM_PIXELS = 2_000_000
"""From here on PNG and WebP are streamed by libvips (TIFF always is); below, decoding whole needs less memory."""

STRIPS_FROM_BYTES = 24 * 2**20
"""Pages that would be larger than this before the last shrinking are read in strips where tiles allow it; below,
the page itself takes less memory than libvips does."""

# All measured, as growth of a fresh process's peak.
_BASE_BYTES = 6 * 2**20  # imports of a decoder, a whole JPEG file of up to 4 MB
_VIPS_BASE_BYTES = 36 * 2**20  # import, thread pool and line caches of an 80 MP PNG
_VIPS_CACHED_ROWS = 650  # whatever the page's height; of a panorama 393,536 wide that is 733 MiB
_VIPS_CACHE_IN_BASE_BYTES = 12 * 2**20
_PILLOW_BYTES_PER_PIXEL = {"gif": 14, "jp2": 20, "avif": 14, "heif": 14}  # others: picture and average


@functools.cache
def has_vips() -> bool:
    """Whether pyvips and a libvips are installed. Without them pages are held whole, and large ones are refused."""
    return find_spec("pyvips") is not None and (
        find_spec("_libvips") is not None or find_library("vips") is not None  # that of pyvips-binary, the system's
    )


def by_vips(header: Header) -> bool:
    """Whether libvips opens this page: every TIFF it can, large PNG and WebP, and WebP that is not plain."""
    if not has_vips():
        return False
    if header.kind == "tiff":
        return header.streams
    if header.kind == "webp" and header.channels != 3:
        return True
    return header.kind in ("png", "webp") and header.width * header.height >= VIPS_FROM_PIXELS


def estimate_bytes(header: Header, limit_side: int) -> int:
    """An upper estimate of the memory (bytes) that opening this page takes on top of the idle process.

    Baseline JPEG shrinks while it is decoded; a progressive one must hold all coefficients (2 bytes per sample, that
    is 3 bytes a pixel at 4:2:0) whatever the scale. PNG, TIFF and lossy WebP are streamed when large; interlaced PNG,
    lossless WebP and the rest are held whole.
    """
    width, height = header.width, header.height
    target = target_size(width, height, limit_side)
    result = _BASE_BYTES + 2 * 3 * target[0] * target[1]
    if header.kind == "pdf":
        return result + 4 * target[0] * target[1] + 16 * 2**20
    if header.kind == "jpeg":
        factor = jpeg_reduction(width, height, target)
        return result + 7 * math.ceil(width / factor) * math.ceil(height / factor) + header.held_bytes
    if by_vips(header):
        factor = box_reduction(width, height, target)
        # Transparency (of animations too) stays until its paper is chosen, and the canvas is then held once more.
        result += 4 * width * height if header.kind == "webp" and (header.channels == 4 or header.held_bytes) else 0
        averaged = 9 * math.ceil(width / factor) * math.ceil(height / factor)  # 16-bit samples, and those as 8 bits
        return result + _VIPS_BASE_BYTES + averaged + _line_cache_bytes(header) + header.held_bytes
    per_pixel = _PILLOW_BYTES_PER_PIXEL.get(header.kind, max(4, header.bytes_per_pixel) + 3)
    per_pixel += 4 if header.kind == "heif" and header.channels == 4 else 0
    return result + width * height * per_pixel


def _line_cache_bytes(header: Header) -> int:
    """What libvips keeps of the rows it has read, beyond what _VIPS_BASE_BYTES holds: much for very wide pages."""
    return max(0, _VIPS_CACHED_ROWS * header.width * header.bytes_per_pixel - _VIPS_CACHE_IN_BASE_BYTES)


def decoded_bytes(header: Header, limit_side: int) -> int:
    """Memory (bytes) of the page as `images.open_page` first has it, before the last shrinking."""
    width, height = header.width, header.height
    target = target_size(width, height, limit_side)
    reduction = jpeg_reduction if header.kind == "jpeg" else box_reduction
    factor = reduction(width, height, target)
    return 3 * math.ceil(width / factor) * math.ceil(height / factor)


def in_strips(header: Header, limit_side: int) -> bool:
    """Whether a page is better read in strips (`images.open_strips`) than whole: large, upright and row by row."""
    return (
        has_vips()
        and (header.kind == "jpeg" or by_vips(header))
        and header.streams
        and header.orientation == 1
        and header.held_bytes <= STRIPS_FROM_BYTES
        and decoded_bytes(header, limit_side) >= STRIPS_FROM_BYTES
    )


def estimate_strip_bytes(header: Header, limit_side: int) -> int:
    """An upper estimate of the memory (bytes) that a page takes in strips.

    That is its uint8 map three times (OpenCV's contours want a binary map and copy it), the rows of a tile twice while
    the strip moves on, and the floats of a row of tiles.
    """
    from detector.images.sizes import tile_size

    width, height = target_size(header.width, header.height, limit_side)
    rows = tile_size(height, width)[0]
    result = _BASE_BYTES + _VIPS_BASE_BYTES + 3 * width * height + (2 * 3 + 4) * rows * width
    return result + _line_cache_bytes(header) + header.held_bytes


def check_budget(
    header: Header,
    name: str,
    limit_side: int,
    max_pixels: int,
    max_bytes: int,
    estimate: Callable[[Header, int], int] = estimate_bytes,
) -> int:
    """Weighs a page before a single pixel is decoded: as asked, else smaller where that helps, else refused.

    Returns:
        The longest side, pixels, at which the page can be decoded: `limit_side`, or less where only a stronger
        reduction while decoding (baseline JPEG, PDF) fits into `max_bytes`; not below SMALLEST_LIMIT_SIDE.

    Raises:
        TooLarge: naming the limit and what to do about it.
    """
    pixels = header.width * header.height
    size = f"{header.width}x{header.height}"
    if header.kind != "pdf" and pixels > max_pixels:
        raise TooLarge(
            f"{name}: {size} is {_mega(pixels)} megapixels, the limit is {_mega(max_pixels)}; "
            f"raise OCRFLEET_MAX_PIXELS (now {max_pixels}) or shrink the picture"
        )
    needed = estimate(header, limit_side)
    while needed > max_bytes and limit_side > SMALLEST_LIMIT_SIDE:
        smaller = max(SMALLEST_LIMIT_SIDE, limit_side * 3 // 4)
        limit_side, needed = smaller, estimate(header, smaller)
    if needed > max_bytes:
        raise TooLarge(
            f"{name}: {header.description} of {size} needs about {needed >> 20} MiB to decode, {max_bytes >> 20} MiB "
            f"are allowed; {_remedy(header, limit_side, max_bytes)}raise OCRFLEET_MEMORY_LIMIT_MB"
        )
    return limit_side


def _remedy(header: Header, limit_side: int, max_bytes: int) -> str:
    """What else would help: another format, if the same picture needs little enough in it, or smaller pictures."""
    if header.kind == "pdf":  # weighed by what is drawn of it, not by how it is saved
        return ""
    plain = replace(header, channels=3, bytes_per_pixel=3, streams=True, held_bytes=0)
    as_jpeg = max(header.width, header.height) <= MOST_JPEG_SIDE
    if as_jpeg and estimate_bytes(replace(plain, kind="jpeg"), limit_side) <= max_bytes:
        return "save it as baseline JPEG, or "
    if estimate_bytes(replace(plain, kind="png"), limit_side) <= max_bytes:
        return "save it as 8-bit RGB PNG without interlacing, or "
    return "cut it into smaller pictures, or "


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:,.1f}".removesuffix(".0")
