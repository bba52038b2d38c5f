"""The flat signs: shop, street, book cover, poster."""

from __future__ import annotations

from lettering import centred, font
from PIL import Image, ImageDraw, ImageFilter
from textures import gradient, noise, paper, stain


def shop_sign(*, small: bool = False) -> Image.Image:
    """A tea house's sign in gold on red lacquer, or the small board beside its door."""
    if small:
        board = stain(Image.new("RGB", (420, 520), (238, 226, 196)), noise((420, 520), 91, 40), 0.06)
        draw = ImageDraw.Draw(board)
        draw.rectangle((8, 8, 411, 511), outline=(120, 40, 32), width=8)
        centred(draw, 210, 40, "营业时间", "zh-sans", 64, (120, 40, 32))
        for step, line in enumerate(("上午 九点", "至", "晚上 十点")):
            centred(draw, 210, 160 + step * 84, line, "zh", 56, (50, 40, 36))
        centred(draw, 210, 428, "欢迎光临", "zh", 54, (120, 40, 32))
        return board
    board = gradient((1300, 460), (158, 32, 26), (122, 20, 18))
    board = stain(board, noise(board.size, 92, (200, 6)), 0.08)
    draw = ImageDraw.Draw(board)
    draw.rectangle((14, 14, 1285, 445), outline=(214, 170, 84), width=10)
    draw.rectangle((34, 34, 1265, 425), outline=(214, 170, 84), width=3)
    for offset, colour in ((5, (70, 10, 8)), (0, (236, 196, 104))):
        draw.text((650 + offset, 60 + offset), "清风茶馆", fill=colour, font=font("zh", 232), anchor="ma")
        draw.text(
            (650 + offset, 350 + offset), "QING FENG TEA HOUSE", fill=colour, font=font("serif-bold", 52), anchor="ma"
        )
    return board


def street_sign(kind: str) -> Image.Image:
    """`harbour`, `station`, or the `pole` that carries them."""
    if kind == "pole":
        half = Image.linear_gradient("L").rotate(90).resize((20, 400))
        pole = Image.new("L", (40, 400))
        pole.paste(half.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (0, 0))
        pole.paste(half, (20, 0))
        return pole.point(lambda value: 90 + (255 - value) // 3).convert("RGB")
    green, text, sub = ((24, 88, 66), "HARBOUR STREET", "Old Town · 400 m")
    if kind == "station":
        green, text, sub = ((32, 62, 118), "Central Station", "Museum of Science")
    sign = stain(Image.new("RGB", (1100, 250), green), noise((1100, 250), 93, 60), 0.06)
    draw = ImageDraw.Draw(sign)
    draw.rounded_rectangle((10, 10, 1089, 239), 18, outline=(244, 244, 240), width=7)
    centred(draw, 550, 34, text, "sans-bold", 106, (246, 246, 242))
    centred(draw, 550, 160, sub, "sans", 56, (226, 232, 226))
    return sign


def book() -> Image.Image:
    """A novel's cover."""
    cover = gradient((720, 1100), (28, 58, 82), (196, 140, 104))
    sea = gradient((720, 420), (64, 88, 108), (22, 40, 60))
    cover.paste(sea, (0, 680))
    draw = ImageDraw.Draw(cover)
    draw.ellipse((400, 500, 560, 660), fill=(250, 224, 170))
    for step in range(9):
        y = 690 + step * 24
        draw.line((430 - step * 6, y, 530 + step * 6, y), fill=(206, 176, 138), width=4)
    cover = cover.filter(ImageFilter.GaussianBlur(2.2))
    draw = ImageDraw.Draw(cover)
    cream = (248, 238, 214)
    centred(draw, 360, 90, "A NOVEL", "sans", 28, cream)
    centred(draw, 360, 150, "The Lamp", "serif-bold", 118, cream)
    centred(draw, 360, 280, "beyond the Tide", "serif-italic", 74, cream)
    centred(draw, 360, 960, "ISOLDE FARROW", "sans-bold", 52, cream)
    centred(draw, 360, 1030, "author of Winter Orchard", "serif-italic", 32, cream)
    return stain(cover, noise(cover.size, 94, 2), 0.04)


def poster() -> Image.Image:
    """A market's poster."""
    sheet = paper((700, 1060), (238, 206, 120), seed=95)
    draw = ImageDraw.Draw(sheet)
    draw.ellipse((170, 300, 530, 660), fill=(206, 76, 52))
    draw.polygon(((350, 312), (282, 236), (372, 250)), fill=(70, 104, 62))
    draw.ellipse((230, 350, 330, 450), fill=(222, 108, 80))
    centred(draw, 350, 50, "SUNDAY", "sans-bold", 130, (60, 46, 40))
    centred(draw, 350, 690, "FARMERS' MARKET", "sans-bold", 62, (60, 46, 40))
    centred(draw, 350, 790, "fruit · bread · flowers · honey", "serif-italic", 44, (60, 46, 40))
    draw.rectangle((0, 880, 700, 1060), fill=(60, 46, 40))
    centred(draw, 350, 904, "Every week from 8 to 1", "sans-bold", 50, (246, 226, 160))
    centred(draw, 350, 976, "on the green behind St. Anne's", "sans", 38, (246, 226, 160))
    return sheet
