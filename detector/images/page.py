"""One page of one file, inside a pixel budget: decoded small, upright, RGB."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import cv2
import numpy as np

from detector.errors import CorruptImage, TooLarge, UnsupportedFormat
from detector.images.budget import (
    DEFAULT_MAX_BYTES,
    DEFAULT_MAX_PIXELS,
    by_vips,
    check_budget,
    estimate_bytes,
    estimate_strip_bytes,
    in_strips,
)
from detector.images.decode import Pixels, decode_pillow, decode_webp
from detector.images.decoders.damage import LEAST_SHARE, Decoded, refuse_unless_most
from detector.images.decoders.jpeg import decode_jpeg, is_harmless
from detector.images.decoders.tiff import decode_tiff, is_of_directory, is_whole
from detector.images.header import Header, count_frames, read_header
from detector.images.pdf_tree import believed, listed_pages
from detector.images.sizes import target_size
from detector.images.sniff import PAGED_KINDS, SNIFFED_BYTES, kind_of, sniff
from detector.images.source import Source, opened

if TYPE_CHECKING:
    from detector.images.decoders.pdf_pictures import Unread
    from detector.images.decoders.pdf_text import LostText
    from detector.images.vips import VipsStrips

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DEFAULT_MAX_PIXELS",
    "Page",
    "StripPage",
    "count_paged",
    "count_pages",
    "open_page",
    "open_strips",
    "page_header",
]

MakeRoom = Callable[[int], None]

MOST_FINE = 2000
"""Long side, pixels, up to which a PDF's small page is drawn finer than at 200 dpi; A4 has 2,339 and never is."""

MOST_TEXT_LOST = 0.5
"""Of what is on a PDF's page; more is no page. Less is `damaged`: most of it can be read."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page ready for the detector.

    Attributes:
        pixels: (H, W, 3) uint8 RGB, C-contiguous, upright, already shrunk; of a PDF's small page more than width and
            height where its pictures have more.
        width, height: the original upright size in pixels; of a PDF page, its size at 200 dpi.
        flags: of "downscaled" (pixels are fewer than the original), "exif_rotated" (turned upright as the file's
            orientation tag asks), "page_rendered" (a PDF page), "degraded" (smaller than asked, to fit into memory),
            "attachments" (a PDF that carries files; they are not read), "xfa" (of a form that Acrobat alone draws),
            "more_pictures" (the file has others, which are not read: an animation's frames, say), "damaged" (rows are
            missing, or of a PDF pictures or text: see `share`).
        share: of a damaged page that could be read.
    """

    pixels: Pixels
    width: int
    height: int
    flags: tuple[str, ...] = ()
    share: float | None = None


@dataclass(frozen=True, slots=True)
class StripPage:
    """A page that is read from top to bottom and never in memory as a whole.

    Attributes:
        strips: its rows, upright, already shrunk.
        width, height, flags: as those of `Page`.
    """

    strips: VipsStrips
    width: int
    height: int
    flags: tuple[str, ...] = ()


def open_page(
    source: Source,
    page: int = 0,
    *,
    limit_side: int,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
    make_room: MakeRoom | None = None,
) -> Page:
    """Opens one page so that its long side is at most `limit_side` (thin pages: see `images.sizes.target_size`).

    The header is read and weighed first, then the format's cheapest decoder runs: JPEG scales while decoding, large
    PNG/TIFF/WebP are streamed, PDF is drawn at the size needed. The rest of the way down is cv2.INTER_AREA. Pages are
    never enlarged. Of animations the first frame counts; transparency is put on white; EXIF/TIFF orientation is
    applied exactly once.

    Args:
        source: a path, a file's content as bytes, or a file object (see `detector.images.source.opened`).
        page: of a multi-page TIFF or PDF, counted from 0.
        limit_side: longest side wanted, pixels.
        max_pixels: refuse pages that claim more.
        max_bytes: decode smaller, or refuse, pages that would need more memory (estimated) than this.
        make_room: called before decoding with the memory (bytes) it will take, estimated.

    Raises:
        NotFound: no such file or page, or it may not be read.
        CorruptImage: empty, damaged or cut off.
        UnsupportedFormat: nothing this program reads, locked, or a PDF's page most of whose text is in fonts that are
            neither in the file nor on the machine.
        TooLarge: over `max_pixels` or `max_bytes`; nothing was decoded.
    """
    with opened(source) as (file, name):
        kind = sniff(file, name)
        if kind == "pdf":
            return _open_pdf(file, page, name, limit_side, max_pixels, max_bytes, make_room)
        header = _header(file, kind, name, page)
        affordable = check_budget(header, name, limit_side, max_pixels, max_bytes)
        if make_room:
            make_room(estimate_bytes(header, affordable))
        target = target_size(header.width, header.height, affordable)
        decoded = _decode(file, header, target, name, max_bytes)
        pixels = shrink_to(decoded.pixels, target)
    width, height = header.upright_size
    flags = ["downscaled"] if target != (header.width, header.height) else []
    if header.orientation != 1:
        flags.append("exif_rotated")
    if header.more:
        flags.append("more_pictures")
    if affordable < limit_side:
        flags.append("degraded")
    if decoded.share is not None:
        flags.append("damaged")
    return Page(turn_upright(pixels, header.orientation), width, height, tuple(flags), decoded.share)


