"""Long pages as people really have them: receipts and screenshots of chats, with where their lines are."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw, ImageFont

Line = tuple[float, float, float, float]
"""Left, top, right and bottom of a printed line, pixels."""

_WORDS = (
    *("coffee", "bread", "butter", "total", "amount", "cash", "change", "thank", "you", "milk", "apples", "sugar"),
    *("receipt", "table", "market", "station", "paper", "red", "green", "yellow", "train", "ticket", "morning"),
    *("evening", "tomorrow", "please", "bring", "the", "keys", "and", "call", "me", "later", "about", "invoice"),
)


def receipt(width: int, height: int, size: int, seed: int = 1) -> tuple[Image.Image, list[Line]]:
    """Items on the left, prices on the right, in letters `size` pixels high."""
    rng, image, lines = random.Random(seed), Image.new("L", (width, height), 250), []
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=size)
    step = round(size * 1.9)
    for top in range(step, height - 2 * step, step):
        item = " ".join(rng.choices(_WORDS, k=2))[: width // size]
        price = f"{rng.randint(1, 99)}.{rng.randint(0, 99):02d}"
        for text, left in ((item, width // 20), (price, width - width // 20 - draw.textlength(price, font))):
            draw.text((left, top), text, 20, font)
            lines.append(draw.textbbox((left, top), text, font))
    return image.convert("RGB"), lines


def chat(width: int, height: int, size: int, seed: int = 1) -> tuple[Image.Image, list[Line]]:
    """Bubbles left and right, each of one to three lines, in letters `size` pixels high."""
    rng, image, lines = random.Random(seed), Image.new("RGB", (width, height), (236, 229, 221)), []
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=size)
    step, top, most = round(size * 1.4), size, int(width / size * 1.2)
    while top < height - 5 * step:
        texts = [" ".join(rng.choices(_WORDS, k=6))[: rng.randint(most // 2, most)] for _ in range(rng.randint(1, 3))]
        wide = max(draw.textlength(text, font) for text in texts) + size
        left = width // 30 if rng.random() < 0.5 else width - width // 30 - wide
        colour = (255, 255, 255) if left == width // 30 else (220, 248, 198)
        draw.rounded_rectangle((left, top, left + wide, top + step * len(texts) + size), size // 2, colour)
        for number, text in enumerate(texts):
            place = (left + size // 2, top + size // 2 + number * step)
            draw.text(place, text, (20, 20, 20), font)
            lines.append(draw.textbbox(place, text, font))
        top += step * len(texts) + 2 * size
    return image, lines


def newspaper(lines_wanted: int, size: int = 12, columns: int = 6, seed: int = 1) -> tuple[Image.Image, list[Line]]:
    """A page of columns in small print."""
    rows = lines_wanted // columns
    rng, lines = random.Random(seed), []
    column, step = size * 20, round(size * 1.5)
    image = Image.new("L", (columns * column + size, (rows + 2) * step), 240)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=size)
    for number in range(columns):
        for row in range(rows):
            text, place = " ".join(rng.choices(_WORDS, k=6))[:30], (size + number * column, step * (row + 1))
            while draw.textlength(text, font) > column - 2 * size:
                text = text[:-1]
            draw.text(place, text, 30, font)
            lines.append(draw.textbbox(place, text, font))
    return image.convert("RGB"), lines


def recall(lines: Sequence[Line], boxes: Iterable[Sequence[tuple[float, float]]]) -> float:
    """The share of lines of whose width at least half lies in boxes that meet their middle, and are no columns."""
    rectangles = []
    for points in boxes:
        xs, ys = [x for x, _ in points], [y for _, y in points]
        rectangles.append((min(xs), min(ys), max(xs), max(ys)))
    found = 0
    for left, top, right, bottom in lines:
        middle, high = (top + bottom) / 2, bottom - top
        spans = sorted(
            (max(left, x0), min(right, x1))
            for x0, y0, x1, y1 in rectangles
            if y0 <= middle <= y1 and y1 - y0 < 2.5 * high and x1 > left and x0 < right
        )
        covered, reached = 0.0, left
        for begin, end in spans:
            covered += max(0.0, end - max(begin, reached))
            reached = max(reached, end)
        found += covered >= 0.5 * (right - left)
    return found / len(lines)
