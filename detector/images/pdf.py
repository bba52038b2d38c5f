"""PDF pages, rendered by pdfium straight at the size the network wants; a large page is never drawn large."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO

from detector.errors import CorruptImage, NotFound, UnsupportedFormat
from detector.images.regular_file import read_error

if TYPE_CHECKING:  # whoever only counts pages (count_pages.py) loads no OpenCV: half of such a process's start
    from detector.images.decode import Pixels
    from detector.images.decoders.pdf_pictures import Unread
    from detector.images.decoders.pdf_text import LostText
    from detector.images.header import Header

REFERENCE_DPI = 200
"""A PDF page has no pixels of its own; its boxes are told in pixels of the page at this resolution (72 pt = 200 px)."""

MOST_POINTS = 1e8
"""Of a page's side: 35 km. Some say 3e39, which is infinite, or so much that no record can hold its boxes."""

FINE = 2.0
"""Times 200 dpi, from which on the pictures of a small page are drawn finer: see `page.MOST_FINE`."""


@functools.cache
def _pdfium() -> ModuleType:
    import pypdfium2

    module: ModuleType = pypdfium2
    return module


def count_pdf_pages(file: BinaryIO, name: str) -> int:
    """Pages of a PDF.

    Raises:
        UnsupportedFormat: a password is needed.
        CorruptImage: no PDF reader could open it.
    """
    document = _open(file, name)
    try:
        return len(document)
    finally:
        document.close()


class PdfPage:
    """One open page: first ask its `header`, then `render` it. Use as a context manager.

    Raises:
        UnsupportedFormat: a password is needed.
        CorruptImage: the document or the page is damaged.
        NotFound: there is no such page.
    """

    def __init__(self, file: BinaryIO, page: int, name: str) -> None:
        from detector.images.decoders.pdf_fields import is_drawn_by_its_reader, load_page

        self.name = name
        self._file, self._number = file, page
        self._document = _open(file, name)
        try:
            pages = len(self._document)
            if not 0 <= page < pages:
                raise NotFound(f"{name}: has {pages} pages, page {page} (counted from 0) was asked for")
            self._page = load_page(self._document, page)
            self._points = self._size()  # (width, height) in pt, the page's rotation applied
            self.flags = ["attachments"] if page == 0 and self._document.count_attachments() else []
            if is_drawn_by_its_reader(self._document):
                self.flags.append("xfa")
        except _pdfium().PdfiumError as error:
            self._document.close()
            raise CorruptImage(f"{name}: page {page + 1} of {pages} of the PDF is damaged ({error})") from error
        except (NotFound, CorruptImage):
            self._document.close()
            raise

    def _size(self) -> tuple[float, float]:
        """The page's size; where its boxes do not meet, a crop box beside the media box, that of the media box."""
        width, height = self._page.get_size()
        if min(width, height) <= 0:
            self._page.set_cropbox(*self._page.get_mediabox())
            width, height = self._page.get_size()
        if not (0 < width <= MOST_POINTS and 0 < height <= MOST_POINTS):
            raise CorruptImage(f"{self.name}: the PDF page has no area, or too large a one ({width:g}x{height:g} pt)")
        return width, height

    def __enter__(self) -> PdfPage:
        return self

    def __exit__(self, *exc: object) -> None:
        self._document.close()

    @property
    def header(self) -> Header:
        """The page's size in pixels at 200 dpi."""
        from detector.images.header import Header

        width, height = (max(1, round(side * REFERENCE_DPI / 72)) for side in self._points)
        return Header("pdf", width, height, description="PDF page")

    def detail(self, header: Header) -> float:
        """How many times finer than 200 dpi the pictures are that make up the page; 1 below `FINE` or where none do.

        A film's frame of its true size is 13 mm wide: at 200 dpi nothing can be read on it.
        """
        from detector.images.decoders.pdf_objects import pictures_on, size_of

        pixels = area = 0
        for picture in pictures_on(self._page.raw, header.width, header.height):
            pixels += math.prod(size_of(picture.object))
            area += picture.area
        finer = math.sqrt(pixels / area) if area >= header.width * header.height / 2 else 1.0
        return finer if finer >= FINE else 1.0

    def render(self, target: tuple[int, int], paper: tuple[int, int, int] = (255, 255, 255)) -> Pixels:
        """Draws the page.

        Args:
            target: (width, height) wanted, pixels; the result may differ by a pixel.
            paper: the colour that it is drawn on, RGB.

        Returns:
            (H, W, 3) uint8 RGB.
        """
        import numpy as np

        # By the longer side: a page thinner than a pixel is drawn a pixel thin, not a hundred times as long.
        scale = max(target) / max(self._points)
        try:
            bitmap: Any = self._page.render(
                scale=scale, fill_color=(*paper, 255), rev_byteorder=True, prefer_bgrx=False
            )
            pixels = np.array(bitmap.to_numpy()[:, :, :3])
            bitmap.close()
        except (_pdfium().PdfiumError, RuntimeError, ValueError) as error:
            raise CorruptImage(f"{self.name}: the PDF page cannot be drawn ({error})") from error
        return pixels

    def unread(self, pixels: Pixels, max_bytes: int, make_room: Callable[[int], None] | None = None) -> Unread:
        """What is missing on the page that was drawn; see `decoders.pdf_pictures.Drawn`."""
        from detector.images.decoders.pdf_pictures import PAPER, Drawn, unread

        def redraw() -> Pixels:
            return self.render((pixels.shape[1], pixels.shape[0]), PAPER)

        raw = self._document.raw, self._page.raw
        return unread(Drawn(*raw, pixels, self.name, max_bytes, redraw, make_room, self._file, self._number))

    def lost_text(self, pixels: Pixels) -> LostText:
        """What its fonts keep from the page that was drawn; see `decoders.pdf_text.lost_text`."""
        from detector.images.decoders.pdf_text import lost_text

        return lost_text(self._page.raw, pixels)


class _Quiet:
    """A file as pdfium asks for it, whose errors are nothing read: they are remembered, and asked for in the end.

    An exception that leaves it in the middle of pdfium is lost, and each is printed: 2,900 lines of one page.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.read = file.seek, file.tell, file.read

    def readinto(self, buffer: Any) -> int:
        if read_error(self._file):
            return 0  # nor waited for again: a network folder may take a minute to say so
        try:
            return int(self._file.readinto(buffer))  # type: ignore[attr-defined]
        except OSError:
            return 0


def _open(file: BinaryIO, name: str) -> Any:
    pdfium = _pdfium()
    file.seek(0)
    try:
        return pdfium.PdfDocument(_Quiet(file))
    except pdfium.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnsupportedFormat(
                f"{name}: the PDF is locked by a password; unlock it first, for example: qpdf --decrypt in.pdf out.pdf"
            ) from error
        raise CorruptImage(f"{name}: the PDF is damaged ({error}); `qpdf in.pdf out.pdf` may repair it") from error
