"""How long one scan may take over strangers' files, all of them together: a job of fifty archives has no fifty shares.

Each file adds to what there is, by what the disk holds of it, so that a job of honest files is never short of it. Who
is short gets failed records, or pages that workers count: the scan itself goes on.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.images.regular_file import Identity, Patience
from producer.sources.held_bytes import held_bytes

SCAN_S, SCAN_S_PER_MIB, SCAN_S_PER_FILE = 600.0, 2.0, 0.25
"""Of waiting for the processes that list and count. Reading .tar.bz2, the slowest, takes 0.3 s a MiB on two cores; a
small PDF is counted in 10 ms."""

LEASES_S = 10.0
"""Of waiting for files that other programs hold; a file server gives one back in some milliseconds."""

MOST_LINKED = 100_000
"""Files of several names that are remembered: each brings the share of its size once, not once a name."""

USED_UP = (
    f"the files of this job took more than {SCAN_S / 60:.0f} minutes, and {SCAN_S_PER_MIB:.0f} s a MiB, to look through"
)


class TurnIsOverError(Exception):
    """A scan that had only so long is to begin again in its turn of the long ones."""


class ScanTime:
    """What is left for one scan.

    Attributes:
        leases: what it waits for files that other programs hold.
        ends_at: by `time.monotonic`: the scan as a whole must end then, whatever is left; None: it need not.
    """

    def __init__(self, turn_s: float | None = None) -> None:
        """Begin.

        Args:
            turn_s: seconds from now until `TurnIsOverError`; None: there is no such end.
        """
        self._left = SCAN_S
        self._linked: set[Identity] = set()
        self.leases = Patience(LEASES_S)
        self._lock, self._seen_at = threading.Lock(), time.monotonic()
        self.ends_at = None if turn_s is None else self._seen_at + turn_s

    def grant(self, path: Path) -> None:
        """A file is to be looked into: it brings its share."""
        self._left += SCAN_S_PER_FILE + SCAN_S_PER_MIB * self._paid_for(path) / (1 << 20)

    def _paid_for(self, path: Path) -> int:
        """Bytes that cost somebody room on a disk, and brought no share before."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return 0
        if status.st_nlink > 1:
            identity = status.st_dev, status.st_ino
            if identity in self._linked or len(self._linked) >= MOST_LINKED:
                return 0
            self._linked.add(identity)
        return held_bytes(path, status)

    def left_s(self) -> float:
        """Seconds for what comes next; 0 if nothing is left."""
        turn = math.inf if self.ends_at is None else self.ends_at - time.monotonic()
        return max(0.0, min(self._left, turn))

    def counting_s(self) -> float:
        """Seconds for counting what an archive holds; what is left when they are over is for reading it."""
        return max(0.0, self._left) / 2

    def use_up(self) -> None:
        """Nobody answered within `left_s`: it counts as 0 from now on."""
        if self.left_s() < self._left:
            self.ends_at = 0.0
        else:
            self._left = 0.0

    def check_turn(self, *, last: bool = False) -> None:
        """Called at each page, and each name of a folder: what was found in a turn that is over is not kept.

        Args:
            last: all is found. What comes then is no question to the folders.

        Raises:
            TurnIsOverError: it is.
        """
        with self._lock:
            now = time.monotonic()
            self._seen_at = math.inf if last else now
            is_over = self.ends_at is not None and now >= self.ends_at
        if is_over:
            raise TurnIsOverError

    def end(self) -> None:
        """The turn is over, whoever is at work in it."""
        self.end_if_silent(-math.inf)

    def end_if_silent(self, most_s: float) -> bool:
        """End the turn where nothing came for so long: the disk does not answer, and may never.

        Where a process is waited for (`spending`) that may take longer, its time comes first.
        """
        with self._lock:
            is_silent = time.monotonic() - self._seen_at > most_s
            if is_silent:
                self.ends_at = 0.0
        return is_silent

    @contextmanager
    def spending(self, most_s: float = 0.0) -> Iterator[None]:
        """What is done inside is paid for.

        Args:
            most_s: after so long a process that is waited for is ended by who waits; 0: none is.
        """
        began = time.monotonic()
        self._seen_at = began + min(most_s, self.left_s())
        try:
            yield
        finally:
            self._seen_at = time.monotonic()
            self._left -= self._seen_at - began