@contextmanager
def open_strips(
    source: Source,
    page: int = 0,
    *,
    limit_side: int,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
    make_room: MakeRoom | None = None,
) -> Iterator[StripPage | None]:
    """Opens a large page for reading in strips; arguments and errors are those of `open_page`.

    Yields:
        The page; None if it is small, or of a format, orientation or depth that must be held whole: take `open_page`.
        So over a CorruptImage that its rows raise: some of it may be there, and `open_page` says how much.
    """
    with opened(source) as (file, name):
        kind = sniff(file, name)
        header = None if kind == "pdf" else _header(file, kind, name, page)
        if header is None or not in_strips(header, limit_side) or not is_whole(file, header):
            yield None
            return
        from detector.images.vips import VipsStrips

        affordable = check_budget(header, name, limit_side, max_pixels, max_bytes, estimate_strip_bytes)
        if make_room:
            make_room(estimate_strip_bytes(header, affordable))
        target = target_size(header.width, header.height, affordable)
        harmless = {"jpeg": is_harmless, "tiff": is_of_directory}.get(header.kind)
        strips = VipsStrips(file, header, target, name, harmless)
        flags = ["downscaled"] if target != (header.width, header.height) else []
        if header.more:
            flags.append("more_pictures")
        if affordable < limit_side:
            flags.append("degraded")
        yield StripPage(strips, header.width, header.height, tuple(flags)) if strips.eight_bit else None


def page_header(source: Source, page: int = 0) -> Header:
    """What the file says about a page, without decoding it; for memory estimates.

    Raises:
        NotFound, CorruptImage, UnsupportedFormat: as `open_page`.
    """
    with opened(source) as (file, name):
        kind = sniff(file, name)
        if kind != "pdf":
            return _header(file, kind, name, page)
        from detector.images.pdf import PdfPage

        with PdfPage(file, page, name) as pdf_page:
            return pdf_page.header


def count_paged(source: Source) -> int:
    """Pages of a TIFF or PDF; 0 for anything else.

    Raises:
        NotFound, CorruptImage, UnsupportedFormat: as `open_page`.
    """
    with opened(source) as (file, name):
        kind = kind_of(file.read(SNIFFED_BYTES), name)
    return count_pages(source) if kind in PAGED_KINDS else 0


def count_pages(source: Source) -> int:
    """Pages in a file: of a TIFF or PDF all, of anything else (animations, JPEG with previews too) one.

    Raises:
        NotFound, CorruptImage, UnsupportedFormat: as `open_page`.
    """
    with opened(source) as (file, name):
        kind = sniff(file, name)
        if kind == "tiff":
            return count_frames(file, name)
        if kind == "pdf":
            from detector.images.pdf import count_pdf_pages

            return count_pdf_pages(file, name)
    return 1


def count_believed(source: Source) -> tuple[int, str]:
    """As `count_pages`, of a PDF as far as its page tree bears them out; and why it may have others, empty if not.

    Raises:
        NotFound, CorruptImage, UnsupportedFormat: as `open_page`.
    """
    pages = count_pages(source)
    with opened(source) as (file, name):
        return believed(pages, listed_pages(file, pages)) if sniff(file, name) == "pdf" else (pages, "")


