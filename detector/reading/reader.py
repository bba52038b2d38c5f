"""A page's pixels and its boxes -> lines of text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detector.reading.crop import Quad, cut, margin_share, reading_quad, size_of, strip_width, turned, with_margin
from detector.reading.ctc import Decoded, words
from detector.reading.line import Line, Point, Word
from detector.reading.models import load_reader_card
from detector.reading.order import reading_order
from detector.reading.recogniser import Recogniser

DOUBTFUL = 0.75
"""Lines that read worse than this are read from the other end too, and the better reading is kept: text that is upside
down scores .2 to .6, upright text of ordinary quality above .9, so that few lines are read twice."""

BY_HEIGHT = 0.1
"""The page is opened so large that this share of its lines, at most, is smaller than the recogniser wants them."""


class LineReader:
    """Reads the boxes of pages. Holds the loaded recogniser; not for use by several threads at once.

    Args:
        reader: name of a recogniser on this machine, or path of its .onnx file.
        threads: of one inference.

    Raises:
        ModelError: it is not there, or cannot be loaded.

    Attributes:
        name: of the recogniser.
        source: the name or path that it was asked by.
    """

    def __init__(self, reader: str | Path, threads: int = 1) -> None:
        card = load_reader_card(reader)
        self.name, self.source = card.name, str(reader)
        self._recogniser = Recogniser(card, threads)

    def side(self, boxes: Sequence[Sequence[Point]], width: int, height: int) -> int:
        """How large to open a page for reading: its long side, pixels.

        Larger than the boxes' lines ask for would only cost memory.

        Args:
            boxes: corners in original pixels.
            width: of the original page, pixels.
            height: likewise.
        """
        heights = [size_of(reading_quad(np.array(box, np.float64)))[1] for box in boxes]
        low = float(np.quantile(heights, BY_HEIGHT)) if heights else float(self._recogniser.height)
        return math.ceil(max(width, height) * min(1.0, self._recogniser.height / max(low, 1.0)))

    def read(
        self, pixels: npt.NDArray[np.uint8], boxes: Sequence[Sequence[Point]], width: int, height: int
    ) -> list[Line]:
        """Reads a page: a line for every box, in the boxes' order.

        Args:
            pixels: (H, W, 3) uint8 RGB, the page at any size.
            boxes: corners clockwise from top-left, in original pixels.
            width: of the original page, pixels.
            height: likewise.
        """
        scale = np.array([pixels.shape[1] / width, pixels.shape[0] / height])
        quads = [reading_quad(np.array(box, np.float64)) for box in boxes]
        found = self._decoded(pixels, [quad * scale for quad in quads])
        doubtful = [number for number, line in enumerate(found) if line.score < DOUBTFUL]
        others = self._decoded(pixels, [turned(quads[number] * scale) for number in doubtful])
        for number, other in zip(doubtful, others, strict=True):
            if other.score > found[number].score:
                found[number], quads[number] = other, turned(quads[number])
        lines = [_line(quad, decoded) for quad, decoded in zip(quads, found, strict=True)]
        places = reading_order([tuple(map(tuple, box)) for box in boxes])
        return [replace(line, order=place) for line, place in zip(lines, places, strict=True)]

    def _decoded(self, pixels: npt.NDArray[np.uint8], quads: list[Quad]) -> list[Decoded]:
        """Text of lines in pixels of the page as given. One batch of strips is in memory at a time."""
        height = self._recogniser.height
        found = dict[int, Decoded]()
        wider = [with_margin(quad) for quad in quads]
        for batch in self._recogniser.batches([strip_width(quad, height) for quad in wider]):
            strips = [cut(pixels, wider[number], height) for number in batch]
            found.update(zip(batch, self._recogniser.read(strips), strict=True))
        return [found[number] for number in range(len(quads))]


def _line(quad: Quad, decoded: Decoded) -> Line:
    along = quad[1] - quad[0]
    margin = margin_share(quad)
    places = (min(1.0, max(0.0, (place - margin) / (1 - 2 * margin))) for place in decoded.places)
    spans = words(replace(decoded, places=tuple(places)))
    return Line(
        " ".join(span.text for span in spans),
        round(decoded.score, 4),
        tuple(Word(span.text, between(quad, span.start, span.end), round(span.score, 4)) for span in spans),
        round(math.degrees(math.atan2(along[1], along[0])), 1) + 0.0,
    )


def between(quad: Quad, start: float, end: float) -> tuple[Point, ...]:
    """The part of a line from one fraction of its width to another: 4 corners."""
    top, bottom = quad[1] - quad[0], quad[2] - quad[3]
    corners = (quad[0] + start * top, quad[0] + end * top, quad[3] + end * bottom, quad[3] + start * bottom)
    return tuple((round(float(x), 1), round(float(y), 1)) for x, y in corners)
