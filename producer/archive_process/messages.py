"""What the producer and the listing process say to each other: one JSON object a line."""

from __future__ import annotations

import msgspec

from detector.images.regular_file import Identity
from producer.sources.archive import Kind


class Question(msgspec.Struct, frozen=True):
    """List this archive.

    Attributes:
        path: percent-encoded file name.
        kind: what it is.
        zip_encoding: of names that do not say theirs; empty to guess.
        counting_s: how long its members' pages may be counted at most.
        seen: the file that was looked at, device and inode; null: any.
    """

    path: str
    kind: Kind
    zip_encoding: str = ""
    counting_s: float = 1e9
    seen: Identity | None = None


class MemberLine(msgspec.Struct, frozen=True, tag="member"):
    """One member. Names are percent-encoded bytes, as in URIs.

    Attributes:
        name: as stored.
        shown: for people.
        pages: how many it has at least.
        broken: why there may be more.
        uncounted: why its pages cannot be counted.
        number: which entry of its archive it is, from 0, where a name alone may mean another.
    """

    name: str
    shown: str
    pages: int = 1
    broken: str = ""
    uncounted: str = ""
    number: int | None = None


class AliveLine(msgspec.Struct, frozen=True, tag="alive"):
    """The process has read on in the archive."""


class EndLine(msgspec.Struct, frozen=True, tag="end"):
    """The last line of an answer.

    Attributes:
        passed: what was passed over, by kind.
        broken: why the archive cannot be read to its end; empty if it can.
        unread: what the disk or the network said when it was read; the archive may be whole.
    """

    passed: dict[str, int]
    broken: str = ""
    unread: str = ""


Line = MemberLine | AliveLine | EndLine
