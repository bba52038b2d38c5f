"""Progress on the terminal while a job runs, and the summary at its end."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from detector.errors import printable, printable_lines
from producer.job.view import COLLECTING, FEEDING, WORKING
from producer.output.naming import page_label
from producer.output.totals import Totals

if TYPE_CHECKING:  # a sixth of the start of a command that shows nothing, as most of a script's do
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress as Bars
    from rich.segment import Segment
    from rich.table import Table

WINDOW_S = 30.0  # the rate is that of the last half minute
SAMPLE_S = 0.5
SHORTEST_S = 1.0  # less than this is no basis for a rate
LINE_EVERY_S = 5.0  # where there is no terminal
FAILURES_SHOWN = 20
WARNINGS_SHOWN = 20
FLAG_WORDS = {
    "damaged": "damaged but read",
    "blank": "blank",
    "small_text_lost": "with small print lost at this size",
    "xfa": "forms (XFA) that only Acrobat shows, not read",
    "attachments": "with attachments, not read",
    "more_pictures": "with more pictures, not read",
}
WIDE = 80  # columns; on a narrower terminal the numbers get the bar's room


class Rate:
    """Images a second over a recent window. At most `WINDOW_S / SAMPLE_S` samples are kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """No sample yet."""
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, done: int) -> None:
        """Notes how many are done now."""
        now = self._clock()
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_S:
            self._samples.append((now, done))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()

    def per_second(self, done: int) -> float:
        """The rate up to now; 0 until there is something to tell."""
        if not self._samples:
            return 0.0
        since, before = self._samples[0]
        passed = self._clock() - since
        # The first bundle of records comes milliseconds after the first look.
        return max(0, done - before) / passed if passed >= SHORTEST_S else 0.0

    def forget(self) -> None:
        """Begin again: what comes next is not comparable with what was."""
        self._samples.clear()


def duration(seconds: float) -> str:
    """12 s, 3 min 05 s, 2 h 10 min, 4 d 3 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def rate_text(rate: float) -> str:
    """Images a second with as many digits as matter."""
    return f"{rate:.2f} images/s" if rate < 10 else f"{rate:,.0f} images/s"


def _stderr() -> Console:
    """Where all text is `printable`, whoever wrote it; only rich's own colours and moves of the cursor are obeyed."""
    from rich.console import Console

    class Harmless(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=printable_lines(segment.text))

    return Harmless(stderr=True)


