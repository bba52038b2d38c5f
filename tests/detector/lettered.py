"""Pages of text whose every line is known, drawn with Pillow's own font: no font file is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

VOCABULARY = """
harbour letter window seven bridge quarter market silver morning paper winter garden station orchard village travel
machine number country picture summer kitchen doctor engine yellow between another question river
"""
WORDS = VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Lettered:
    """A page and its lines.

    Attributes:
        picture: RGB.
        quads: (N, 4, 2) corners of the lines' ink, clockwise from top-left.
    """

    picture: Image.Image
    quads: np.ndarray


def sentence(rng: np.random.Generator, letters: int) -> str:
    """Words and numbers of about so many letters."""
    parts: list[str] = []
    while sum(map(len, parts)) + len(parts) < letters:
        parts.append(str(rng.integers(10, 99999)) if rng.random() < 0.12 else WORDS[int(rng.integers(len(WORDS)))])
    text = " ".join(parts)
    return text[0].upper() + text[1:]


def page(
    size: tuple[int, int],
    lines: int,
    letters: int,
    font_size: int,
    *,
    ink: int = 25,
    paper: int = 250,
    margin: float = 0.08,
    seed: int = 0,
) -> Lettered:
    """A page of evenly spaced lines.

    Args:
        size: (width, height), pixels.
        lines: how many.
        letters: of each line, about; lines are cut to fit.
        font_size: pixels.
        ink, paper: gray values.
        margin: left and right, share of the width; above and below, share of the height.
        seed: of the text.
    """
    rng = np.random.default_rng(seed)
    picture = Image.new("RGB", size, (paper, paper, paper))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(font_size)
    left, top = size[0] * margin, size[1] * margin
    step = (size[1] - 2 * top) / lines
    quads = []
    for number in range(lines):
        text = sentence(rng, letters)
        while draw.textlength(text, font=font) > size[0] - 2 * left:
            text = text[:-1].rstrip()
        at = (left, top + number * step)
        draw.text(at, text, fill=(ink, ink, ink), font=font)
        x0, y0, x1, y1 = draw.textbbox(at, text, font=font)
        quads.append([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return Lettered(picture, np.array(quads, np.float64))


def turned(sheet: Lettered, quarters: int) -> Lettered:
    """The page turned by so many quarters counter-clockwise, as Pillow turns it."""
    picture, quads = sheet.picture, sheet.quads
    for _ in range(quarters % 4):
        width = picture.width
        picture = picture.transpose(Image.Transpose.ROTATE_90)
        quads = np.stack([quads[..., 1], width - quads[..., 0]], axis=-1)
    return Lettered(picture, quads)
