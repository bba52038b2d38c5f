"""One page as ALTO 4, the format of libraries beside METS. Schema: https://www.loc.gov/standards/alto/v4/alto-4-2.xsd."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from producer.output.layout import Block, Rectangle, around, blocks_of, boxes_of, clean, rectangle
from worker.messages import BoxRecord, ImageRecord

NAMESPACE = "http://www.loc.gov/standards/alto/ns-v4#"
LOCATION = f"{NAMESPACE} http://www.loc.gov/standards/alto/v4/alto-4-2.xsd"


def alto_xml(record: ImageRecord) -> str:
    """The ALTO of one page, in pixels: blocks, lines, words with their confidence.

    Args:
        record: a page that is fine.
    """
    blocks = "".join(_block(block, record, number) for number, block in enumerate(blocks_of(record), 1))
    whole = f'HPOS="0" VPOS="0" WIDTH="{record.width}" HEIGHT="{record.height}"'
    model = clean(f"{record.model.name} {record.model.runtime}" if record.model else "")
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<alto xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{LOCATION}">\n'
        "<Description>\n<MeasurementUnit>pixel</MeasurementUnit>\n"
        f"<sourceImageInformation><fileName>{escape(clean(record.image))}</fileName></sourceImageInformation>\n"
        '<Processing ID="ocrfleet"><processingStepSettings>'
        f"{escape(model)}</processingStepSettings><processingSoftware><softwareName>ocrfleet</softwareName>"
        "</processingSoftware></Processing>\n</Description>\n"
        f'<Layout>\n<Page ID="page_{record.page + 1}" PHYSICAL_IMG_NR="{record.page + 1}" '
        f'WIDTH="{record.width}" HEIGHT="{record.height}">\n<PrintSpace {whole}>\n{blocks}'
        "</PrintSpace>\n</Page>\n</Layout>\n</alto>\n"
    )


def _block(block: Block, record: ImageRecord, number: int) -> str:
    lines = "".join(_line(box, record, f"{number}_{count}") for count, box in enumerate(boxes_of(block), 1))
    return f'<TextBlock ID="block_{number}" {_place(around(boxes_of(block), record))}>\n{lines}</TextBlock>\n'


def _line(box: BoxRecord, record: ImageRecord, number: str) -> str:
    """A line. The schema wants a word in each, so a line without text has an empty one."""
    place = _place(rectangle(box.outline, record))
    words = [
        f'<String ID="word_{number}_{count}" {_place(rectangle(word.points, record))} '
        f'WC="{min(max(word.score, 0), 1):.4f}" CONTENT={_attribute(word.text)}/>'
        for count, word in enumerate(box.words or (), 1)
    ] or [f'<String ID="word_{number}_1" {place} CONTENT=""/>']
    corners = " ".join(f"{x:g},{y:g}" for x, y in box.outline)
    shape = f'<Shape><Polygon POINTS="{corners}"/></Shape>'
    return f'<TextLine ID="line_{number}" {place}>{shape}{"<SP/>".join(words)}</TextLine>\n'


def _place(box: Rectangle) -> str:
    return f'HPOS="{box.left}" VPOS="{box.top}" WIDTH="{box.width}" HEIGHT="{box.height}"'


def _attribute(text: str) -> str:
    return quoteattr(clean(text), {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})
