"""One page as PAGE XML, the format of layout and transcription tools such as Transkribus, eScriptorium and OCR-D.

Schema: https://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15/pagecontent.xsd
"""

from __future__ import annotations

import time
from xml.sax.saxutils import escape, quoteattr

from producer.output.layout import Block, blocks_of, boxes_of, clean, is_read
from worker.messages import BoxRecord, ImageRecord

NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
LOCATION = f"{NAMESPACE} {NAMESPACE}/pagecontent.xsd"


def page_xml(record: ImageRecord, created: float | None = None) -> str:
    """The PAGE XML of one page: a `TextLine` for each box, with its text and words if it was read.

    Args:
        record: a page that is fine.
        created: seconds since the epoch; default now.
    """
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created)) + "Z"
    name = quoteattr(clean(record.image), {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})
    width, height = max(1, record.width), max(1, record.height)
    creator = f"ocrfleet, {record.model.name} {record.model.runtime}" if record.model else "ocrfleet"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<PcGts xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{LOCATION}">\n'
        f"  <Metadata>\n    <Creator>{escape(clean(creator))}</Creator>\n    <Created>{stamp}</Created>\n"
        f"    <LastChange>{stamp}</LastChange>\n  </Metadata>\n"
        f'  <Page imageFilename={name} imageWidth="{width}" imageHeight="{height}">\n'
        f"{_regions(record)}"
        "  </Page>\n</PcGts>\n"
    )


def _regions(record: ImageRecord) -> str:
    """A region around all boxes of a page that was not read, else one around each block, in reading order.

    A region needs lines: a page without text has none.
    """
    if not record.boxes:
        return ""
    read = is_read(record)
    blocks: list[Block] = blocks_of(record) if read else [[record.boxes]]
    order = "".join(f'<RegionRefIndexed index="{n}" regionRef="r{n + 1}"/>' for n in range(len(blocks)))
    ordered = f'    <ReadingOrder><OrderedGroup id="g1">{order}</OrderedGroup></ReadingOrder>\n' if read else ""
    regions, lines = [], 0
    for number, block in enumerate(blocks, 1):
        regions.append(_region(list(boxes_of(block)), record, number, lines))
        lines += len(list(boxes_of(block)))
    return ordered + "".join(regions)


def _region(boxes: list[BoxRecord], record: ImageRecord, number: int, before: int) -> str:
    """One region with its lines, whose ids go on after those of the regions before it."""
    width, height = max(1, record.width), max(1, record.height)
    xs = [x for box in boxes for x, _ in box.outline]
    ys = [y for box in boxes for _, y in box.outline]
    around = [(min(xs), min(ys)), (max(xs), min(ys)), (max(xs), max(ys)), (min(xs), max(ys))]
    lines = "".join(
        f'      <TextLine id="l{count}">\n'
        f'        <Coords points="{_points(box.outline, width, height)}" conf="{_share(box.score)}"/>\n'
        f"{_text(box, count, width, height)}"
        "      </TextLine>\n"
        for count, box in enumerate(boxes, before + 1)
    )
    return (
        f'    <TextRegion id="r{number}">\n      <Coords points="{_points(around, width, height)}"/>\n{lines}'
        "    </TextRegion>\n"
    )


def _text(box: BoxRecord, number: int, width: int, height: int) -> str:
    """What a line holds beside its place: words, then its text; nothing if it was not read."""
    if box.text is None:
        return ""
    words = "".join(
        f'        <Word id="w{number}_{count}"><Coords points="{_points(word.points, width, height)}"/>'
        f'<TextEquiv conf="{_share(word.score)}"><Unicode>{escape(clean(word.text))}</Unicode></TextEquiv></Word>\n'
        for count, word in enumerate(box.words or (), 1)
    )
    score = _share(box.text_score or 0.0)
    text = escape(clean(box.text))
    return words + f'        <TextEquiv conf="{score}"><Unicode>{text}</Unicode></TextEquiv>\n'


def _share(value: float) -> str:
    return f"{min(max(value, 0), 1):.4f}"


def _points(points: list[tuple[float, float]], width: int, height: int) -> str:
    """Whole, non-negative pixels, as the schema demands."""
    return " ".join(f"{min(max(round(x), 0), width)},{min(max(round(y), 0), height)}" for x, y in points)
