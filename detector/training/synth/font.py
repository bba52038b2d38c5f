"""Fonts of this machine, and one line of text drawn with them as an ink mask."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detector.cache import base_folder

OWN_FONTS = base_folder(os.environ, "XDG_DATA_HOME", ".local/share")
FONT_FOLDERS = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), *([OWN_FONTS / "fonts"] if OWN_FONTS else [])]
# Debian packages that the shipped weights' pages were drawn with, and a part of a file name that shows each is there.
PACKAGES = {
    "fonts-noto-cjk": "NotoSansCJK-Bold",
    "fonts-noto-cjk-extra": "NotoSansCJK-Black",
    "fonts-wqy-zenhei": "wqy-zenhei",
    "fonts-wqy-microhei": "wqy-microhei",
    "fonts-smiley-sans": "SmileySans",
    "fonts-lxgw-wenkai": "LXGWWenKai",
    "fonts-arphic-ukai": "ukai",
    "fonts-arphic-uming": "uming",
    "fonts-arphic-gbsn00lp": "gbsn00lp",
    "fonts-arphic-gkai00mp": "gkai00mp",
    "fonts-cwtex-yen": "cwyen",
    "fonts-kouzan-mouhitsu": "kouzan-mouhitsu",
    "fonts-rampart": "Rampart",
    "fonts-reggae": "Reggae",
    "fonts-yusei-magic": "YuseiMagic",
    "fonts-mplus": "Mplus1",
    "fonts-dejavu": "DejaVuSans",
    "fonts-liberation": "LiberationSans",
    "fonts-urw-base35": "NimbusSans",
    "fonts-lobster": "Lobster",
    "fonts-bebas-neue": "BebasNeue",
    "fonts-league-spartan": "LeagueSpartan",
    "fonts-kaushanscript": "Kaushan",
    "fonts-dseg": "DSEG",
    "fonts-ocr-b": "OCRB",
    "fonts-symbola": "Symbola",
    "fonts-courier-prime": "Courier Prime",
    "fonts-freefont-ttf": "FreeMono",
}
_NOT_LETTERS = re.compile(
    r"emoji|symbol|math|opens___|dingbat|music|braille|glyphicons|d050000l|weather|segg|"
    r"noto(naskh|nasta|looped|rashi|sans(?!cjk|mono|display|-)|serif(?!cjk|display|-))",
    re.IGNORECASE,
)
_SANS = re.compile(r"NotoSansCJK|wqy|SmileySans|DroidSansFallback|cwheib|cwyen|Mplus1", re.IGNORECASE)
_BODY = re.compile(
    r"NotoS\w+CJK|wqy|SmileySans|Droid|cw|IPA|ipa|uming|ukai|gbsn|gkai|LXGW|Liberation|DejaVu|Nimbus|Roboto|OpenSans|"
    r"Lato|Tinos|Arimo|Cousine|Free|C059|P052|NotoS|texgyre|Inter|Cantarell|OCR|EBGaramond|LinLib|Inconsolata|Mplus|Hack"
)
_TYPEWRITER = re.compile(r"Courier|LiberationMono|NimbusMono|FreeMono|texgyrecursor|Cousine|DejaVuSansMono")
_CJK_CODE_PAGES = 1 << 17 | 1 << 18 | 1 << 20  # OS/2 ulCodePageRange1: Japanese, simplified and traditional Chinese
# Pictures in fonts: arrows, shapes, weather, chess, maps, dingbats, animals, transport, the web's icons. Left out is
# what looks like letters or digits: planets and zodiac, circled digits, typography's icons.
_PICTURE_RANGES = ((0x2190, 0x21FF), (0x25A0, 0x263C), (0x2654, 0x26A1), (0x26BD, 0x26C8), (0x2701, 0x2775),
                   (0x2794, 0x27BF), (0x1F300, 0x1F3A9), (0x1F400, 0x1F4A8), (0x1F680, 0x1F6BD), (0xE001, 0xE045),
                   (0xE053, 0xE080))  # fmt: skip
_PICTURE_FONTS = ("Symbola", "DejaVuSans.ttf", "FreeSerif.ttf", "FreeMono.ttf", "glyphicons", "NotoSansSymbols")


def simplified_characters(levels: int = 1) -> str:
    """GB 2312: level 1 is the 3,755 most common simplified characters, level 2 another 3,008."""
    codes = (bytes((high, low)) for high in range(0xB0, 0xD8 if levels == 1 else 0xF8) for low in range(0xA1, 0xFF))
    return "".join(code.decode("gb2312", "ignore") for code in codes)


def traditional_characters() -> str:
    """Big5 level 1: the 5,401 most common traditional characters."""
    lows = [*range(0x40, 0x7F), *range(0xA1, 0xFF)]
    return "".join(bytes((high, low)).decode("big5", "ignore") for high in range(0xA4, 0xC7) for low in lows)


@lru_cache(maxsize=1)
def _wanted() -> frozenset[str]:
    """All characters that pages may hold; what else a font has is not kept, for memory's sake."""
    marks = "，。！？、：；（）《》“”‘’·￥¥€£★☆●•—…℃①②③№◆■→←↑↓✆☎"
    ascii_letters = "".join(map(chr, range(0x21, 0x7F)))
    return frozenset(simplified_characters(2) + traditional_characters() + marks + ascii_letters)


