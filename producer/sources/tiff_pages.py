"""How many pages a TIFF has, by the chain of its directories (TIFF 6.0, section 2; BigTIFF). Nothing is decoded.

By hand, not with Pillow: that would be 23 MB of every producer's installation for this alone.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

CLASSIC, BIG = 42, 43
MOST_PAGES = 1_000_000


def count_directories(stream: BinaryIO) -> int:
    """Pages up to where the chain ends, breaks off or runs in a circle.

    A directory that is cut off counts: its page fails where it is opened, and so has a record that says it.

    Args:
        stream: the file, seekable.

    Raises:
        ValueError: not a TIFF, or not even its first directory is whole.
    """
    stream.seek(0)
    head = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    kind = struct.unpack_from(f"{order}H", head, 2)[0] if order and len(head) >= 8 else 0
    if kind == CLASSIC:
        count_format, entry, next_format, at = f"{order}H", 12, f"{order}I", 4
    elif kind == BIG and len(head) == 16:
        count_format, entry, next_format, at = f"{order}Q", 20, f"{order}Q", 8
    else:
        raise ValueError("not a TIFF")
    (offset,) = struct.unpack_from(next_format, head, at)
    size = stream.seek(0, 2)
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < MOST_PAGES:
        seen.add(offset)
        entries = _number(stream, offset, count_format, size)
        end = offset + struct.calcsize(count_format) + (entries or 0) * entry
        following = None if entries is None else _number(stream, end, next_format, size)
        if following is None and len(seen) == 1:
            raise ValueError("its first directory is cut off")
        offset = following or 0
    if not seen:
        raise ValueError("it has no directory")
    return len(seen)


def _number(stream: BinaryIO, offset: int, layout: str, size: int) -> int | None:
    """The number at a place, None beyond the end of the file."""
    length = struct.calcsize(layout)
    if offset + length > size:
        return None
    stream.seek(offset)
    data = stream.read(length)
    return int(struct.unpack(layout, data)[0]) if len(data) == length else None
