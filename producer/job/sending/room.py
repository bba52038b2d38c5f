"""Room in Redis for pages' bytes: asked for before a page is read, where its size is known or can be guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from worker.messages import MAX_BLOB_BYTES

FILLED, LARGEST = 0.95, 0.45
"""Of Redis's ``maxmemory``: with a page that comes, and that page alone. It takes more to the end, and then refuses."""

COMING = 2
"""Times its size Redis takes while a page comes: after a large value it has a buffer for another one."""


@dataclass
class Room:
    """What a job may still upload at this moment.

    Attributes:
        window: bytes of its part of the window; may be below 0.
        memory: bytes of Redis's memory.
        alone: nothing of it waits in Redis: then one page may be larger than the window.
    """

    window: float
    memory: float = math.inf
    alone: bool = False

    def fits(self, size: int) -> bool:
        """Whether a page of so many bytes may go; one of 0 is of a size that nobody knows yet."""
        return not size or (self.has_memory(size) and (size <= self.window or self.alone))

    def has_memory(self, size: int) -> bool:
        """Whether Redis takes so many bytes now, whatever the window says."""
        return COMING * size <= self.memory

    def take(self, size: int) -> None:
        """It goes."""
        self.window -= size
        self.memory -= COMING * size
        self.alone = False


class Memory(NamedTuple):
    """What a Redis has for pages.

    Attributes:
        left: bytes at this moment.
        largest: bytes of one page that it can ever take.
    """

    left: float = math.inf
    largest: int = MAX_BLOB_BYTES


def memory_for_pages(info: Mapping[str, Any]) -> Memory:
    """What there is for pages.

    Args:
        info: what ``INFO memory`` says.
    """
    most = info.get("maxmemory", 0)
    if not most:
        return Memory()
    return Memory(FILLED * most - info["used_memory"], min(MAX_BLOB_BYTES, int(LARGEST * most)))
