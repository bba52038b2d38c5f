"""TIFFs written by hand: chains of directories with any fault in them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

NEW_SUBFILE, BOTTOM = 254, 0xFFFFFFF0


class Picture(NamedTuple):
    """One directory of a grey picture.

    Attributes:
        width: pixels.
        height: pixels.
        subfile: tag 254; 1 is a reduced picture.
    """

    width: int = 64
    height: int = 48
    subfile: int = 0


def raw_tiff(pictures: Sequence[Picture], *, order: str = "<", last: int = 0) -> bytes:
    """Uncompressed grey pictures, each before its directory.

    Args:
        pictures: in the file's order.
        order: "<" or ">".
        last: where the last directory says that the next one is; 0 ends the chain.
    """
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for picture in pictures:
        begin = len(data)
        data += bytes(index * 7 % 256 for index in range(picture.width * picture.height))
        data += bytes(len(data) % 2)
        place = len(data)
        struct.pack_into(order + "I", data, link, place)
        tags = [
            (NEW_SUBFILE, 4, picture.subfile),
            (256, 4, picture.width),
            (257, 4, picture.height),
            (258, 3, 8),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, begin),
            (277, 3, 1),
            (278, 4, picture.height),
            (279, 4, picture.width * picture.height),
        ]
        data += struct.pack(order + "H", len(tags))
        for tag, kind, value in tags:
            field = struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
            data += struct.pack(order + "HHI", tag, kind, 1) + field
        link = len(data)
        data += struct.pack(order + "I", last)
    return bytes(data)
