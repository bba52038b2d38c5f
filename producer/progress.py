"""What a person sees while a job runs, and when it has ended."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichBar
from rich.table import Table

from producer.results import Totals

# Without a terminal: a line this often, so that a log file or journal stays readable.
LINE_EVERY_S = 10.0
# The rate shown is over this much of the recent past.
RATE_WINDOW_S = 20.0


class Rate:
    """Images a second over the last ``RATE_WINDOW_S`` seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque()

    def add(self, done: int, now: float) -> float:
        """Note a count; returns the current rate."""
        if not self._points or self._points[-1][1] != done or now - self._points[-1][0] > 1:
            self._points.append((now, done))
        while len(self._points) > 2 and now - self._points[0][0] > RATE_WINDOW_S:
            self._points.popleft()
        (then, before), (until, count) = self._points[0], self._points[-1]
        return (count - before) / (until - then) if until > then else 0.0


def duration(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below an hour."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Progress:
    """A bar on a terminal, a line now and then elsewhere, nothing with ``quiet``. A context manager.

    Attributes:
        total: pages of the job; None while they are being counted.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.total: int | None = None
        self._quiet = quiet
        self._rate = Rate()
        self._said = 0.0
        self._console = Console(stderr=True)
        self._bar: RichBar | None = None
        if not quiet and self._console.is_terminal:
            self._bar = RichBar(
                SpinnerColumn(),
                BarColumn(bar_width=32),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, failed: int, peak_rss_mb: float, state: str) -> None:
        """Show the job's state.

        Args:
            done: pages with a record, failed ones included.
            failed: of those.
            peak_rss_mb: largest peak RSS of a worker child so far, MB; 0 if unknown.
            state: what is going on, in a few words.
        """
        now = time.monotonic()
        if self._quiet or (self._bar is None and now - self._said < LINE_EVERY_S):
            return
        text = self._text(done, failed, peak_rss_mb, state, self._rate.add(done, now))
        if self._bar:
            self._bar.update(self._task, completed=done, total=self.total, description=escape(text))
        else:
            self._said = now
            print(text, file=sys.stderr, flush=True)

    def _text(self, done: int, failed: int, peak_rss_mb: float, state: str, rate: float) -> str:
        parts = [f"{done}/{self.total}" if self.total is not None else "", f"{failed} failed" if failed else ""]
        if rate:
            parts.append(f"{rate:.1f} images/s")
            if self.total and done < self.total:
                parts.append(f"{duration((self.total - done) / rate)} to go")
        if peak_rss_mb:
            parts.append(f"worker {peak_rss_mb:.0f} MB")
        return " · ".join(part for part in [*parts, state] if part)


def one_line(text: str) -> str:
    """A name or message on one line of a terminal: control characters are shown, not obeyed."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def print_summary(folder: Path, totals: Totals, *, seconds: float, quiet: bool) -> None:
    """What became of the job: counts, speed, memory, the first failures by name, where everything is."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    done = totals.ok + totals.failed
    if not quiet:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_row("images", f"{totals.ok} ok, {totals.failed} failed")
        table.add_row("text boxes", str(totals.boxes))
        rate = f", {done / seconds:.1f} images/s over all" if seconds else ""
        table.add_row("time", f"{duration(seconds)}{rate}, median {totals.seconds.quantile(0.5):.3f} s an image")
        table.add_row("memory", f"{totals.peak_rss_mb.largest:.0f} MB at most in a worker child")
        for name, runtime, _ in totals.models:
            table.add_row("model", f"{name} ({runtime})")
        console.print(table)
    if totals.failed:
        console.print(f"\n{totals.failed} failed:")
        for record in totals.first_failures:
            assert record.error is not None
            page = f" page {record.page}" if record.page else ""
            name, message = one_line(record.image), one_line(record.error.message)
            console.print(f"  {name}{page}: {record.error.type}: {message}", markup=False)
        if totals.failed > len(totals.first_failures):
            console.print(f"  ... and {totals.failed - len(totals.first_failures)} more")
    if not quiet:
        console.print()
        for name in ("results.jsonl", "report.html", "overlays"):
            if (folder / name).exists():
                console.print(str(folder / name), markup=False)
