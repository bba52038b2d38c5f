"""A document as hOCR 1.2, https://kba.github.io/hocr-spec/1.2/: what Tesseract writes, and OCRmyPDF reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

from msgspec.structs import replace

from producer.bounds import MOST_PAGES_OF_A_FILE
from producer.output.layout import Block, Rectangle, around, blocks_of, boxes_of, clean, rectangle
from producer.output.naming import shortened
from worker.messages import BoxRecord, ImageRecord

HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
<head>
<title></title>
<meta http-equiv="Content-Type" content="text/html;charset=utf-8" />
<meta name="ocr-system" content="ocrfleet" />
<meta name="ocr-capabilities" content="ocr_page ocr_carea ocr_par ocr_line ocrx_word" />
</head>
<body>
"""
TAIL = "</body>\n</html>\n"


def hocr(pages: Iterable[ImageRecord], filled: Callable[[int], bool] = lambda missing: True) -> Iterator[str]:
    """The pieces of one document's hOCR, page by page. A page that failed, or has no record, is there without text.

    Args:
        pages: of the document, in their order.
        filled: whether so many pages that have no record, one after the other, are to be there.
    """
    yield HEAD
    number = 0
    for record in pages:
        place = max(number, min(record.page, MOST_PAGES_OF_A_FILE))
        if place > number and filled(place - number):
            # For each of them the name comes once more: one of 3 MB was 300 GB.
            empty = replace(record, image=shortened(record.image), width=0, height=0, boxes=[])
            for missing in range(number, place):
                yield page_hocr(replace(empty, page=missing), missing + 1)
        number = place + 1
        yield page_hocr(record, number)
    yield TAIL


def page_hocr(record: ImageRecord, number: int) -> str:
    """One page: areas, in each a paragraph, lines, words.

    Args:
        record: of the page.
        number: of the page in its document, from 1; ids begin with it.
    """
    # The name comes last, since readers look for the first "bbox", wherever it stands; and hOCR has no way to say a
    # quote inside of quotes, nor most readers one to say a semicolon. What the name is exactly names.csv tells.
    name = clean(record.image).replace('"', "%22").replace(";", "%3B")
    title = f'bbox 0 0 {record.width} {record.height}; ppageno {record.page}; image "{name}"'
    areas = "".join(_area(block, record, f"{number}_{count}") for count, block in enumerate(blocks_of(record), 1))
    return f'<div class="ocr_page" id="page_{number}" title={quoteattr(title)}>\n{areas}</div>\n'


def _area(block: Block, record: ImageRecord, number: str) -> str:
    box = _bbox(around(boxes_of(block), record))
    lines = "".join(_line(line, record, f"{number}_{count}") for count, line in enumerate(boxes_of(block), 1))
    return (
        f'<div class="ocr_carea" id="block_{number}" title="{box}">\n'
        f'<p class="ocr_par" id="par_{number}" title="{box}">\n{lines}</p>\n</div>\n'
    )


def _line(box: BoxRecord, record: ImageRecord, number: str) -> str:
    title = _bbox(rectangle(box.outline, record))
    if box.angle:  # hOCR counts counter-clockwise
        title += f"; textangle {-box.angle % 360:g}"
    words = " ".join(
        f'<span class="ocrx_word" id="word_{number}_{count}" '
        f'title="{_bbox(rectangle(word.points, record))}; x_wconf {round(100 * word.score)}">'
        f"{escape(clean(word.text))}</span>"
        for count, word in enumerate(box.words or (), 1)
    )
    return f'<span class="ocr_line" id="line_{number}" title="{title}">{words}</span>\n'


def _bbox(box: Rectangle) -> str:
    return f"bbox {box.left} {box.top} {box.right} {box.bottom}"
