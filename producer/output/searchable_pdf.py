"""A document as it is, with its text under it: a PDF that can be searched and copied from.

A PDF's pages stay as they are. Images are put into a PDF by img2pdf, which copies JPEG, PNG, JPEG 2000 and CCITT data
byte by byte; what PDF knows no such data for (WebP, BMP) is stored without loss. Needs the extra: ocrfleet[pdf].

pikepdf, img2pdf and Pillow read strangers' files, so a process with limits does it: ``python -m
producer.output.searchable_pdf`` reads JSON lines on stdin: ``{"source", "records", "target"}``, which are
percent-encoded file names (``records``: the document's, one a line), and answers each with what went wrong, or nothing.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.errors import first_line, is_out_of_memory
from detector.images.regular_file import Identity, SeenPath, open_regular, seen_as
from detector.memory import limit_memory
from producer.detector_process.line_process import LineProcess
from producer.errors import ProducerError
from producer.job.results_file import iter_records
from producer.output.layout import boxes_in_order
from worker.messages import BoxRecord, ImageRecord, encode

if TYPE_CHECKING:
    import pikepdf

# A TrueType font whose one glyph is a box half an em wide, made with fontTools: readers want a font, and find text by
# the size of its glyphs (PDFium passes over upright empty ones). It is never painted: text rendering mode 3.
_FONT = (
    "eNp9T7sOAUEUPXcHEdkEiUJJolAoaFRK0fsCGc8tbGxii9X5AL/jD0T8hF5DhUrCmVkUhEnOnXPOnfsYCIA0llDAwNcBXHQAydGtTaaLcXfbr1"
    "K3qeveSA91pr0jXxFNj0ZyL1fyDVHx/DCSMxkkzZCazgYaRXaEtIz2dRQggRT5gSgFs3lo5jIfGg2zC3Fcn0q9bOsCpcy7ryNn6ys4L4PiEGee"
    "UT5LrONwepxxvnu+qWN7AwVGsXeCvzC+rbrfLeI+rs3IeyvWNfLlvOG34k9f4e95ALQIMqA="
)
_WIDTH = 500  # of every character, thousandths of its size
_TO_UNICODE = b"""/CIDInit /ProcSet findresource begin
12 dict begin
begincmap
/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def
/CMapName /Adobe-Identity-UCS def
/CMapType 2 def
1 begincodespacerange
<0000> <FFFF>
endcodespacerange
1 beginbfrange
<0000> <FFFF> <0000>
endbfrange
endcmap
CMapName currentdict /CMap defineresource pop
end
end
"""

Place = Callable[[float, float], tuple[float, float]]
"""A point of the upright page, in pixels from its top left, to the PDF's own units."""


class NoPdfLibraryError(ProducerError):
    """pikepdf or img2pdf is not installed."""


class PageNotInPdfError(ProducerError):
    """A source cannot be made into a PDF."""


def check_library() -> None:
    """Raises NoPdfLibraryError if this machine cannot write PDFs."""
    try:
        import img2pdf  # noqa: F401
        import pikepdf  # noqa: F401
    except ModuleNotFoundError as error:
        raise NoPdfLibraryError(
            f"--format pdf needs {error.name}, which is not installed: pip install 'ocrfleet[pdf]'"
        ) from None


def write_pdf(source: Path, records: Iterable[ImageRecord], target: Path) -> None:
    """Writes one document.

    Args:
        source: the PDF or image that was read.
        records: of its pages, in any order.
        target: the file to write.

    Raises:
        PageNotInPdfError: the source is damaged, locked, or no image that PDF can hold.
    """
    import pikepdf

    try:
        with (
            open_regular(source) as file,
            pikepdf.open(file if _is_pdf(file) else io.BytesIO(_pdf_of(file, source))) as pdf,
        ):
            font: pikepdf.Object | None = None
            for record in records:
                if record.page < len(pdf.pages) and record.width and record.height:
                    font = font or _font(pdf)
                    _add_text(pdf, pdf.pages[record.page], record, font)
            pdf.save(target)
    except pikepdf.PasswordError as error:
        raise PageNotInPdfError(f"{source}: is locked with a password; unlock it and export again") from error
    except pikepdf.PdfError as error:
        raise PageNotInPdfError(f"{source}: cannot be written as PDF ({error})") from error


