"""Small pictures with real text, drawn by the tests."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont


def text_image(width: int = 240, height: int = 160, text: str = "OCRFLEET 123", tint: int = 0) -> Image.Image:
    """Black text in the middle of a light page, large enough for any detector."""
    image = Image.new("RGB", (width, height), (245, 245 - tint % 40, 235))
    font = ImageFont.load_default(size=max(12, height // 6))
    ImageDraw.Draw(image).text((width // 8, height // 3), text, fill=(20, 20, 30), font=font)
    return image


def write_images(folder: Path, count: int, *, width: int = 240, height: int = 160) -> list[Path]:
    """``count`` JPEGs with different texts."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = folder / f"image-{number:04d}.jpg"
        text_image(width, height, f"PAGE {number}", number).save(path, quality=85)
        paths.append(path)
    return paths
