"""A page in memory that waits for room in Redis: all jobs of a process together keep a few megabytes."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

MOST_KEPT_BYTES = 8 << 20
"""Sixteen ordinary photos. A page that is not kept is read again when there is room for it."""

Page = TypeVar("Page")


class _Budget:
    """Bytes, for all threads."""

    def __init__(self, left: int) -> None:
        self._lock = threading.Lock()
        self._left = left

    def take(self, size: int) -> bool:
        """Whether there were as many left."""
        with self._lock:
            fits = size <= self._left
            self._left -= size if fits else 0
            return fits

    def give_back(self, size: int) -> None:
        """They are free again."""
        with self._lock:
            self._left += size


_budget = _Budget(MOST_KEPT_BYTES)


class KeptPage(Generic[Page]):
    """One job's. Close it."""

    def __init__(self) -> None:
        """None yet."""
        self._page: Page | None = None
        self._size = 0

    def keep(self, page: Page, size: int) -> bool:
        """Keep it in the place of what was kept, if it finds room beside those of other jobs.

        Args:
            page: what `take` gives back.
            size: bytes it holds in memory.
        """
        self.take()
        if not _budget.take(size):
            return False
        self._page, self._size = page, size
        return True

    def take(self) -> Page | None:
        """The page, which is kept no longer; None if there is none."""
        page, size = self._page, self._size
        self._page, self._size = None, 0
        _budget.give_back(size)
        return page

    def close(self) -> None:
        """Keep none. Safe to call twice."""
        self.take()