def _is_pdf(file: BinaryIO) -> bool:
    start = file.read(1024)
    file.seek(0)
    return b"%PDF-" in start


def _pdf_of(file: BinaryIO, source: Path) -> bytes:
    """An image, or all pages of a TIFF, as PDF."""
    import img2pdf

    problems = (img2pdf.ImageOpenError, img2pdf.JpegColorspaceError, img2pdf.PdfTooLargeError, ValueError, OSError)
    try:
        try:
            made: bytes = img2pdf.convert(file.read(), rotation=img2pdf.Rotation.ifvalid)
        except (img2pdf.AlphaChannelError, img2pdf.ImageOpenError, NotImplementedError):
            made = img2pdf.convert(_on_white(file), rotation=img2pdf.Rotation.ifvalid)
    except problems as error:
        raise PageNotInPdfError(f"{source}: cannot be put into a PDF ({error})") from error
    return made


def _on_white(file: BinaryIO) -> bytes:
    """A picture with transparency, or of a kind that PDF does not know, as PNG on white paper."""
    from PIL import Image, ImageOps

    file.seek(0)
    with Image.open(file) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
    paper = Image.new("RGBA", upright.size, "white")
    paper.alpha_composite(upright)
    content = io.BytesIO()
    paper.convert("RGB").save(content, "PNG")
    return content.getvalue()


def _font(pdf: pikepdf.Pdf) -> pikepdf.Object:
    from pikepdf import Array, Dictionary, Name, String

    descriptor = Dictionary(
        Type=Name.FontDescriptor,
        FontName=Name.Invisible,
        Flags=5,
        FontBBox=Array([0, 0, _WIDTH, 1000]),
        ItalicAngle=0,
        Ascent=1000,
        Descent=-1,  # not 0: poppler then takes -350, and its words reach a third of a line too far down
        CapHeight=1000,
        StemV=80,
        FontFile2=pdf.make_stream(zlib.decompress(base64.b64decode(_FONT))),
    )
    below = Dictionary(
        Type=Name.Font,
        Subtype=Name.CIDFontType2,
        BaseFont=Name.Invisible,
        CIDSystemInfo=Dictionary(Registry=String("Adobe"), Ordering=String("Identity"), Supplement=0),
        FontDescriptor=pdf.make_indirect(descriptor),
        DW=_WIDTH,
        CIDToGIDMap=pdf.make_stream(b"\0\1" * 65536),  # every character is the box
    )
    return pdf.make_indirect(
        Dictionary(
            Type=Name.Font,
            Subtype=Name.Type0,
            BaseFont=Name.Invisible,
            Encoding=Name("/Identity-H"),
            DescendantFonts=Array([pdf.make_indirect(below)]),
            ToUnicode=pdf.make_stream(_TO_UNICODE),
        )
    )


def _add_text(pdf: pikepdf.Pdf, page: pikepdf.Page, record: ImageRecord, font: pikepdf.Object) -> None:
    from pikepdf import Name

    name = page.add_resource(font, Name.Font, prefix="ocrfleet")
    words = "".join(_words(boxes_in_order(record), _place(page, record), str(name)))
    # What is there may leave a changed coordinate system behind: it is put between q and Q.
    page.contents_add(pdf.make_stream(b"q\n"), prepend=True)
    page.contents_add(pdf.make_stream(f"\nQ\nq BT 3 Tr\n{words}ET Q\n".encode("ascii")))


def _place(page: pikepdf.Page, record: ImageRecord) -> Place:
    """Where a pixel of the upright page is, in the units of a page that may be turned and cropped."""
    x0, y0, x1, y1 = (float(value) for value in page.cropbox)
    x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    turn = 0
    with suppress(AttributeError, TypeError, ValueError):
        turn = int(page.obj.get("/Rotate", 0)) % 360
    wide, high = (y1 - y0, x1 - x0) if turn in (90, 270) else (x1 - x0, y1 - y0)
    across, down = wide / record.width, high / record.height
    if turn == 90:
        return lambda x, y: (x0 + y * down, y0 + x * across)
    if turn == 180:
        return lambda x, y: (x1 - x * across, y0 + y * down)
    if turn == 270:
        return lambda x, y: (x1 - y * down, y1 - x * across)
    return lambda x, y: (x0 + x * across, y1 - y * down)


