"""The settings of the post-processing. Imports nothing heavy, since cards are read everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Shape = Literal["quad", "polygon", "rect"]
"""What is drawn around a piece of text: the smallest rectangle, its outline too, or a rectangle along the axes."""

SHAPES: tuple[Shape, ...] = get_args(Shape)


def check_shape(shape: Shape) -> Shape:
    """The shape, if there is such a one.

    Raises:
        ValueError: there is none.
    """
    if shape not in SHAPES:
        raise ValueError(f"no shape {shape!r}; there are {', '.join(SHAPES)}")
    return shape


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a region of the map is text. Defaults: the paper's values and those of its common re-implementations.

    Attributes:
        binarize: pixels at or above this probability belong to a region.
        box_threshold: a box whose mean probability is below this is dropped.
        unclip_ratio: how much a region grows (regions are trained shrunk); see `geometry.unclip`.
        min_side: regions with a shorter side than this, in map pixels, are specks.
    """

    binarize: float = 0.3
    box_threshold: float = 0.5
    unclip_ratio: float = 1.5
    min_side: float = 3.0
