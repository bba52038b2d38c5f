"""Words written along arcs, as on signs and labels, with the outlines of what was written (as Total-Text has them)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

SIDE, FONT = 640, 44


@dataclass(frozen=True, slots=True)
class Arc:
    """A picture with one word on an arc.

    Attributes:
        picture: (SIDE, SIDE, 3) uint8 RGB.
        outline: (N, 2) corners of the band that holds the letters, clockwise.
    """

    picture: npt.NDArray[np.uint8]
    outline: npt.NDArray[np.float64]


def written(text: str, radius: float, *, upward: bool, ink: int = 20, paper: int = 240) -> Arc:
    """A text along a circle around the picture's middle.

    Args:
        text: to write; at most a half circle of it.
        radius: of the letters' middle line, pixels.
        upward: the arc is the circle's upper part, else its lower one, read from left to right.
        ink: grey of the letters.
        paper: grey of the ground.
    """
    font = ImageFont.load_default(FONT)
    picture = Image.new("RGB", (SIDE, SIDE), (paper,) * 3)
    middle = SIDE / 2, SIDE * (0.7 if upward else 0.3)
    widths = [font.getlength(letter) for letter in text]
    top, bottom = font.getbbox("H")[1], font.getbbox("H")[3]
    height = bottom - top
    sign = 1 if upward else -1
    place = -sum(widths) / 2
    for letter, width in zip(text, widths, strict=True):
        angle = (place + width / 2) / radius  # from the vertical, clockwise where the arc is the upper one
        tile = Image.new("L", (2 * FONT, 2 * FONT))
        ImageDraw.Draw(tile).text((FONT - width / 2, FONT - height / 2 - top), letter, fill=255, font=font)
        tile = tile.rotate(-sign * math.degrees(angle), Image.Resampling.BICUBIC)
        x = middle[0] + math.sin(angle) * radius
        y = middle[1] - sign * math.cos(angle) * radius
        picture.paste((ink,) * 3, (round(x - FONT), round(y - FONT)), tile)
        place += width
    half = sum(widths) / 2 / radius
    angles = np.linspace(-half, half, 24)
    outer, inner = (
        np.stack([middle[0] + np.sin(angles) * rim, middle[1] - sign * np.cos(angles) * rim], axis=-1)
        for rim in (radius + height / 2, radius - height / 2)
    )
    return Arc(np.asarray(picture), np.concatenate([outer, inner[::-1]]))
