"""The quota as all requests share it: what each takes of it counts for the others at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from producer.errors import ProducerError

USAGE_EVERY_S = 5.0
LOOKING_SHARE = 1 / 3
"""Of the time, at most, is the folder looked through, whatever is removed meanwhile: 20,000 jobs are 1.7 s."""

ENTRY_BYTES = 4096
"""That a file or a folder takes at least: a block."""


class QuotaUsedError(ProducerError):
    """What a job would write does not fit. The message says what to do.

    Attributes:
        quota: in bytes.
        written: bytes that it has written, and that nobody has counted yet.
        is_passing: they fit beside what jobs have; the rest is others' uploads and results that are being converted.
    """

    def __init__(self, quota: int, written: int, *, is_passing: bool = False) -> None:
        """Say it in one line."""
        self.quota, self.written, self.is_passing = quota, written, is_passing
        super().__init__(
            f"the quota of {quota >> 20} MiB is used up; delete finished jobs, or send fewer files at a time"
        )

    def is_due_to(self, taken: int, *, listed: bool) -> bool:
        """Whether one job is to blame, and ends by it; the others wait until there is room.

        Who filled the folder to its brim, if only by results that were being converted for him, had the page end all
        open jobs of all others, for good.

        Args:
            taken: bytes that the job has of the quota.
            listed: it has its list of pages. What does not fit before was sent just now, and can be sent again.
        """
        if self.is_passing:  # who sends much but for its last byte, or says he will, had others' lists end their jobs
            return False
        return (self.written > 0 and not listed) or 10 * (taken + self.written) > 9 * self.quota


class Room:
    """Bytes that the service's folder takes, and may take.

    Looking through the folder takes long, so it is done now and then, by who asks `used`; what was taken since the last
    look began is added, and counts twice for a moment rather than not at all.
    """

    def __init__(self, measure: Callable[[], tuple[int, int]]) -> None:
        """Measure nothing yet.

        Args:
            measure: looks through the folder: what it takes, and what of that are jobs, which stay.
        """
        self._measure = measure
        self._looking = threading.Lock()
        self._lock = threading.Lock()  # held for a few additions only: an upload takes it on the event loop
        self._found = self._kept = 0
        self._found_at, self._took_s = float("-inf"), 0.0
        self._forgotten = True  # since the last look began something was removed
        self._written = 0  # since that look began
        self._claimed = 0  # promised to requests, and not yet written

    def used(self) -> int:
        """What the folder takes, and what is promised. It may look through the folder: not for the event loop.

        Who comes while another looks is told what is known: forty who waited for a look were all the page's threads.
        """
        if self._looking.acquire(blocking=self._found_at == float("-inf")):
            try:
                self._look_if_due()
            finally:
                self._looking.release()
        with self._lock:
            return self._found + self._written + self._claimed

    def _look_if_due(self) -> None:
        began = time.monotonic()
        pause_s = max(0.0 if self._forgotten else USAGE_EVERY_S, self._took_s * (1 / LOOKING_SHARE - 1))
        if began - self._found_at <= pause_s:
            return
        with self._lock:
            before = self._written
        was_forgotten, self._forgotten = self._forgotten, False
        try:
            found, kept = self._measure()
        except BaseException:
            self._forgotten = was_forgotten
            raise
        with self._lock:
            self._found, self._kept, self._found_at = found, kept, time.monotonic()
            self._took_s = self._found_at - began
            self._written -= before

    def forget(self) -> None:
        """Something was removed: the next who asks looks again, after a pause as long as a look or two takes."""
        self._forgotten = True

    def check(self, quota: int) -> Callable[[int], None]:
        """What looks, while a manifest is written, whether so many more bytes fit.

        A zip of a few KB may hold PDFs of 100,000 pages each, 20 MB of manifest a file.

        Returns:
            Raises QuotaUsedError where they do not fit.
        """

        def look(written: int) -> None:
            if self.used() + written > quota:
                raise QuotaUsedError(quota, written, is_passing=self._kept + written <= quota)

        return look

    def claim(self, quota: int, size: int) -> Claim | None:
        """Keep room for a request of ``size`` bytes, 0 where it does not say how many. None: there is not so much."""
        with self._lock:
            if self._found + self._written + self._claimed + size > quota:
                return None
            self._claimed += size
        return Claim(self, quota, size)

    def is_promised(self, quota: int, size: int) -> bool:
        """Whether there were so much, had it not been promised to others."""
        with self._lock:
            return self._found + self._written + size <= quota

    def _write(self, quota: int, fresh: int, claimed: int) -> bool:
        with self._lock:
            if fresh and self._found + self._written + self._claimed + fresh > quota:
                return False
            self._claimed -= claimed
            self._written += fresh + claimed
        return True

    def _give_back(self, claimed: int) -> None:
        with self._lock:
            self._claimed -= claimed


class Claim:
    """What one request may write."""

    def __init__(self, room: Room, quota: int, size: int) -> None:
        """See `Room.claim`."""
        self._room = room
        self._quota = quota
        self._left = size

    def write(self, size: int) -> bool:
        """Take so many bytes, of what was kept and then of what is left for all. False: there is no room for them."""
        claimed = min(size, self._left)
        if not self._room._write(self._quota, size - claimed, claimed):
            return False
        self._left -= claimed
        return True

    def close(self) -> None:
        """Give back what was kept and not written. Safe to call twice."""
        left, self._left = self._left, 0
        self._room._give_back(left)
