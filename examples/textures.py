"""Paper, wood, brick, light and lens: what makes a drawn page look like a photographed one. Pillow only."""

from __future__ import annotations

import random
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Corners = Sequence[tuple[float, float]]


def noise(size: tuple[int, int], seed: int, cell: int | tuple[int, int] = 1) -> Image.Image:
    """Gray noise in cells of so many pixels, softly joined; `L`, mean 128."""
    across, down = (cell, cell) if isinstance(cell, int) else cell
    small = (max(2, size[0] // across), max(2, size[1] // down))
    grain = Image.frombytes("L", small, random.Random(seed).randbytes(small[0] * small[1]))
    return grain if small == size else grain.resize(size, Image.Resampling.BICUBIC)


def stain(image: Image.Image, pattern: Image.Image, strength: float) -> Image.Image:
    """Lightens and darkens an image by a gray pattern; 128 changes nothing, `strength` is the largest change."""
    change = pattern.point(lambda value: round(128 + (value - 128) * strength)).convert("RGB")
    return ImageChops.add(image, change, scale=1, offset=-128)


def paper(size: tuple[int, int], colour: Colour = (250, 248, 242), seed: int = 1) -> Image.Image:
    """A sheet with fibres and faint clouds."""
    sheet = Image.new("RGB", size, colour)
    sheet = stain(sheet, noise(size, seed, 90), 0.05)
    sheet = stain(sheet, noise(size, seed + 1, 7), 0.022)
    return stain(sheet, noise(size, seed + 2, 2), 0.028)


def wood(size: tuple[int, int], colour: Colour, seed: int = 1, planks: int = 3) -> Image.Image:
    """A table top of planks with the grain running from left to right."""
    table = Image.new("RGB", size, colour)
    chance = random.Random(seed)
    draw = ImageDraw.Draw(table)
    high = size[1] // planks + 1
    for plank in range(planks):
        shade = chance.uniform(0.9, 1.1)
        tone = tuple(min(255, round(part * shade)) for part in colour)
        draw.rectangle((0, plank * high, size[0], (plank + 1) * high), fill=tone)
    table = stain(table, noise(size, seed + 1, (260, 5)), 0.16)
    table = stain(table, noise(size, seed + 2, (120, 2)), 0.1)
    draw = ImageDraw.Draw(table)
    for plank in range(1, planks):
        dark = tuple(part // 3 for part in colour)
        draw.line((0, plank * high, size[0], plank * high), fill=dark, width=3)
    return table.filter(ImageFilter.GaussianBlur(0.6))


def bricks(size: tuple[int, int], colour: Colour, seed: int = 1, brick: tuple[int, int] = (92, 34)) -> Image.Image:
    """A wall in running bond."""
    chance = random.Random(seed)
    wall = stain(Image.new("RGB", size, (176, 168, 158)), noise(size, seed + 9, 3), 0.12)
    draw = ImageDraw.Draw(wall)
    for row in range(size[1] // brick[1] + 1):
        for column in range(-1, size[0] // brick[0] + 1):
            left = column * brick[0] + (brick[0] // 2 if row % 2 else 0) + chance.randint(-1, 1)
            top = row * brick[1]
            shade = chance.uniform(0.78, 1.12)
            tone = tuple(min(255, round(part * shade)) for part in colour)
            draw.rounded_rectangle((left + 2, top + 2, left + brick[0] - 3, top + brick[1] - 3), 3, fill=tone)
    wall = stain(wall, noise(size, seed + 1, 5), 0.12)
    return stain(wall, noise(size, seed + 2, 120), 0.14).filter(ImageFilter.GaussianBlur(0.8))


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """One colour at the top running into another at the bottom."""
    mask = Image.linear_gradient("L").resize(size)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), mask)


def bokeh(size: tuple[int, int], colours: Sequence[Colour], base: Image.Image, seed: int = 1) -> Image.Image:
    """Soft discs of colour over a base: lights or leaves far behind the point of focus."""
    chance = random.Random(seed)
    scene = base.copy()
    for _ in range(90):
        layer = Image.new("L", size, 0)
        x, y, radius = chance.uniform(0, size[0]), chance.uniform(0, size[1]), chance.uniform(15, 70)
        ImageDraw.Draw(layer).ellipse((x - radius, y - radius, x + radius, y + radius), fill=chance.randint(30, 110))
        scene.paste(chance.choice(list(colours)), mask=layer)
    return scene.filter(ImageFilter.GaussianBlur(9))


def light(image: Image.Image, at: tuple[float, float] = (0.35, 0.25), fall: float = 0.4) -> Image.Image:
    """A lamp over one point (in shares of width and height); `fall` is how much darker the far corners are."""
    width, height = image.size
    reach = 2 * max(width, height)
    glow = Image.radial_gradient("L").resize((2 * reach, 2 * reach))
    left, top = reach - round(at[0] * width), reach - round(at[1] * height)
    shade = glow.crop((left, top, left + width, top + height)).point(lambda value: round(255 - value * fall))
    return ImageChops.multiply(image, shade.convert("RGB"))


def coefficients(flat: Corners, seen: Corners) -> list[float]:
    """The eight numbers of Pillow's PERSPECTIVE transform that take `seen` corners back to `flat` ones."""
    rows = []
    for (u, v), (x, y) in zip(flat, seen, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, v])
    for column in range(8):  # Gauss-Jordan with pivoting
        pivot = max(range(column, 8), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [value / rows[column][column] for value in rows[column]]
        for row in range(8):
            if row != column:
                factor = rows[row][column]
                rows[row] = [value - factor * own for value, own in zip(rows[row], rows[column], strict=True)]
    return [row[8] for row in rows]


def put(scene: Image.Image, sheet: Image.Image, corners: Corners, shadow: int = 10, depth: int = 110) -> Image.Image:
    """Lays a flat sheet into a scene so that its corners (clockwise from top-left) come to lie as given."""
    width, height = sheet.size
    flat = ((0, 0), (width, 0), (width, height), (0, height))
    numbers = coefficients(flat, corners)
    laid = sheet.convert("RGB").transform(scene.size, Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BICUBIC)
    mask = Image.new("L", (scene.width * 2, scene.height * 2), 0)  # drawn at twice the size for smooth edges
    ImageDraw.Draw(mask).polygon([(2 * x, 2 * y) for x, y in corners], fill=255)
    # A little smaller than the sheet, whose outermost pixels are mixed with nothing.
    mask = mask.filter(ImageFilter.MinFilter(5)).resize(scene.size, Image.Resampling.LANCZOS)
    scene = scene.copy()
    if shadow:
        dark = ImageChops.offset(mask, shadow // 2, shadow).filter(ImageFilter.GaussianBlur(shadow))
        scene.paste((15, 12, 10), mask=dark.point(lambda value: value * depth // 255))
    scene.paste(laid, mask=mask)
    return scene


def photograph(image: Image.Image, seed: int = 1, blur: float = 0.7, grain: float = 0.045) -> Image.Image:
    """A lens that is not quite sharp and a sensor that is not quite quiet."""
    image = image.filter(ImageFilter.GaussianBlur(blur))
    return stain(image, noise(image.size, seed + 77, 2), grain)