def _bars(console: Console) -> Bars:
    """A bar, and beside it done/total, failed, rate, time to go, memory: those that are known."""
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Facts(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("  ".join(task.fields["facts"]))

    def one_line() -> Column:
        return Column(no_wrap=True, overflow="ellipsis")

    bar = [BarColumn(bar_width=None, complete_style="cyan")] if console.width >= WIDE else []
    return Progress(
        SpinnerColumn(style="cyan"),
        *bar,
        Facts(table_column=one_line()),
        TextColumn("{task.description}", style="cyan", markup=False, table_column=one_line()),
        console=console,
        expand=bool(bar),
        transient=True,
    )


class Progress:
    """Shows a job. A context manager; `update` may be called thousands of times a second.

    On a terminal: a bar. Elsewhere: a line every few seconds. Quiet: nothing.

    Attributes:
        total: pages of the job; None while they are being counted.
        failed: failed pages so far.
    """

    def __init__(
        self, *, quiet: bool = False, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Show nothing yet.

        Args:
            quiet: only warnings.
            console: where to; default stderr.
            clock: seconds, for tests.
        """
        self.total: int | None = None
        self.failed = 0
        if console:
            self._console = console
        self._clock = clock
        self._rate = Rate(clock)
        self._counting = True
        self._said_at = clock()
        self._said = ""
        self._warned = 0
        self._plain = not quiet and not self._console.is_terminal
        self._bars: Bars | None = None
        if not quiet and not self._plain:
            self._bars = _bars(self._console)
            self._task = self._bars.add_task("starting", total=None, facts=[])

    @cached_property
    def _console(self) -> Console:
        """Made when there is something to say."""
        return _stderr()

    def __enter__(self) -> Progress:
        """Show the bar."""
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove the bar; elsewhere print the last line."""
        if self._bars:
            self._bars.stop()
        elif self._plain and self._said:
            self._say(force=True)

    def update(self, done: int, failed: int, peak_rss_mb: float, state: str) -> None:
        """Tells how the job stands.

        Args:
            done: pages with a record, failed ones included.
            failed: failed pages.
            peak_rss_mb: the largest peak memory of a worker so far, MiB; 0 if unknown.
            state: what is going on, in a word or two.
        """
        self.failed = failed
        if state == COLLECTING or (self._counting and done):
            self._rate.forget()  # records that are only fetched, or were there when pages had been counted: no speed
        self._counting = self.total is None
        self._rate.add(done)
        facts = self.facts(done, failed, peak_rss_mb, waiting=state not in (FEEDING, WORKING))
        if self._bars:
            self._bars.update(self._task, completed=done, total=self.total or None, description=state, facts=facts)
        elif self._plain:
            self._said = ", ".join([state, *facts])
            self._say(force=False)

    def warn(self, line: str) -> None:
        """Prints a warning above the bar, also when quiet.

        After `WARNINGS_SHOWN` it says only that there are more: a million lines would hide the rest.
        """
        from rich.text import Text

        self._warned += 1
        if self._warned <= WARNINGS_SHOWN:
            self._console.print(Text.assemble(("warning ", "yellow"), printable(line)), highlight=False, soft_wrap=True)
        elif self._warned == WARNINGS_SHOWN + 1:
            self._console.print("…and more of the same", style="yellow")

    def note(self, line: str) -> None:
        """Says something once, above the bar; quiet or not."""
        self._console.print(printable(line), style="yellow", markup=False, highlight=False, soft_wrap=True)

    def facts(self, done: int, failed: int, peak_rss_mb: float, *, waiting: bool = False) -> list[str]:
        """What is known, in short phrases. While nobody works the rate of before promises nothing."""
        rate = 0.0 if waiting else self._rate.per_second(done)
        left = (self.total or 0) - done
        return [
            *([f"{done:,}/{self.total:,}"] if self.total else []),
            *([f"{failed:,} failed"] if failed else []),
            *([rate_text(rate)] if rate and self.total else []),
            *([f"{duration(left / rate)} to go"] if rate and left > 0 else []),
            *([f"worker {peak_rss_mb:.0f} MB"] if peak_rss_mb else []),
        ]

    def _say(self, *, force: bool) -> None:
        now = self._clock()
        if force or now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            self._console.print(self._said, markup=False, highlight=False, soft_wrap=True)


def print_summary(
    out: Path,
    totals: Totals,
    *,
    fresh: int,
    seconds: float,
    quiet: bool = False,
    console: Console | None = None,
    passed_over: str = "",
) -> None:
    """The end of a job: what failed and why, the totals, and where things are.

    Args:
        out: the output folder.
        totals: of its results.
        fresh: pages that were done now; the others were there before an interruption or a retry.
        seconds: how long these took on the wall clock.
        quiet: one line for the totals instead of a table; failures are listed all the same.
        passed_over: what the scan passed over, in words.
        console: where to; default stderr, where the progress was.
    """
    from rich.text import Text

    console = console or _stderr()
    for failure in totals.failures[:FAILURES_SHOWN]:
        line = Text.assemble(
            ("failed ", "red"), (page_label(failure.image, failure.page), "bold"), f": {failure.type}: "
        )
        console.print(line + Text(printable(failure.message)), soft_wrap=True, highlight=False)
    if totals.failed > FAILURES_SHOWN:
        more = totals.failed - FAILURES_SHOWN
        console.print(f"…and {more:,} more failed; all are in {out / 'results.jsonl'}", markup=False, soft_wrap=True)
    if passed_over:
        console.print(printable(passed_over), style="yellow", markup=False, highlight=False, soft_wrap=True)
    if quiet:
        console.print(
            f"{totals.images:,} images: {totals.ok:,} ok, {totals.failed:,} failed, {totals.boxes:,} boxes, "
            f"{_taken(totals, fresh, seconds)}: {out}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print(_summary_table(out, totals, fresh, seconds))


def _taken(totals: Totals, fresh: int, seconds: float) -> str:
    if not fresh:
        return "nothing was left to do"
    return duration(seconds) + (f" for the last {fresh:,}" if fresh < totals.images else "")


def _summary_table(out: Path, totals: Totals, fresh: int, seconds: float) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("images", Text(f"{totals.ok:,} ok", "green") + Text(_of_those(totals)))
    if totals.failed:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in totals.errors.most_common())
        table.add_row("failed", Text(f"{totals.failed:,}", "red") + Text(f" ({kinds})"))
    table.add_row("boxes", f"{totals.boxes:,}")
    rate = rate_text(fresh / seconds) if fresh and seconds > 0 else "–"
    table.add_row(
        "time", f"{_taken(totals, fresh, seconds)}, {rate}, median {totals.seconds.quantile(0.5):.3f} s an image"
    )
    table.add_row("memory", f"{totals.peak_rss_mb.most:.0f} MB at most in a worker")
    for name in ("results.jsonl", "report.html", "overlays"):
        if (out / name).exists():
            table.add_row(name.partition(".")[0], Text(str(out / name)))
    return table


def _of_those(totals: Totals) -> str:
    notes = [
        *([f"{totals.without_text:,} without text"] if totals.without_text else []),
        *([f"{totals.flags['degraded']:,} at reduced size"] if totals.flags["degraded"] else []),
        *([f"{totals.retried:,} after a retry"] if totals.retried else []),
        *(f"{totals.flags[flag]:,} {words}" for flag, words in FLAG_WORDS.items() if totals.flags[flag]),
    ]
    return f" ({', '.join(notes)})" if notes else ""