@lru_cache(maxsize=512)
def _characters(path: Path, index: int) -> frozenset[str]:
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    cmap = TTFont(path, fontNumber=index, lazy=True).getBestCmap() or {}
    return frozenset(character for character in _wanted() if ord(character) in cmap)


@dataclass(frozen=True, slots=True)
class Face:
    """A font file, and which face in it."""

    path: Path
    index: int

    @property
    def characters(self) -> frozenset[str]:
        """What it can write, of the characters used here; read from the file on first use."""
        return _characters(self.path, self.index)

    @property
    def family(self) -> str:
        """Its file's name up to the first hyphen, digit or weight: one name for all weights and slants."""
        return re.split(r"[-_\d]", self.path.stem)[0]

    def has_all(self, text: str) -> bool:
        """Whether every visible character has a glyph."""
        return all(character in self.characters or character.isspace() for character in text)


def _font_files() -> list[Path]:
    folders = (folder for folder in FONT_FOLDERS if folder.is_dir())
    return sorted(f for folder in folders for f in folder.rglob("*") if f.suffix in (".ttf", ".otf", ".ttc"))


@lru_cache(maxsize=1)
def find_faces() -> tuple[tuple[Face, ...], tuple[Face, ...]]:
    """Latin and Chinese faces installed on this machine.

    Raises:
        FileNotFoundError: there are none.
    """
    from fontTools.ttLib import TTCollection, TTFont, TTLibError

    latin: list[Face] = []
    chinese: list[Face] = []
    for file in _font_files():
        if _NOT_LETTERS.search(file.name):
            continue
        try:
            # Faces of a collection differ by region or spacing; a few of them do.
            count = min(len(TTCollection(file, lazy=True).fonts), 3) if file.suffix == ".ttc" else 1
            for index in range(count):
                face = Face(file, index)
                pages = getattr(TTFont(file, fontNumber=index, lazy=True).get("OS/2"), "ulCodePageRange1", None)
                # Reading all characters of all fonts takes half a minute; what the font says of itself must do.
                if pages:
                    (chinese if pages & _CJK_CODE_PAGES else latin).append(face)
                elif face.has_all("中"):
                    chinese.append(face)
                elif face.has_all("aZ09"):
                    latin.append(face)
        except (TTLibError, OSError, AssertionError, ValueError):
            continue
    if not latin:
        raise FileNotFoundError("no fonts found: install some (Debian: fonts-noto-cjk fonts-dejavu fonts-liberation)")
    return tuple(latin), tuple(chinese)


def missing_packages() -> list[str]:
    """Debian packages of `PACKAGES` whose fonts are not here: pages are drawn without them, with less variety."""
    names = [file.name for file in _font_files()]
    return [package for package, part in PACKAGES.items() if not any(part in name for name in names)]


@lru_cache(maxsize=4)
def _families(chinese: bool, text: bool) -> tuple[tuple[tuple[Face, ...], ...], tuple[Face, ...]]:
    """Faces by family, and the sans-serif ones; only those that books and letters are set in, if there are any."""
    faces = find_faces()[1 if chinese else 0]
    if text:
        faces = tuple(face for face in faces if _BODY.match(face.path.name)) or faces
    names = sorted({face.family for face in faces})
    groups = tuple(tuple(face for face in faces if face.family == name) for name in names)
    return groups, tuple(face for face in faces if _SANS.search(face.path.name))


def pick_face(rng: np.random.Generator, chinese: bool, *, text: bool = False) -> Face:
    """A face: families are equally likely, however many weights they have; half of Chinese signs are sans-serif.

    Args:
        rng: source of randomness.
        chinese: with Chinese characters.
        text: one for running text, no lettering of signs.
    """
    groups, sans = _families(chinese, text)
    while True:
        group = groups[int(rng.integers(len(groups)))]
        if chinese and sans and rng.random() < 0.5:
            group = sans
        face = group[int(rng.integers(len(group)))]
        # What find_faces took on trust is looked at here.
        if face.has_all("中" if chinese else "A0") or len(groups) == 1:
            return face


def pick_typewriter(rng: np.random.Generator) -> Face:
    """A face whose letters are all equally wide, as typewriters and old printers have; another where there is none."""
    faces = [face for face in find_faces()[0] if _TYPEWRITER.match(face.path.name)]
    return faces[int(rng.integers(len(faces)))] if faces else pick_face(rng, False, text=True)


