"""A record's boxes in reading order, and what several formats write of them. Knows no format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from detector.errors import CONTROL
from detector.reading.order import reading_blocks
from worker.messages import BoxRecord, ImageRecord

# What XML 1.0 cannot hold, even escaped; and what a terminal obeys, or turns text around, of which it advises against.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]|[\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_MARKS = "\u061c\u200e\u200f"  # of direction, in honest Arabic and Hebrew: they turn nothing but spaces and signs

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
        rows = (" ".join(plain(box.text) for box in row if box.text) for row in block)
        blocks += ["\n".join(filter(None, rows))]
    return "".join(f"{block}\n" for block in "\n\n".join(filter(None, blocks)).split("\n")) if any(blocks) else ""


def plain(text: str) -> str:
    """The text as one that no terminal obeys: other white space is a space, and what is no text U+FFFD.

    No recogniser writes such characters: a form feed was the end of a page, and an ESC sequence obeyed by `cat`.
    """
    return CONTROL.sub(lambda match: " " if match[0].isspace() else match[0] if match[0] in _MARKS else "\ufffd", text)


def clean(text: str) -> str:
    r"""The text without characters that do not belong into XML: they become ``\x0c``."""
    return _FORBIDDEN.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
