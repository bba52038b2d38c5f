"""Draws the hard pictures in `examples/hard`: what detectors get wrong. docs/models.md shows our models on them.

    python examples/hard.py [FOLDER]

All of it is our own making; needs the packages that `make_images.py` names.
"""

from __future__ import annotations

import math
import random
import sys
from pathlib import Path

from lettering import FONTS, centred, font
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from textures import bokeh, gradient, light, noise, photograph, stain

GREENS = ((96, 140, 70), (58, 96, 52), (196, 208, 150), (130, 160, 96))
QUALITY = 70


def fence() -> Image.Image:
    """White pickets before leaves: regular strokes of one height, but no text."""
    size = (800, 560)
    scene = bokeh(size, GREENS, gradient(size, (150, 180, 190), (60, 90, 50)), seed=31)
    draw = ImageDraw.Draw(scene)
    chance = random.Random(2)
    for y in (250, 430):
        draw.rectangle((0, y, 800, y + 26), fill=(206, 202, 192))
    for x in range(-10, 800, 46):
        tone = tuple(part + chance.randint(-12, 8) for part in (226, 222, 212))
        draw.polygon(((x, 180), (x + 13, 160), (x + 26, 180), (x + 26, 520), (x, 520)), fill=tone)
    return photograph(light(scene, (0.4, 0.2), 0.35), 21)


def faint() -> Image.Image:
    """Letters cut into stone: nothing but a little shadow tells them from their ground."""
    size = (800, 520)
    stone = stain(stain(Image.new("RGB", size, (168, 162, 152)), noise(size, 33, 3), 0.09), noise(size, 34, 70), 0.1)
    cut = Image.new("L", size, 0)
    draw = ImageDraw.Draw(cut)
    for y, text, height in ((110, "SALUTI ET GAUDIO", 62), (220, "ANNO MDCCCXCIV", 54), (330, "restored 1961", 40)):
        draw.text((400, y), text, fill=255, font=font("serif", height), anchor="ma")
    for shift, tone in (((-1, -1), (112, 106, 98)), ((1, 1), (204, 200, 192))):
        stone.paste(tone, mask=ImageChops.offset(cut, *shift).point(lambda value: value * 2 // 3))
    return photograph(light(stone, (0.3, 0.1), 0.3), 23, blur=1.0)


def small_print() -> Image.Image:
    """A leaflet photographed from too far: letters of four pixels."""
    size = (1000, 760)
    scene = Image.new("RGB", size, (242, 240, 234))
    draw = ImageDraw.Draw(scene)
    chance = random.Random(7)
    words = ("take", "with", "water", "not", "more", "than", "two", "a", "day", "keep", "away", "from", "children")
    for column in (40, 360, 680):
        for y in range(90, 700, 13):
            text = " ".join(chance.choice(words) for _ in range(9))
            draw.text((column, y), text[:52], fill=(70, 70, 76), font=font("sans", 10))
    centred(draw, 500, 24, "PACKAGE LEAFLET", "sans-bold", 40)
    return photograph(light(stain(scene, noise(size, 41, 80), 0.06), (0.4, 0.2), 0.35), 25, blur=0.8)


def curved() -> Image.Image:
    """Lettering around a badge."""
    size = (640, 640)
    scene = stain(Image.new("RGB", size, (214, 200, 172)), noise(size, 44, 60), 0.1)
    draw = ImageDraw.Draw(scene)
    draw.ellipse((50, 50, 590, 590), fill=(40, 74, 66), outline=(222, 198, 128), width=8)
    draw.ellipse((170, 170, 470, 470), fill=(222, 198, 128))
    for text, middle, inwards in (("ALPINE CLUB OF SAINT MARTIN", -90.0, 1), ("founded in 1912", 90.0, -1)):
        step = 8.2 if inwards > 0 else 6.8
        for number, character in enumerate(text):
            angle = middle + inwards * (number - (len(text) - 1) / 2) * step
            stamp = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
            ImageDraw.Draw(stamp).text((40, 40), character, (240, 230, 200), font("sans-bold", 46), anchor="mm")
            stamp = stamp.rotate(-(angle + 90 * inwards), Image.Resampling.BICUBIC)
            x, y = 320 + 215 * math.cos(math.radians(angle)), 320 + 215 * math.sin(math.radians(angle))
            scene.paste(stamp, (round(x) - 40, round(y) - 40), stamp)
    return photograph(light(scene, (0.4, 0.2), 0.3), 26)


def outlined() -> Image.Image:
    """Hollow brush-like Chinese lettering over a bright pattern."""
    size = (900, 520)
    base = gradient(size, (250, 220, 190), (200, 120, 110))
    scene = bokeh(size, ((230, 90, 70), (240, 190, 80), (90, 150, 200)), base, seed=9)
    white, hollow = (250, 246, 236, 255), (0, 0, 0, 0)
    for number, character in enumerate("山水有聲"):
        stamp = Image.new("RGBA", (260, 260), hollow)
        brush = ImageDraw.Draw(stamp)
        brush.text((130, 130), character, hollow, font("zh", 190), "mm", stroke_width=3, stroke_fill=white)
        stamp = stamp.rotate((-14, 9, -6, 16)[number], Image.Resampling.BICUBIC)
        scene.paste(stamp, (10 + number * 205, 60 + (40, 130, 20, 110)[number]), stamp)
    return photograph(scene.filter(ImageFilter.GaussianBlur(0.5)), 27)


def main(folder: Path) -> None:
    """Writes all of them."""
    assert all(Path(path).is_file() for path in FONTS.values()), "fonts are missing; see make_images.py"
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (fence, faint, small_print, curved, outlined):
        draw().save(folder / f"{draw.__name__.replace('_', '-')}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "hard")
