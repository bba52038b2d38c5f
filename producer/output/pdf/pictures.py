"""Pages out of pictures: each is drawn upright, whatever its orientation, and is the page that was read.

img2pdf packs a picture as it is stored, JPEG, PNG, JPEG 2000 and fax byte by byte; how it is turned or mirrored stands
in the page's content. Before, img2pdf decided on both: it leaves mirrored pictures as they are, turns TIFFs twice, and
takes a TIFF's thumbnails for pages. What it cannot pack is drawn as it was read, with 8 bits a sample.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from detector.errors import CorruptImage, TooLarge, first_line
from detector.images.decoders.tiff_pieces import page_alone
from detector.images.header import PARSE_ERRORS, Header, open_pillow, read_header
from detector.images.sniff import sniff
from detector.images.tiff import BrokenTiffError, Directory, read_chain, read_page

if TYPE_CHECKING:
    import pikepdf
    from PIL import Image

LEAST_PT, MOST_PT = 3.0, 14_400.0
"""A page's sides (PDF 32000-1, annex C.2). A longer picture is drawn smaller, one of 60,000 dpi larger."""

DRAWN_BYTES = 600 << 20
"""What a picture may take that is drawn as it was read; three quarters of what the process may."""

_GROUP_4 = 4

_TURNS = {
    1: (1, 0, 0, 1, 0, 0),
    2: (-1, 0, 0, 1, 1, 0),
    3: (-1, 0, 0, -1, 1, 1),
    4: (1, 0, 0, -1, 0, 1),
    5: (0, -1, -1, 0, 1, 1),
    6: (0, -1, 1, 0, 0, 1),
    7: (0, 1, 1, 0, 0, 0),
    8: (0, 1, -1, 0, 1, 0),
}
"""EXIF orientation to the matrix that draws the stored picture upright on a page of 1 x 1 (TIFF 6.0, page 36)."""


class _Picture(NamedTuple):
    """What img2pdf is given.

    Attributes:
        data: a file of one picture.
        width, height: as it is stored, pixels.
        orientation: what makes it upright, as EXIF has it.
        dpi: across and down as it is stored; None: as the data say.
    """

    data: bytes
    width: int
    height: int
    orientation: int = 1
    dpi: tuple[float, float] | None = None


def add_pictures(pdf: pikepdf.Pdf, file: BinaryIO, name: str) -> list[tuple[int, int]]:
    """Appends a page for each page of an image file, as workers count them.

    Args:
        pdf: to append to.
        file: the picture; of a TIFF all pages are taken, of anything else the first picture.
        name: for messages.

    Returns:
        (width, height) of each page's picture, upright, pixels.

    Raises:
        ImageError: it cannot be read.
    """
    logging.getLogger("img2pdf").setLevel(logging.CRITICAL)  # it tells of soft masks, and of what we take care of
    kind = sniff(file, name)
    if kind == "tiff":
        return _add_tiff(pdf, file, name)
    stored = partial(_stored, file, kind, name)
    ways = () if kind == "heif" else (stored, partial(_on_white, stored))  # Pillow knows no HEIF
    return [_add(pdf, ways, file, 0, name)]


def _add_tiff(pdf: pikepdf.Pdf, file: BinaryIO, name: str) -> list[tuple[int, int]]:
    try:
        chain = read_chain(file)
        pages = [read_page(file, chain, number) for number in range(len(chain.places))]
    except BrokenTiffError as error:
        raise CorruptImage(f"{name}: the TIFF directory is damaged ({error})") from error
    frames: Image.Image | None = None
    with suppress(*PARSE_ERRORS):
        frames = open_pillow(file, "tiff")
    sizes = []
    for number, page in enumerate(pages):
        ways = (partial(_fax, file, page, frames), partial(_frame, page, frames))
        sizes.append(_add(pdf, ways, file, number, name))
    return sizes


def _add(
    pdf: pikepdf.Pdf, ways: Iterable[Callable[[], _Picture]], file: BinaryIO, number: int, name: str
) -> tuple[int, int]:
    """Appends a page by the first way that works; the last is to draw what was read."""
    import img2pdf

    problems = (
        *(*PARSE_ERRORS, NotImplementedError, AssertionError, img2pdf.ImageOpenError, img2pdf.JpegColorspaceError),
        *(img2pdf.AlphaChannelError, img2pdf.UnsupportedColorspaceError, img2pdf.PdfTooLargeError),
    )
    reason = ""  # not the exception: it would hold what was decoded
    for way in ways:
        try:
            return _append(pdf, way())
        except problems as error:
            reason = first_line(error)
    try:
        return _append(pdf, _as_read(file, number, name))
    except ModuleNotFoundError:  # a producer without the worker's libraries
        raise CorruptImage(f"{name}: page {number + 1} cannot be put into a PDF ({reason})") from None


def _append(pdf: pikepdf.Pdf, picture: _Picture) -> tuple[int, int]:
    """Packs the picture, and draws it upright on a page of its own; its upright size, pixels."""
    import img2pdf
    import pikepdf

    def layout(width: int, height: int, dpi: tuple[float, float]) -> tuple[float, float, float, float]:
        sides = _sides(width, height, picture.dpi or dpi)
        return *sides, *sides

    made = img2pdf.convert(
        picture.data, rotation=img2pdf.Rotation.none, first_frame_only=True, layout_fun=layout, nodate=True
    )
    with pikepdf.open(io.BytesIO(made)) as one:
        _, _, wide, high = (float(value) for value in one.pages[0].mediabox)
        packed = one.pages[0].obj.Resources.XObject.Im0
        if (int(packed.Width), int(packed.Height)) != (picture.width, picture.height):
            raise ValueError(f"its size is {packed.Width}x{packed.Height}, not {picture.width}x{picture.height}")
        image = pdf.copy_foreign(packed)
    lies = picture.orientation >= 5
    wide, high = (high, wide) if lies else (wide, high)
    page = pdf.add_blank_page(page_size=(wide, high)).obj
    page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(Im0=image))
    a, b, c, d, e, f = _TURNS[picture.orientation]
    matrix = " ".join(f"{value:.4f}" for value in (a * wide, b * high, c * wide, d * high, e * wide, f * high))
    page.Contents = pdf.make_stream(f"q {matrix} cm /Im0 Do Q\n".encode("ascii"))
    return (picture.height, picture.width) if lies else (picture.width, picture.height)


