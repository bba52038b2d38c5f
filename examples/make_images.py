"""Draws the sample images in `examples/images`. All of it is our own making: no photo, no real shop, no real person.

    python examples/make_images.py [FOLDER]

Needs Pillow and these Debian packages for the letters:
fonts-dejavu-core fonts-dejavu-extra fonts-liberation fonts-noto-cjk
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from pages import form, letter, menu, minutes, programme, receipt, ticket
from PIL import Image, ImageFilter
from signs import book, poster, shop_sign, street_sign
from textures import bokeh, bricks, gradient, light, noise, photograph, put, stain, wood

QUALITY = 70


def letter_photo() -> Image.Image:
    """A typed letter on a desk, lit by a window."""
    scene = wood((980, 1240), (118, 84, 58), seed=3, planks=4)
    scene = put(scene, letter(), ((92, 66), (905, 48), (932, 1176), (62, 1190)), shadow=16)
    return photograph(light(scene, (0.2, 0.1), 0.5), 1)


def receipt_photo() -> Image.Image:
    """A thermal receipt on a light table."""
    scene = wood((760, 1100), (196, 168, 134), seed=11, planks=5)
    scene = put(scene, receipt(), ((188, 40), (560, 56), (590, 1052), (150, 1040)), shadow=9)
    return photograph(light(scene, (0.7, 0.2), 0.4), 2)


def taxi_receipt_photo() -> Image.Image:
    """A small slip on dark cloth, turned."""
    scene = stain(Image.new("RGB", (900, 700), (52, 58, 70)), noise((900, 700), 5, 2), 0.16)
    scene = put(scene, receipt(taxi=True), ((300, 60), (640, 116), (572, 640), (216, 560)), shadow=12)
    return photograph(light(scene, (0.5, 0.4), 0.5), 3)


def form_scan() -> Image.Image:
    """A filled-in form from a flatbed scanner, a little askew."""
    turned = form().rotate(-0.9, Image.Resampling.BICUBIC, fillcolor=(238, 236, 230))
    return photograph(turned, 4, blur=0.5, grain=0.03)


def shop_sign_photo() -> Image.Image:
    """A Chinese shop sign over a brick wall, seen from the side and below."""
    scene = bricks((1200, 820), (150, 82, 62), seed=8)
    scene = put(scene, shop_sign(), ((120, 196), (1010, 96), (1030, 428), (112, 430)), shadow=18)
    scene = put(scene, shop_sign(small=True), ((820, 498), (1050, 500), (1040, 780), (826, 764)), shadow=12)
    return photograph(light(scene, (0.3, 0.1), 0.55), 5)


def street_sign_photo() -> Image.Image:
    """English signs in front of leaves, in perspective."""
    base = gradient((1200, 860), (176, 204, 226), (70, 98, 62))
    scene = bokeh((1200, 860), ((96, 140, 70), (58, 96, 52), (196, 208, 150), (130, 160, 96)), base, seed=4)
    scene = put(scene, street_sign("pole"), ((566, 0), (606, 0), (612, 860), (562, 860)), shadow=0)
    scene = put(scene, street_sign("harbour"), ((210, 150), (1010, 236), (1000, 420), (224, 372)), shadow=8)
    scene = put(scene, street_sign("station"), ((280, 436), (930, 462), (918, 596), (290, 618)), shadow=8)
    return photograph(light(scene, (0.5, 0.1), 0.3), 6, blur=0.8)


def menu_photo() -> Image.Image:
    """A chalkboard menu on a wall."""
    scene = stain(Image.new("RGB", (880, 1120), (214, 203, 184)), noise((880, 1120), 6, 60), 0.06)
    scene = stain(scene, noise((880, 1120), 7, 3), 0.05)
    scene = put(scene, menu(), ((110, 84), (776, 60), (800, 1050), (96, 1026)), shadow=18)
    return photograph(light(scene, (0.6, 0.1), 0.4), 7)


def book_photo() -> Image.Image:
    """A book on a table, turned a little."""
    scene = wood((900, 1060), (160, 120, 84), seed=21, planks=4)
    scene = put(scene, Image.new("RGB", (100, 100), (228, 220, 204)), ((196, 112), (716, 74), (772, 926), (236, 982)))
    scene = put(scene, book(), ((184, 100), (704, 62), (756, 916), (222, 970)), shadow=14)
    return photograph(light(scene, (0.3, 0.2), 0.45), 8)


def fax() -> Image.Image:
    """A faded fax: low contrast, streaks, specks."""
    page = letter(fax=True).convert("L").resize((760, 1060), Image.Resampling.BILINEAR)
    page = page.point(lambda value: 142 + value * 88 // 255).convert("RGB")
    page = stain(page, noise(page.size, 12, (9, 500)), 0.03)
    page = stain(page, noise(page.size, 13, 2), 0.03)
    chance = random.Random(14)
    for _ in range(260):
        spot = (chance.randrange(page.width), chance.randrange(page.height))
        page.putpixel(spot, (120, 120, 120))
    return page.rotate(0.7, Image.Resampling.BICUBIC, fillcolor=(222, 222, 222)).convert("L")


def ticket_photo() -> Image.Image:
    """A railway ticket on cloth."""
    scene = stain(Image.new("RGB", (1100, 640), (92, 104, 98)), noise((1100, 640), 15, 3), 0.12)
    scene = put(scene, ticket(), ((104, 118), (986, 76), (1010, 506), (92, 558)), shadow=12)
    return photograph(light(scene, (0.4, 0.3), 0.45), 9)


def poster_photo() -> Image.Image:
    """A poster on a wall; the file is stored lying on its side, with EXIF orientation 6."""
    scene = stain(gradient((800, 1100), (206, 202, 194), (168, 162, 150)), noise((800, 1100), 16, 4), 0.06)
    scene = put(scene, poster(), ((112, 96), (690, 122), (680, 1000), (124, 978)), shadow=10)
    return photograph(light(scene, (0.6, 0.2), 0.45), 10)


def bilevel(page: Image.Image) -> Image.Image:
    """What an office scanner makes of a page: black and white, with a few specks."""
    return photograph(page, 17, 0.6).convert("L").point(lambda value: 255 if value > 150 else 0).convert("1")


def main(folder: Path) -> None:
    """Writes all samples."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in (
        ("letter.jpg", letter_photo()),
        ("receipt.jpg", receipt_photo()),
        ("taxi receipt.jpg", taxi_receipt_photo()),
        ("form.jpg", form_scan()),
        ("茶馆.jpg", shop_sign_photo()),
        ("street-sign.jpg", street_sign_photo()),
        ("menu.jpg", menu_photo()),
        ("book.webp", book_photo()),
        ("ticket.jpg", ticket_photo()),
    ):
        picture.save(folder / name, quality=QUALITY)
    fax().quantize(8).save(folder / "fax.png", optimize=True)

    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: the viewer turns it 90 degrees clockwise
    sideways = poster_photo().transpose(Image.Transpose.ROTATE_90)
    sideways.save(folder / "rotated-by-exif.jpg", quality=QUALITY, exif=exif)

    scans = [bilevel(minutes(number)) for number in (1, 2, 3)]
    scans[0].save(folder / "minutes.tif", save_all=True, append_images=scans[1:], compression="group4", dpi=(100, 100))

    leaves = [programme(number).filter(ImageFilter.GaussianBlur(0.4)) for number in (1, 2, 3)]
    leaves[0].save(folder / "programme.pdf", save_all=True, append_images=leaves[1:], resolution=110, quality=72)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
