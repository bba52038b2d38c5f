"""What reading finds. Imports nothing heavy: records and exports use it too."""

from __future__ import annotations

from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a line: what stands between two spaces.

    Attributes:
        text: without spaces.
        points: 4 corners, beginning where the word's first character has its top, in the direction of reading; original
            pixels. From the characters' positions in the recogniser's output, which are about a third of a character
            exact.
        score: mean probability of its characters, 0 to 1.
    """

    text: str
    points: tuple[Point, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Line:
    """What stands in a box.

    Attributes:
        text: "" if nothing could be read.
        score: mean probability of its characters, 0 to 1.
        words: of the text, in reading direction.
        angle: of the reading direction, degrees clockwise from left-to-right: 0 upright, 90 from top to bottom,
            180 upside down.
        order: place of the line on the page, from 0, as a person would read it (`detector.reading.order`).
    """

    text: str
    score: float
    words: tuple[Word, ...]
    angle: float
    order: int = 0
