"""A recogniser's output -> text with the place of every character (Graves et al., ICML 2006, best path decoding)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

BLANK = 0


@dataclass(frozen=True, slots=True)
class Decoded:
    """A line's text.

    Attributes:
        text: a character an entry of the next two.
        places: centre of every character, as a fraction of the strip's width.
        scores: its probability.
    """

    text: tuple[str, ...]
    places: tuple[float, ...]
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        """Mean of the characters' probabilities; 0 without characters."""
        return sum(self.scores) / len(self.scores) if self.scores else 0.0


def decode(output: npt.NDArray[np.float32], characters: Sequence[str], share: float) -> Decoded:
    """The most probable class of every step, without repeats and blanks.

    Args:
        output: (T, classes) probabilities; class 0 is the blank.
        characters: of the classes; the blank's is never used.
        share: of the steps that lie on the strip; the rest is padding on its right.
    """
    best = output.argmax(axis=1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    ends = np.append(starts[1:], len(best))
    text, places, scores = list[str](), list[float](), list[float]()
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        kind = int(best[start])
        if kind == BLANK:
            continue
        text.append(characters[kind])
        places.append(min(1.0, (start + end) / 2 / (len(best) * share)))
        scores.append(float(output[start:end, kind].max()))
    return Decoded(tuple(text), tuple(places), tuple(scores))


@dataclass(frozen=True, slots=True)
class Span:
    """A word's place on its line.

    Attributes:
        text: of the word.
        start, end: fractions of the line's width.
        score: mean probability of its characters.
    """

    text: str
    start: float
    end: float
    score: float


def words(line: Decoded) -> list[Span]:
    """The words of a line. A word ends where its last character ends, at most half way to the next word's first one.

    Characters have centres only. Half of what lies between neighbours inside words is taken for half a character.
    """
    half = _half_width(line)
    spans, start = list[Span](), 0
    for end in range(len(line.text) + 1):
        if end < len(line.text) and not line.text[end].isspace():
            continue
        if end > start:
            left, right = max(0.0, line.places[start] - half), min(1.0, line.places[end - 1] + half)
            if spans:  # never over the word before it
                border = (spans[-1].end + left) / 2
                if spans[-1].end > left:
                    last = spans[-1]
                    spans[-1] = Span(last.text, last.start, max(border, last.start), last.score)
                    left = border
            scores = line.scores[start:end]
            spans.append(Span("".join(line.text[start:end]), left, max(left, right), sum(scores) / len(scores)))
        start = end + 1
    return spans


def _half_width(line: Decoded) -> float:
    """Half a character's width, as a fraction of the line's."""
    placed = list(zip(line.text, line.places, strict=True))
    gaps = [b - a for (one, a), (other, b) in pairwise(placed) if not (one.isspace() or other.isspace())]
    return float(np.median(gaps)) / 2 if gaps else 0.5 / max(1, len(line.text))
