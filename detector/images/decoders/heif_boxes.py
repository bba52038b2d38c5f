"""Where a HEIC's data have a hole: zeros that no HEVC data have, which libde265 paints over without a word.

Or they lie behind the end of the file: libheif says so of a single picture, and leaves tiles of a grid dark.

ISO 14496-12, 8.11 (the boxes meta, pitm, iinf, iref, iloc), and H.265, 7.4.2: a NAL unit never has three zero bytes in
a row. With the length of the next one before it there may be five.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

HOLE = bytes(16)
"""What a download that was cut off or a bad sector leaves, at least."""

MOST_META = 16 << 20
"""Bytes of boxes that are looked at. A picture of 10,000 tiles has 0.4 MB."""

_CODED = (b"hvc1", b"hev1")
_MOST_DEPTH = 4  # a crop of a grid of tiles is 2


def share_before_holes(file: BinaryIO) -> float:
    """Of the primary picture's HEVC data what lies before the first hole of each tile, 0 to 1; 1 if there is none.

    Nothing of a tile that the file ends in: libheif does not decode it. Of boxes that make no sense nothing is said.
    """
    try:
        meta, at = _meta(file)
        boxes = {kind: (start, end) for kind, start, end in _boxes(meta, 4, len(meta))}
        items = _wanted(meta, boxes)
        idat = at + boxes.get(b"idat", (0, 0))[0]
        pieces = list(_pieces(meta, *boxes[b"iloc"], items, idat))
    except (struct.error, KeyError, IndexError):
        return 1.0
    end = left = file.seek(0, os.SEEK_END)
    total = sound = 0
    for place, size in pieces:
        size = size or max(0, end - place)  # 0: up to the end
        if place + size <= end:
            left -= size
            if left < 0:  # pieces that lie over each other
                break
            file.seek(place)
            hole = file.read(size).find(HOLE)
            sound += size if hole < 0 else hole
        total += size
    return sound / total if total else 1.0


def _meta(file: BinaryIO) -> tuple[bytes, int]:
    """The body of the box meta, and where in the file it begins."""
    place = 0
    while True:
        file.seek(place)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", file.read(8))[0], 16
        if kind == b"meta":
            return file.read(min(size - head, MOST_META) if size else MOST_META), place + head
        if size < head:
            raise KeyError("meta")
        place += size


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, where its body begins, where it ends) of each box there."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1:
            size, head = struct.unpack_from(">Q", data, start + 8)[0], 16
        if size < head:
            return
        yield kind, start + head, min(start + size, end)
        start += size


def _wanted(meta: bytes, boxes: dict[bytes, tuple[int, int]]) -> set[int]:
    """The items of HEVC data that the primary picture is made of."""
    start, _ = boxes[b"pitm"]
    primary = struct.unpack_from(">I" if meta[start] else ">H", meta, start + 4)[0]
    start, end = boxes[b"iinf"]
    kinds: dict[int, bytes] = {}
    for _, body, _ in _boxes(meta, start + (8 if meta[start] else 6), end):
        wide = meta[body] >= 3
        number = struct.unpack_from(">I" if wide else ">H", meta, body + 4)[0]
        kinds[number] = meta[body + (10 if wide else 8) :][:4] if meta[body] >= 2 else b""
    parts: dict[int, tuple[int, ...]] = {}
    start, end = boxes.get(b"iref", (0, 0))
    for kind, body, _ in _boxes(meta, start + 4, end):
        if kind == b"dimg":
            code = "I" if meta[start] else "H"
            number, count = struct.unpack_from(f">{code}H", meta, body)
            parts[number] = struct.unpack_from(f">{count}{code}", meta, body + struct.calcsize(f">{code}H"))
    found = {primary}
    for _ in range(_MOST_DEPTH):
        found |= {part for item in found for part in parts.get(item, ())}
    return {item for item in found if kinds.get(item) in _CODED}


def _pieces(meta: bytes, start: int, end: int, items: set[int], idat: int) -> Iterator[tuple[int, int]]:
    """Where in the file the data of these items lie, and how many bytes."""
    version, sizes, more = meta[start], meta[start + 4], meta[start + 5]
    wide_place, wide_size, wide_base = sizes >> 4, sizes & 15, more >> 4
    wide_index = more & 15 if version else 0
    code = ">I" if version == 2 else ">H"
    count = struct.unpack_from(code, meta, start + 6)[0]
    at = start + 6 + struct.calcsize(code)
    for _ in range(count):
        item = struct.unpack_from(code, meta, at)[0]
        at += struct.calcsize(code)
        method = meta[at + 1] & 15 if version else 0
        at += 4 if version else 2
        base = int.from_bytes(meta[at : at + wide_base], "big")
        extents = struct.unpack_from(">H", meta, at + wide_base)[0]
        at += wide_base + 2
        for _ in range(extents):
            at += wide_index
            place = base + int.from_bytes(meta[at : at + wide_place], "big") + (idat if method == 1 else 0)
            size = int.from_bytes(meta[at + wide_place : at + wide_place + wide_size], "big")
            at += wide_place + wide_size
            if at > end:
                return
            if item in items and method < 2:
                yield place, size
