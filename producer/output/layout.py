"""A record's boxes in reading order, and what several formats write of them. Knows no format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from detector.reading.order import reading_blocks
from worker.messages import BoxRecord, ImageRecord

# What XML 1.0 cannot hold, even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Point = tuple[float, float]
Block = list[list[BoxRecord]]
"""Rows of boxes."""


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A rectangle along the page's axes, whole pixels, inside the page."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels."""
        return self.bottom - self.top


def blocks_of(record: ImageRecord) -> list[Block]:
    """The page's boxes as blocks of rows, in reading order."""
    blocks = reading_blocks([box.points for box in record.boxes])
    return [[[record.boxes[number] for number in row] for row in block] for block in blocks]


def boxes_in_order(record: ImageRecord) -> list[BoxRecord]:
    """The page's boxes in reading order."""
    return [box for block in blocks_of(record) for row in block for box in row]


def boxes_of(block: Block) -> Iterator[BoxRecord]:
    """A block's boxes in reading order."""
    return (box for row in block for box in row)


def rectangle(points: Sequence[Point], record: ImageRecord) -> Rectangle:
    """The smallest rectangle around points, at least a pixel large."""
    width, height = max(1, record.width), max(1, record.height)
    left, top = (max(0, round(min(values))) for values in zip(*points, strict=True))
    right, bottom = (round(max(values)) for values in zip(*points, strict=True))
    left, top = min(left, width - 1), min(top, height - 1)
    return Rectangle(left, top, min(max(right, left + 1), width), min(max(bottom, top + 1), height))


def around(boxes: Iterator[BoxRecord], record: ImageRecord) -> Rectangle:
    """The smallest rectangle around boxes."""
    return rectangle([point for box in boxes for point in box.outline], record)


def is_read(record: ImageRecord) -> bool:
    """Whether the page's boxes were read. A page without boxes counts as read: there is nothing to read on it."""
    return all(box.text is not None for box in record.boxes)


def page_text(record: ImageRecord) -> str:
    """The page's text: a row a line, an empty line between blocks, a newline at its end."""
    blocks = []
    for block in blocks_of(record):
        rows = (" ".join(box.text for box in row if box.text) for row in block)
        blocks += ["\n".join(filter(None, rows))]
    return "".join(f"{block}\n" for block in "\n\n".join(filter(None, blocks)).split("\n")) if any(blocks) else ""


def clean(text: str) -> str:
    r"""The text without characters that XML cannot hold: they become ``\x0c``."""
    return _FORBIDDEN.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