def _sides(width: int, height: int, dpi: tuple[float, float]) -> tuple[float, float]:
    """A page's sides, pt. What is 5,000 times as long as wide has pixels that are not square."""
    across, down = 72 * width / (float(dpi[0]) or 96), 72 * height / (float(dpi[1]) or 96)
    if max(across, down) > MOST_PT:
        scale = MOST_PT / max(across, down)
    else:
        scale = min(max(1.0, LEAST_PT / min(across, down)), MOST_PT / max(across, down))
    return max(LEAST_PT, across * scale), max(LEAST_PT, down * scale)


def _stored(file: BinaryIO, kind: str, name: str) -> _Picture:
    """The file as it is."""
    header = read_header(file, kind, name)
    file.seek(0)
    return _Picture(file.read(), header.width, header.height, header.orientation)


def _on_white(stored: Callable[[], _Picture]) -> _Picture:
    """A picture with transparency, or of a kind that img2pdf does not know, on white paper."""
    from PIL import Image

    data, width, height, orientation, _ = stored()
    with Image.open(io.BytesIO(data)) as picture:
        if picture.mode not in ("L", "LA", "P", "PA", "RGB", "RGBA"):
            raise ValueError(f"a picture of mode {picture.mode}")  # what has more bits would be cut at 255
        colours = picture.convert("RGBA")
        dpi = picture.info.get("dpi")
    paper = Image.new("RGBA", colours.size, "white")
    paper.alpha_composite(colours)
    del colours, picture
    return _Picture(_png(paper.convert("RGB")), width, height, orientation, dpi)


def _fax(file: BinaryIO, page: Directory, frames: Image.Image | None) -> _Picture:
    """Fax of group 4, whose bytes are copied if they are one strip."""
    if page.compression != _GROUP_4:
        raise NotImplementedError("no fax")
    place = Header("tiff", page.width, page.height, directory=page.number, place=page.place, sub=page.sub)
    alone = page_alone(file, place)
    if alone is None:
        raise ValueError("it has no data, or too much")
    return _Picture(alone.file.getvalue(), page.width, page.height, page.orientation, _dpi(frames, page))


def _frame(page: Directory, frames: Image.Image | None) -> _Picture:
    """A TIFF's page by Pillow, which turns it upright by itself."""
    from PIL import Image

    if frames is None or page.sub >= 0 or page.bits > 8:
        raise ValueError("a page that Pillow cannot go to, or cuts to 8 bits")
    dpi = _dpi(frames, page)
    frames.load()
    lies = page.orientation >= 5
    width, height = (page.height, page.width) if lies else (page.width, page.height)
    dpi = dpi[::-1] if dpi and lies else dpi
    if frames.mode == "P" and not any(frames.getpalette() or ()):
        raise ValueError("its colours have 8 bits, not 16; Pillow takes them for black, libvips does not")
    if frames.mode in ("L", "LA", "P", "RGB", "RGBA"):
        return _Picture(_png(frames), width, height, 1, dpi)
    if frames.mode not in ("1", "CMYK"):
        raise ValueError(f"a picture of mode {frames.mode}")
    # Without its tags: libtiff ends the process over some (img2pdf, issue 46). Fax in PDF is one strip.
    bare = Image.frombytes(frames.mode, frames.size, frames.tobytes())
    content = io.BytesIO()
    if frames.mode == "1":
        bare.save(content, "TIFF", compression="group4", strip_size=(width + 7) // 8 * height)
    else:
        bare.save(content, "TIFF", icc_profile=frames.info.get("icc_profile"))
    return _Picture(content.getvalue(), width, height, 1, dpi)


def _dpi(frames: Image.Image | None, page: Directory) -> tuple[float, float] | None:
    """Across and down as it is stored; leaves Pillow at the page."""
    if frames is None:
        return None
    frames.seek(page.number)
    dpi: tuple[float, float] | None = frames.info.get("dpi")
    return dpi if dpi and min(dpi) > 1 else None  # Pillow says 1 where nothing is said


def _as_read(file: BinaryIO, number: int, name: str) -> _Picture:
    """The page as the detector saw it, upright, 8 bits a sample: 16 bits, Lab, HEIF, whatever else PDF has no data for.

    Raises:
        ImageError: it cannot be read, or takes more memory than `DRAWN_BYTES`.
    """
    from PIL import Image, ImageChops

    from detector.images.page import open_page

    file.seek(0, os.SEEK_END)  # not where libvips or Pillow left it: `detector.images.source.opened`
    file.seek(0)
    page = open_page(file, number, limit_side=sys.maxsize, max_bytes=DRAWN_BYTES)
    if page.pixels.shape[:2] != (page.height, page.width):
        raise TooLarge(f"{name}: page {number + 1} needs too much memory to be put into a PDF")
    picture, width, height = Image.fromarray(page.pixels), page.width, page.height
    del page  # its pixels
    red, green, blue = picture.split()
    if not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox():
        picture = red
    return _Picture(_png(picture), width, height)


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG", icc_profile=picture.info.get("icc_profile"))
    return content.getvalue()
