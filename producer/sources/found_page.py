"""What a scan finds."""

from __future__ import annotations

import msgspec


class Problem(msgspec.Struct, frozen=True):
    """Why a page is known to fail before any worker sees it: an error type of records, and one line."""

    type: str
    message: str


class FoundPage(msgspec.Struct, frozen=True):
    """One page to look at.

    Attributes:
        image: the name people see; valid Unicode, bytes that are not UTF-8 shown as backslash escapes.
        uri: `file:///…`, or of a member of an archive as `zip+file:///a.zip#member`, percent-encoded bytes.
        page: 0-based.
        problem: why it fails, if that is known.
        uncounted: page 0 of a file of which nobody has counted how many pages it has: its worker is to say.
    """

    image: str
    uri: str
    page: int
    problem: Problem | None = None
    uncounted: bool = False