def _open_pdf(
    file: BinaryIO, page: int, name: str, limit_side: int, max_pixels: int, max_bytes: int, make_room: MakeRoom | None
) -> Page:
    from detector.images.pdf import PdfPage

    with PdfPage(file, page, name) as pdf_page:
        header = pdf_page.header
        long, most = max(header.width, header.height), min(limit_side, MOST_FINE)
        detail = pdf_page.detail(header) if long < most else 1.0
        finer = min(detail, max(1.0, most / long))
        drawn = replace(header, width=round(header.width * finer), height=round(header.height * finer))
        affordable = check_budget(drawn, name, limit_side, max_pixels, max_bytes)
        if make_room:
            make_room(estimate_bytes(drawn, affordable))
        target = target_size(drawn.width, drawn.height, affordable)
        pixels = shrink_to(pdf_page.render(target), target)
        missing = pdf_page.unread(pixels, max_bytes, make_room)
        if not missing.beside:
            _refuse_unread(missing, header, name, max_bytes)
        lost = pdf_page.lost_text(pixels)
        _refuse_unless_most_text(lost, header, name)
    flags = ["downscaled"] if finer < detail or target != (drawn.width, drawn.height) else []
    flags += ["page_rendered", *pdf_page.flags]
    if affordable < limit_side:
        flags.append("degraded")
    share = (1.0 - missing.share) * (1.0 - lost.share)
    if share == 1.0:
        return Page(np.ascontiguousarray(pixels), header.width, header.height, tuple(flags))
    flags.append("damaged")
    return Page(np.ascontiguousarray(pixels), header.width, header.height, tuple(flags), share)


def _refuse_unread(missing: Unread, header: Header, name: str, max_bytes: int) -> None:
    if missing.needed and missing.share > 1.0 - LEAST_SHARE:
        allowed = f"{max_bytes >> 20} MiB are allowed; raise OCRFLEET_MEMORY_LIMIT_MB"
        raise TooLarge(f"{name}: the {header.description} cannot be drawn: {missing.reason}, {allowed}")
    refuse_unless_most(1.0 - missing.share, header.description, name, missing.reason)


def _refuse_unless_most_text(lost: LostText, header: Header, name: str) -> None:
    if lost.share > MOST_TEXT_LOST:
        what = f"{math.floor(lost.share * 100)} % of the {header.description} is text in fonts that are neither"
        remedy = "install them (East Asian ones: apt-get install fonts-wqy-microhei), or embed them in the file"
        raise UnsupportedFormat(f"{name}: {what} in the file nor on this machine ({', '.join(lost.fonts)}); {remedy}")


def _header(file: BinaryIO, kind: str, name: str, page: int) -> Header:
    if kind != "heif" or page:
        return read_header(file, kind, name, page)
    from detector.images.decoders.heif import heif_header

    return heif_header(file, name)


def _decode(file: BinaryIO, header: Header, target: tuple[int, int], name: str, max_bytes: int) -> Decoded:
    if header.kind == "jpeg":
        return decode_jpeg(file, header, target, name)
    if header.kind == "tiff":
        return decode_tiff(file, header, target, name, max_bytes)
    if header.kind == "heif":
        from detector.images.decoders.heif import decode_heif

        return decode_heif(file, header, target, name)
    if by_vips(header):
        from detector.images.vips import decode_vips

        return Decoded(decode_vips(file, header, target, name))
    if header.kind == "webp" and header.channels == 3:
        return Decoded(decode_webp(file, header, name))
    pixels = decode_pillow(file, header, target, name)
    if header.kind == "avif":
        from detector.images.decoders.remarked import avif_damage

        if damage := avif_damage(file):
            raise CorruptImage(f"{name}: the {header.description} data is damaged or cut off ({damage})")
    return Decoded(pixels)


def shrink_to(pixels: Pixels, target: tuple[int, int]) -> Pixels:
    """To exactly `target` (width, height); decoders stay at or above it."""
    if (pixels.shape[1], pixels.shape[0]) == target:
        return pixels
    return cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def turn_upright(pixels: Pixels, orientation: int) -> Pixels:
    """Applies the EXIF orientation (EXIF 2.3, tag 0x0112) to a picture of stored orientation."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # After the transposition of 5-8, what is left is a mirroring: 6 and 7 left-right, 7 and 8 upside-down.
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
