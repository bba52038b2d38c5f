"""A list as an answer: as many entries as were asked for, and as fit, and where it goes on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

MOST_BYTES = 256 << 10
"""Of one answer: 1,000 entries of 500 bytes. A thousand with names of 2,048 wide characters were 6 MB."""

Placed = Iterable[tuple[str, Mapping[str, Any] | None]]


def listing(name: str, entries: Placed) -> Response:
    """``{name: [...], "next": ...}``.

    Args:
        name: of the list.
        entries: what to ask for the list from this entry on, and the entry; None instead of one that is there, but
            beyond what was asked for.

    Returns:
        The answer; its ``next`` is null where that is all. At least one entry is in it, however long that is.
    """
    parts, size, following = [b'{"%s":[' % name.encode()], 0, None
    for place, entry in entries:
        part = b"" if entry is None else msgspec.json.encode(entry)
        if entry is None or (size and size + len(part) > MOST_BYTES):
            following = place
            break
        parts += (b",", part) if size else (part,)
        size += len(part)
    parts.append(b'],"next":%s}' % msgspec.json.encode(following))
    body = b"".join(parts)  # the one copy
    return Response(body, media_type="application/json")
