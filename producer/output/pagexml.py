"""One page as PAGE XML, the format of layout and transcription tools such as Transkribus, eScriptorium and OCR-D.

Schema: https://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15/pagecontent.xsd
"""

from __future__ import annotations

import re
import time
from xml.sax.saxutils import escape, quoteattr  # nosec B406: writes XML, reads none

from worker.messages import BoxRecord, ImageRecord

NAMESPACE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
LOCATION = f"{NAMESPACE} {NAMESPACE}/pagecontent.xsd"
# What XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def page_xml(record: ImageRecord, created: float | None = None) -> str:
    """The PAGE XML of one page: a text region around all lines, a `TextLine` for each box.

    Args:
        record: a page that is fine.
        created: seconds since the epoch; default now.
    """
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(created)) + "Z"
    name = quoteattr(_clean(record.image), {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})
    width, height = max(1, record.width), max(1, record.height)
    creator = f"ocrfleet, {record.model.name} {record.model.runtime}" if record.model else "ocrfleet"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<PcGts xmlns="{NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:schemaLocation="{LOCATION}">\n'
        f"  <Metadata>\n    <Creator>{escape(_clean(creator))}</Creator>\n    <Created>{stamp}</Created>\n"
        f"    <LastChange>{stamp}</LastChange>\n  </Metadata>\n"
        f'  <Page imageFilename={name} imageWidth="{width}" imageHeight="{height}">\n'
        f"{_region(record.boxes, width, height)}"
        "  </Page>\n</PcGts>\n"
    )


def _region(boxes: list[BoxRecord], width: int, height: int) -> str:
    """A region needs lines: a page without text has none."""
    if not boxes:
        return ""
    xs = [x for box in boxes for x, _ in box.points]
    ys = [y for box in boxes for _, y in box.points]
    around = [(min(xs), min(ys)), (max(xs), min(ys)), (max(xs), max(ys)), (min(xs), max(ys))]
    lines = "".join(
        f'      <TextLine id="l{number}">\n'
        f'        <Coords points="{_points(box.points, width, height)}" conf="{min(max(box.score, 0), 1):.4f}"/>\n'
        "      </TextLine>\n"
        for number, box in enumerate(boxes, 1)
    )
    return (
        f'    <TextRegion id="r1">\n      <Coords points="{_points(around, width, height)}"/>\n{lines}'
        "    </TextRegion>\n"
    )


def _points(points: list[tuple[float, float]], width: int, height: int) -> str:
    """Whole, non-negative pixels, as the schema demands."""
    return " ".join(f"{min(max(round(x), 0), width)},{min(max(round(y), 0), height)}" for x, y in points)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
