"""Names in zips that do not say their encoding: what Windows wrote in its own code page is shown as it was meant.

The format knows UTF-8 (flag bit 11) and code page 437; Windows writes the code page of its language without a word.
"""

from __future__ import annotations

import unicodedata
import zipfile
from collections.abc import Sequence

UTF8_FLAG = 0x800
GUESSES = ("gb18030", "cp932", "cp1252", "cp437")
MOST_NAMES = 2000
"""Names looked at before an encoding is chosen; all of an archive were written on one machine."""


class ZipNames:
    """Shows the names of one zip's members.

    Args:
        infos: its table of contents.
        encoding: of names that do not say theirs; empty to guess.
    """

    def __init__(self, infos: Sequence[zipfile.ZipInfo], encoding: str = "") -> None:
        self._encoding = encoding or guess([raw for info in infos[:MOST_NAMES] if (raw := unflagged(info))])

    def shown(self, info: zipfile.ZipInfo) -> str:
        """The member's name for people."""
        raw = unflagged(info)
        return raw.decode(self._encoding, "backslashreplace") if raw else info.filename


def unflagged(info: zipfile.ZipInfo) -> bytes:
    """A name's bytes, if it does not say its encoding and is not plain ASCII; else empty."""
    if info.flag_bits & UTF8_FLAG or info.filename.isascii():
        return b""
    try:
        return info.filename.encode("cp437")
    except UnicodeEncodeError:  # zipfile took the name from elsewhere (a Unicode path field)
        return b""


def guess(names: Sequence[bytes]) -> str:
    """The encoding of all names: UTF-8 if it is, else the one in which they look most like words."""
    if all(_decoded(name, "utf-8") is not None for name in names):
        return "utf-8"
    scored = []
    for place, encoding in enumerate(GUESSES):
        decoded = [_decoded(name, encoding) for name in names]
        if None not in decoded:
            scored.append((sum(map(plausibility, filter(None, decoded))), -place, encoding))
    return max(scored)[2] if scored else "cp437"


def _decoded(name: bytes, encoding: str) -> str | None:
    """The name, if it comes back as the same bytes."""
    try:
        text = name.decode(encoding)
        return text if text.encode(encoding) == name else None
    except UnicodeError:
        return None


def plausibility(text: str) -> float:
    """How much a name looks like one: common letters count, rare ideographs and symbols count against it."""
    return sum(_weight(char) for char in text if not char.isascii()) / max(1, sum(not char.isascii() for char in text))


def _weight(char: str) -> float:
    code = ord(char)
    if 0x3040 <= code <= 0x30FF:  # kana: only Japanese has them, in any number
        return 2.0
    if 0x4E00 <= code <= 0x9FFF:
        # GB2312's first level and JIS's first level are the 3,000 to 4,000 characters of ordinary names.
        return 1.0 if _is_common(char) else -1.0
    if 0xFF61 <= code <= 0xFF9F:  # half-width kana: what any other text looks like when read as cp932
        return -1.0
    if 0xC0 <= code <= 0x17F and char.isalpha():
        return 0.5
    return -2.0 if unicodedata.category(char)[0] in "CSZ" else -0.5


def _is_common(char: str) -> bool:
    chinese = char.encode("gb2312", "ignore")
    japanese = char.encode("cp932", "ignore")
    return b"\xb0\xa1" <= chinese <= b"\xd7\xfe" or b"\x88\x9f" <= japanese <= b"\x98\x72"
