"""What synthetic pages say and in which letters: strings in Chinese and English, fonts of the machine, ink masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), Path.home() / ".local/share/fonts")

_SIGNS = (
    "超市 药店 酒店 餐厅 银行 出口 入口 停车场 洗手间 禁止吸烟 请勿入内 小心地滑 欢迎光临 营业时间 收银台 电话 地址 "
    "有限公司 中国邮政 火锅 牛肉面 奶茶 烧烤 理发 美容 服装 手机 维修 打印 复印 图书馆 教学楼 办公室 消防栓 安全出口 "
    "北京路 人民路 中山路 大道 地铁站 公交站 医院 学校 幼儿园 派出所 大药房 便利店 水果 蔬菜 早餐 快递 房产 中介 "
    "特价 优惠 促销 全场 折起 新品上市 限时 免费 专卖店 旗舰店 茶叶 烟酒 海鲜 川菜 湘菜 小吃 网吧 宾馆 招待所 会议室"
)
_ENGLISH = (
    "the of and to in for is on by this with you it not or be are from at as your all have new more an was we will "
    "home can us about if page my has search free but our one other do no information time they site he up may what "
    "news out use any there see only so his when contact here business who web also now help get view online "
    "first been would how were services some these click its like service than find price date back top people had "
    "list name over state year day into email two health world next used go work last most products music buy data "
    "make them should product system post her city add policy number such please available copyright support message "
    "after best software then good video well where info rights public books high school through each links she review "
    "years order very privacy book items company read group need many user said does set under general research "
    "university mail full map reviews program life know games way days management part could great united hotel "
    "real item international center exit open closed coffee market street station bank parking restaurant cafe total "
    "amount cash change invoice receipt tax quantity description subject memo report approved signature department"
)
_SIGN_WORDS, _ENGLISH_WORDS = _SIGNS.split(), _ENGLISH.split()
_SYMBOLS = "&-/:.,()%#*+@!"


@dataclass(frozen=True, slots=True)
class Face:
    """A font file (and face in it) with the characters it has."""

    path: Path
    index: int
    characters: frozenset[str]

    def has_all(self, text: str) -> bool:
        """Whether every visible character has a glyph."""
        return all(character in self.characters or character.isspace() for character in text)


def simplified_characters() -> str:
    """GB 2312 level 1: the 3,755 most common simplified characters."""
    codes = (bytes((high, low)) for high in range(0xB0, 0xD8) for low in range(0xA1, 0xFF))
    return "".join(code.decode("gb2312", "ignore") for code in codes)


def traditional_characters() -> str:
    """Big5 level 1: the 5,401 most common traditional characters."""
    lows = [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
    return "".join(bytes((high, low)).decode("big5", "ignore") for high in range(0xA4, 0xC7) for low in lows)


@lru_cache(maxsize=1)
def find_faces() -> tuple[tuple[Face, ...], tuple[Face, ...]]:
    """Latin and Chinese faces installed on this machine.

    Raises:
        FileNotFoundError: there are none.
    """
    from fontTools.ttLib import TTCollection, TTFont, TTLibError  # type: ignore[import-untyped]

    latin, chinese = [], []
    files = sorted(f for d in FONT_FOLDERS if d.is_dir() for f in d.rglob("*") if f.suffix in (".ttf", ".otf", ".ttc"))
    for file in files:
        name = file.name.lower()
        if any(word in name for word in ("emoji", "symbol", "math", "opens___", "dingbat", "music", "braille")):
            continue
        try:
            # Faces of a collection differ by region or spacing; a few of them do.
            count = min(len(TTCollection(file, lazy=True).fonts), 3) if file.suffix == ".ttc" else 1
            for index in range(count):
                cmap = TTFont(file, fontNumber=index, lazy=True).getBestCmap() or {}
                face = Face(file, index, frozenset(map(chr, cmap)))
                if face.has_all("的书國") or face.has_all("國書") or face.has_all("中国书"):
                    chinese.append(face)
                elif face.has_all("aZ09&"):
                    latin.append(face)
        except (TTLibError, OSError, AssertionError, ValueError):
            continue
    if not latin:
        raise FileNotFoundError("no fonts found: install some (Debian: fonts-noto-cjk fonts-dejavu fonts-liberation)")
    return tuple(latin), tuple(chinese)


@lru_cache(maxsize=256)
def _load(path: Path, index: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size, index=index)


def number(rng: np.random.Generator) -> str:
    """A price, date, telephone number, code or count."""
    digits = "".join(map(str, rng.integers(0, 10, 12)))
    kind = rng.integers(7)
    forms = (
        f"{int(digits[:3])}.{digits[3:5]}",
        f"{int(digits[:2]) % 28 + 1:02}/{int(digits[2:4]) % 12 + 1:02}/20{int(digits[4:6]) % 26:02}",
        f"{digits[:3]}-{digits[3:7]}-{digits[7:11]}",
        f"${int(digits[:4])}.{digits[4:6]}",
        digits[: int(rng.integers(1, 9))],
        f"{digits[:2]}:{int(digits[2:4]) % 60:02}",
        f"{chr(65 + int(digits[0]))}{digits[1:5]}-{digits[5:7]}",
    )
    return forms[kind]


def english(rng: np.random.Generator, words: int) -> str:
    """Some words, in one of the usual cases, sometimes with numbers and punctuation."""
    chosen = []
    for _ in range(words):
        word = str(rng.choice(_ENGLISH_WORDS))
        if rng.random() < 0.12:
            word = number(rng)
        elif rng.random() < 0.15:
            word = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), int(rng.integers(3, 11))))
        if rng.random() < 0.06:
            word += str(rng.choice(list(_SYMBOLS)))
        chosen.append(word)
    text = " ".join(chosen)
    style = rng.random()
    return text.upper() if style < 0.35 else text.title() if style < 0.65 else text


def chinese(rng: np.random.Generator, length: int, face: Face) -> str:
    """About ``length`` characters that the face has, sometimes real words of signs, sometimes with digits or Latin."""
    if rng.random() < 0.35:
        text = "".join(rng.choice(_SIGN_WORDS, max(1, length // 3)))
    else:
        pool = _character_pool(face)
        text = "".join(rng.choice(pool, length)) if len(pool) else ""
    if rng.random() < 0.12:
        text += number(rng)
    if rng.random() < 0.08:
        text = english(rng, 1) + " " + text
    return "".join(character for character in text if character in face.characters or character == " ")


@lru_cache(maxsize=128)
def _character_pool(face: Face) -> tuple[str, ...]:
    simple = [character for character in simplified_characters() if character in face.characters]
    if len(simple) > 3000:
        return tuple(simple)
    return tuple(character for character in traditional_characters() if character in face.characters)


def draw_ink(
    face: Face,
    text: str,
    size: int,
    *,
    vertical: bool = False,
    spacing: float = 0.0,
    stroke: int = 0,
    arc: float = 0.0,
) -> np.ndarray | None:
    """Draws one line of text.

    Args:
        face: with all the characters.
        text: the line.
        size: of the font, pixels.
        vertical: characters upright, one below the other.
        spacing: extra room between characters, in font sizes.
        stroke: extra thickness, pixels.
        arc: how far the middle of the line rises over its ends, in font sizes.

    Returns:
        (H, W) uint8 coverage, cropped to the ink; None if there is none.
    """
    font = _load(face.path, face.index, size)
    if not (vertical or spacing or arc):
        left, top, right, bottom = font.getbbox(text, stroke_width=stroke)
        canvas = Image.new("L", (max(1, int(right - left)) + 4, max(1, int(bottom - top)) + 4))
        ImageDraw.Draw(canvas).text((2 - left, 2 - top), text, 255, font, stroke_width=stroke)
        return _crop(np.asarray(canvas))
    advances = [font.getlength(character) for character in text]
    if vertical:
        step = size * (1.05 + spacing)
        canvas = Image.new("L", (size * 2, int(step * len(text) + size)))
        draw = ImageDraw.Draw(canvas)
        for row, (character, advance) in enumerate(zip(text, advances, strict=True)):
            draw.text((size - advance / 2, row * step), character, 255, font, stroke_width=stroke)
        return _crop(np.asarray(canvas))
    gaps = spacing * size
    total = sum(advances) + gaps * len(text)
    rise = abs(arc) * size
    canvas = Image.new("L", (int(total) + size, int(size * 2 + rise)))
    draw = ImageDraw.Draw(canvas)
    x = 0.0
    for character, advance in zip(text, advances, strict=True):
        along = 2 * (x + advance / 2) / max(total, 1) - 1
        draw.text((x + 4, size * 0.3 + rise * (along**2 if arc > 0 else 1 - along**2)), character, 255, font,
                  stroke_width=stroke)  # fmt: skip
        x += advance + gaps
    return _crop(np.asarray(canvas))


def _crop(ink: np.ndarray) -> np.ndarray | None:
    rows, columns = np.flatnonzero(ink.max(axis=1) > 40), np.flatnonzero(ink.max(axis=0) > 40)
    if not len(rows) or not len(columns):
        return None
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