@lru_cache(maxsize=384)
def _load(path: Path, index: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), size, index=index)


def draw_ink(
    face: Face,
    text: str,
    size: int,
    *,
    vertical: bool = False,
    spacing: float = 0.0,
    stroke: int = 0,
    arc: float = 0.0,
    jitter: float = 0.0,
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
        jitter: how far characters stray from the base line, in font sizes: handwriting.

    Returns:
        (H, W) uint8 coverage, cropped to the ink; None if there is none.
    """
    try:
        font = _load(face.path, face.index, size)
        if vertical:
            ink = _draw_column(font, text, size, spacing, stroke)
        elif spacing or jitter:
            ink = _draw_spaced(font, text, size, spacing, stroke, jitter)
        else:
            left, top, right, bottom = font.getbbox(text, stroke_width=stroke)
            canvas = Image.new("L", (max(1, int(right - left)) + 4, max(1, int(bottom - top)) + 4))
            ImageDraw.Draw(canvas).text((2 - left, 2 - top), text, 255, font, stroke_width=stroke)
            ink = np.asarray(canvas)
    except OSError:  # a font that FreeType cannot draw at this size
        return None
    cropped = crop_ink(ink)
    return crop_ink(bend(cropped, arc * size)) if arc and cropped is not None else cropped


def _draw_column(font: ImageFont.FreeTypeFont, text: str, size: int, spacing: float, stroke: int) -> np.ndarray:
    step = size * (1.05 + spacing)
    canvas = Image.new("L", (size * 2, int(step * len(text) + size)))
    draw = ImageDraw.Draw(canvas)
    for row, character in enumerate(text):
        middle = size - font.getlength(character) / 2
        draw.text((middle, row * step), character, 255, font, stroke_width=stroke)
    return np.asarray(canvas)


def _draw_spaced(
    font: ImageFont.FreeTypeFont, text: str, size: int, spacing: float, stroke: int, jitter: float
) -> np.ndarray:
    advances = [font.getlength(character) for character in text]
    canvas = Image.new("L", (int(sum(advances) + spacing * size * len(text)) + 2 * size, int(size * 2.6)))
    draw = ImageDraw.Draw(canvas)
    x = size * 0.5
    for place, (character, advance) in enumerate(zip(text, advances, strict=True)):
        # A slow wave plus a quick one: nearer to a hand than noise, and no generator is needed.
        stray = jitter * size * (np.sin(place * 0.9 + len(text)) + 0.6 * np.sin(place * 2.7))
        draw.text((x, size * 0.5 + stray), character, 255, font, stroke_width=stroke)
        x += advance + spacing * size
    return np.asarray(canvas)


def bend(ink: np.ndarray, rise: float) -> np.ndarray:
    """Shifts columns along a parabola: the middle ends up ``rise`` pixels over the ends (under them if negative)."""
    height, width = ink.shape
    along = np.linspace(-1, 1, width, dtype=np.float32)
    shift = rise * along**2 if rise > 0 else rise * (along**2 - 1)
    tall = height + int(abs(rise)) + 1
    y = np.arange(tall, dtype=np.float32)[:, None] - shift[None, :].astype(np.float32)
    x = np.broadcast_to(np.arange(width, dtype=np.float32), y.shape)
    return np.asarray(cv2.remap(ink, np.ascontiguousarray(x), y.astype(np.float32), cv2.INTER_LINEAR))


def crop_ink(ink: np.ndarray) -> np.ndarray | None:
    """The part of an (H, W) uint8 mask that holds ink, None if there is none."""
    rows, columns = np.flatnonzero(ink.max(axis=1) > 40), np.flatnonzero(ink.max(axis=0) > 40)
    if not len(rows) or not len(columns):
        return None
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@lru_cache(maxsize=1)
def _pictures() -> tuple[tuple[Face, str], ...]:
    """(face, characters) of the fonts with pictures."""
    from fontTools.ttLib import TTFont

    found = []
    for file in _font_files():
        if file.suffix != ".ttc" and any(file.name.startswith(name) for name in _PICTURE_FONTS):
            cmap = TTFont(file, lazy=True).getBestCmap() or {}
            ranges = _PICTURE_RANGES if "glyphicons" in file.name else _PICTURE_RANGES[:-2]
            drawn = "".join(chr(code) for low, high in ranges for code in range(low, high + 1) if code in cmap)
            if drawn:
                found.append((Face(file, 0), drawn))
    return tuple(found)


def draw_picture(rng: np.random.Generator, size: int) -> np.ndarray | None:
    """An arrow, a person, a vehicle or the like as (H, W) uint8 ink; None where no font has any."""
    fonts = _pictures()
    if not fonts:
        return None
    face, drawn = fonts[int(rng.integers(len(fonts)))]
    return draw_ink(face, drawn[int(rng.integers(len(drawn)))], size, stroke=int(rng.integers(0, 2 + size // 40)))
