"""What the job loop tells whoever shows progress."""

from __future__ import annotations

from typing import Protocol


class View(Protocol):
    """What shows a job's progress. ``total`` is None while the pages are being counted."""

    total: int | None

    def update(self, done: int, failed: int, peak_rss_mb: float, state: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def note(self, line: str) -> None: ...
