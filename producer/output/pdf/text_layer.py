"""The text of a page of a PDF: invisible, each word where it was read, in front of what the page draws itself."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

from producer.output.layout import boxes_in_order, plain
from producer.output.pdf.saving import packed
from worker.messages import BoxRecord, ImageRecord

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


_Box = tuple[float, float, float, float]  # left, bottom, right, top, in the PDF's units

_MOST_LEVELS = 1024  # of a page tree; as many as pdfium follows


def make_font(pdf: pikepdf.Pdf) -> pikepdf.Object:
    """The font of all our text, once a document."""
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
        FontFile2=packed(pdf, zlib.decompress(base64.b64decode(_FONT))),
    )
    below = Dictionary(
        Type=Name.Font,
        Subtype=Name.CIDFontType2,
        BaseFont=Name.Invisible,
        CIDSystemInfo=Dictionary(Registry=String("Adobe"), Ordering=String("Identity"), Supplement=0),
        FontDescriptor=pdf.make_indirect(descriptor),
        DW=_WIDTH,
        CIDToGIDMap=packed(pdf, b"\0\1" * 65536),  # every character is the box
    )
    return pdf.make_indirect(
        Dictionary(
            Type=Name.Font,
            Subtype=Name.Type0,
            BaseFont=Name.Invisible,
            Encoding=Name("/Identity-H"),
            DescendantFonts=Array([pdf.make_indirect(below)]),
            ToUnicode=packed(pdf, _TO_UNICODE),
        )
    )


def add_text(pdf: pikepdf.Pdf, page: pikepdf.Page, record: ImageRecord, font: pikepdf.Object) -> int:
    """Puts a page's words on it.

    They come first: no page can then do anything to them, whatever it leaves open behind it. Behind a Q too many, or in
    an unclosed string, poppler found no text at all, and behind a changed coordinate system it lay elsewhere.

    Args:
        pdf: the document.
        page: of it.
        record: what was read on that page; with a width and a height.
        font: see `make_font`.

    Returns:
        Bytes of the words, packed.
    """
    from pikepdf import Array, Stream

    words = "".join(_words(boxes_in_order(record), _place(page.obj, record), _name_of(page.obj, font)))
    layer = packed(pdf, f"q BT 3 Tr\n{words}ET Q\n".encode("ascii"))
    contents = page.obj.get("/Contents")
    own = contents if isinstance(contents, Array) else [contents]
    page.obj.Contents = Array([layer, *(part for part in own if isinstance(part, Stream))])
    return len(layer.read_raw_bytes())


def _name_of(page: pikepdf.Object, font: pikepdf.Object) -> str:
    """What the page's resources call the font."""
    from pikepdf import Dictionary

    resources = _inherited(page, "/Resources")
    if not isinstance(resources, Dictionary):
        resources = page.Resources = Dictionary()
    if not isinstance(resources.get("/Font"), Dictionary):
        resources.Font = Dictionary()
    for number in count():
        name = f"/ocrfleet{number}"
        if name not in resources.Font:
            resources.Font[name] = font
            return name
        if isinstance(taken := resources.Font[name], Dictionary) and taken.objgen == font.objgen:
            return name
    raise AssertionError


def _inherited(page: pikepdf.Object, key: str) -> object:
    """What a page has of this name, or those above it in the page tree."""
    from pikepdf import Dictionary

    node: object = page
    for _ in range(_MOST_LEVELS):
        if not isinstance(node, Dictionary):
            break
        if (value := node.get(key)) is not None:
            return value
        node = node.get("/Parent")
    return None


def _box(page: pikepdf.Object, key: str) -> _Box | None:
    """One of a page's boxes; None if it has none, or that has no area."""
    from pikepdf import Array

    value = _inherited(page, key)
    if not isinstance(value, Array) or len(value) != 4:
        return None
    sides = [0.0] * 4
    for number, side in enumerate(value):
        with suppress(TypeError, ValueError):  # pdfium takes what is no number for 0
            sides[number] = float(side)
    x0, x1 = sorted(sides[::2])
    y0, y1 = sorted(sides[1::2])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _seen(page: pikepdf.Object) -> _Box:
    """What is seen of a page: its crop box as far as it lies in the media box (PDF 32000-1, 14.11.2)."""
    media = _box(page, "/MediaBox") or (0.0, 0.0, 612.0, 792.0)
    crop = _box(page, "/CropBox") or media
    x0, y0, x1, y1 = max(media[0], crop[0]), max(media[1], crop[1]), min(media[2], crop[2]), min(media[3], crop[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else media


def _place(page: pikepdf.Object, record: ImageRecord) -> Place:
    """Where a pixel of the upright page is, in the units of a page that may be turned and cropped."""
    x0, y0, x1, y1 = _seen(page)
    turn = 0
    with suppress(TypeError, ValueError):
        turn = int(_inherited(page, "/Rotate") or 0) % 360  # type: ignore[call-overload]
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
            codes = "".join(f"{ord(char) if ord(char) < 0x10000 else 0xFFFD:04X}" for char in plain(word.text))
            if not codes or min(wide, high) < 0.01:
                continue
            stretch = wide / (len(codes) / 4 * _WIDTH / 1000 * high) * 100
            along = ((rx - ox) / wide, (ry - oy) / wide)
            up = ((tx - ox) / high, (ty - oy) / high)
            yield (
                f"{font} {high:.3f} Tf {stretch:.2f} Tz "
                f"{along[0]:.5f} {along[1]:.5f} {up[0]:.5f} {up[1]:.5f} {ox:.3f} {oy:.3f} Tm <{codes}0020> Tj\n"
            )
