"""How much of one page may be copied to a spool: what says that it is larger is refused before a byte of it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, NamedTuple

from detector.errors import TooLarge

_PIECE = 1 << 20


class Bound(NamedTuple):
    """The most that one copy may take.

    Attributes:
        most_bytes: of the copy.
        remedy: what people can do with a page that is larger.
    """

    most_bytes: int
    remedy: str

    def check(self, what: str, size: int) -> None:
        """Look at a size that something says it has.

        Args:
            what: it is, for people.
            size: bytes.

        Raises:
            TooLarge: it is above the bound.
        """
        if size > self.most_bytes:
            said = f"{size / 1e6:.0f} MB, more than {_in_words(self.most_bytes)}"
            raise TooLarge(f"{what} has {said}; {self.remedy}")

    def pieces(self, source: IO[bytes], what: str) -> Iterator[bytes]:
        """What is in ``source``, up to the bound: sizes that are said may be wrong.

        Raises:
            TooLarge: there is more.
        """
        left = self.most_bytes
        while piece := source.read(min(_PIECE, left + 1)):
            left -= len(piece)
            if left < 0:
                raise TooLarge(f"{what} is larger than {_in_words(self.most_bytes)}; {self.remedy}")
            yield piece


def _in_words(size: int) -> str:
    return f"{size >> 20} MB" if size >> 20 else f"{size} bytes"