def _words(boxes: list[BoxRecord], place: Place, font: str) -> Iterator[str]:
    """Text operators: every word as wide and high as it is, along its line, whatever its direction.

    A space follows each: readers of PDFs then need not guess where words end, and PDFium passes over lone characters.
    """
    for box in boxes:
        for word in box.words or ():
            (tx, ty), _, (rx, ry), (ox, oy) = (place(x, y) for x, y in word.points)
            wide, high = ((rx - ox) ** 2 + (ry - oy) ** 2) ** 0.5, ((tx - ox) ** 2 + (ty - oy) ** 2) ** 0.5
            codes = "".join(f"{ord(char) if ord(char) < 0x10000 else 0xFFFD:04X}" for char in word.text)
            if not codes or min(wide, high) < 0.01:
                continue
            stretch = wide / (len(codes) / 4 * _WIDTH / 1000 * high) * 100
            along = ((rx - ox) / wide, (ry - oy) / wide)
            up = ((tx - ox) / high, (ty - oy) / high)
            yield (
                f"{font} {high:.3f} Tf {stretch:.2f} Tz "
                f"{along[0]:.5f} {along[1]:.5f} {up[0]:.5f} {up[1]:.5f} {ox:.3f} {oy:.3f} Tm <{codes}0020> Tj\n"
            )


MEMORY_BYTES = 800 << 20
"""A page is put into a PDF whole; what has transparency is held three times, so 50 megapixels of that fit."""

DOCUMENT_TIMEOUT_S = 120.0


class _Wanted(msgspec.Struct, frozen=True):
    source: str
    records: str
    target: str
    seen: Identity | None = None


class _Answer(msgspec.Struct, frozen=True):
    error: str = ""


class PdfWriter:
    """The process, started at the first document and again after it was lost over one. A context manager."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._child = LineProcess("producer.output.searchable_pdf", DOCUMENT_TIMEOUT_S)
        self._spool = tempfile.TemporaryDirectory(prefix="ocrfleet-pdf-", ignore_cleanup_errors=True)
        self.spool = Path(self._spool.name)

    def __enter__(self) -> PdfWriter:
        """Nothing runs before the first document."""
        return self

    def __exit__(self, *details: object) -> None:
        """End the process and remove temporary files."""
        self._child.stop(kill=details[0] is not None)
        self._spool.cleanup()

    def write(self, source: Path, records: Iterable[ImageRecord], target: Path) -> str:
        """Writes one document, see `write_pdf`. Returns what went wrong, or nothing."""
        pages = self.spool / "records.jsonl"
        with pages.open("wb") as stream:
            stream.writelines(encode(record) + b"\n" for record in records)
        source_name, pages_name, target_name = (quote(os.fsencode(path)) for path in (source, pages, target))
        wanted = _Wanted(source_name, pages_name, target_name, seen_as(source))
        line = self._child.ask(msgspec.json.encode(wanted))
        if not line:
            return f"the PDF process was lost over it, or took longer than {DOCUMENT_TIMEOUT_S:.0f} s"
        return msgspec.json.decode(line, type=_Answer).error


def serve(lines: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""
    for line in lines:
        limit_memory(MEMORY_BYTES)
        wanted = msgspec.json.decode(line, type=_Wanted)
        source, records, target = (
            Path(os.fsdecode(unquote_to_bytes(name))) for name in (wanted.source, wanted.records, wanted.target)
        )
        error = ""
        try:
            write_pdf(SeenPath.to(source, wanted.seen), iter_records(records), target)
        except (PageNotInPdfError, OSError) as reason:
            error = str(reason)
        except Exception as reason:  # Pillow, of a picture that unpacks to too much; whatever else a library raises
            said = (
                "needs too much memory"
                if is_out_of_memory(reason)
                else f"{type(reason).__name__}: {first_line(reason)}"
            )
            error = f"cannot be put into a PDF ({said})"
        answers.write(msgspec.json.encode(_Answer(error)) + b"\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
