"""What the job loop tells whoever shows progress."""

from __future__ import annotations

from typing import Protocol

WAITING = "waiting for workers"
"""The state of a job whose pages wait while no worker is alive."""

COLLECTING = "collecting"
"""The state of a finished job whose records are being taken to disk: their number says nothing of workers."""


FEEDING, WORKING = "feeding", "working"
"""States in which the rate of late says when the job will be done."""


class View(Protocol):
    """What shows a job's progress. ``total`` is None while the pages are being counted."""

    total: int | None

    def update(self, done: int, failed: int, peak_rss_mb: float, state: str) -> None:
        """Tell how the job stands.

        Args:
            done: pages with a record, failed ones included.
            failed: failed pages.
            peak_rss_mb: the largest peak memory of a worker so far, MiB; 0 if unknown.
            state: what is going on, in a word or two.
        """

    def warn(self, line: str) -> None:
        """Say something that is not an error but must be seen."""

    def note(self, line: str) -> None:
        """Say something once, however much was said before."""
