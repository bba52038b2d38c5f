"""Real pages whose lines were put in order by hand: `tests/data/reading_order.json`.

The pictures are not ours to pass on: the file has their names, their SHA-256, the boxes that `dbnet-resnet18` found at
1280 pixels, and the numbers of the boxes in the order in which a person reads them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec

ORDERS = Path(__file__).parent / "data" / "reading_order.json"


class OrderedPage(msgspec.Struct, frozen=True):
    """A page.

    Attributes:
        picture: path below the data folder.
        sha256: of the picture's file.
        size: (width, height), pixels.
        order: numbers of the boxes as they are read.
        boxes: x1, y1, ... x4, y4 each.
    """

    picture: str
    sha256: str
    size: tuple[int, int]
    order: list[int]
    boxes: list[tuple[int, int, int, int, int, int, int, int]]

    @property
    def quads(self) -> list[list[tuple[int, int]]]:
        return [[(box[corner], box[corner + 1]) for corner in range(0, 8, 2)] for box in self.boxes]


def ordered_pages() -> list[OrderedPage]:
    return msgspec.json.decode(ORDERS.read_bytes(), type=list[OrderedPage])


def kendall(places: Sequence[int]) -> float:
    """Kendall's tau of things that should be in order: 1 if they are, -1 if they are in the opposite one."""
    pairs = list(itertools.combinations(places, 2))
    return sum(1 if first < second else -1 for first, second in pairs) / max(1, len(pairs))
