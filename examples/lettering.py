"""Fonts by short names, and text set in columns and centred."""

from __future__ import annotations

from functools import cache

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]
INK: Colour = (34, 34, 40)

FONTS = {
    "sans": "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
    "sans-bold": "/usr/share/fonts/truetype/liberation/LiberationSans-Bold.ttf",
    "serif": "/usr/share/fonts/truetype/liberation/LiberationSerif-Regular.ttf",
    "serif-bold": "/usr/share/fonts/truetype/liberation/LiberationSerif-Bold.ttf",
    "serif-italic": "/usr/share/fonts/truetype/liberation/LiberationSerif-Italic.ttf",
    "mono": "/usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
    "mono-bold": "/usr/share/fonts/truetype/dejavu/DejaVuSansMono-Bold.ttf",
    "typewriter": "/usr/share/fonts/truetype/liberation/LiberationMono-Regular.ttf",
    "light": "/usr/share/fonts/truetype/dejavu/DejaVuSans-ExtraLight.ttf",
    "zh": "/usr/share/fonts/opentype/noto/NotoSerifCJK-Bold.ttc",
    "zh-sans": "/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc",
}


@cache
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font by its short name; the first face of a collection."""
    return ImageFont.truetype(FONTS[name], size)


def centred(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, face: str, size: int, colour: Colour = INK) -> None:
    """One line with its middle at x and its top at y."""
    draw.text((x, y), text, fill=colour, font=font(face, size), anchor="ma")


def right(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, face: str, size: int, colour: Colour = INK) -> None:
    """One line that ends at x."""
    draw.text((x, y), text, fill=colour, font=font(face, size), anchor="ra")


def lines(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    face: str,
    size: int,
    *,
    colour: Colour = INK,
    leading: float = 1.45,
) -> int:
    """Lines of text from a point downwards; returns the y below them."""
    x, y = at
    for line in text.splitlines():
        draw.text((x, y), line, fill=colour, font=font(face, size))
        y += round(size * leading)
    return y
