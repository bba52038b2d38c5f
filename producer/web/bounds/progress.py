"""What a job's thread tells the page of its progress, within bounds."""

from __future__ import annotations

MOST_WARNINGS = 100
MOST_WARNING = 300  # characters: a member's name may have 4,096 bytes, and the page tells of 100


class Progress:
    """What a job's thread knows and the ledger does not (a `producer.job.view.View`)."""

    __slots__ = ("peak_rss_mb", "phase", "total", "warnings")

    def __init__(self) -> None:
        self.total: int | None = None
        self.phase = "waiting for its turn"
        self.peak_rss_mb = 0.0
        self.warnings: list[str] = []

    def update(self, done: int, failed: int, peak_rss_mb: float, state: str) -> None:
        """See View."""
        self.phase, self.peak_rss_mb = state, peak_rss_mb

    def note(self, line: str) -> None:
        """See View."""
        self.warnings.insert(0, line)

    def warn(self, line: str) -> None:
        """See View."""
        if len(self.warnings) < MOST_WARNINGS:
            self.warnings.append(line[:MOST_WARNING])
