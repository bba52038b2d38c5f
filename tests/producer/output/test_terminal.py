"""What is shown is true, fits on a line, and cannot be forged by a file name."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from producer.output.terminal import (
    FAILURES_SHOWN,
    LINE_EVERY_S,
    WARNINGS_SHOWN,
    WINDOW_S,
    Progress,
    Rate,
    duration,
    print_summary,
)
from producer.output.totals import summarise
from tests.producer.records import failed, ok, write_results


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain_console(width: int = 100) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, width=width), stream


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7800, "2 h 10 min"), (270_000, "3 d 3 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_rate_is_that_of_the_recent_past() -> None:
    clock = Clock()
    rate = Rate(clock)
    done = 0
    for per_second, seconds in ((100, 120), (10, 60)):
        for _ in range(seconds):
            rate.add(done)
            clock.now += 1
            done += per_second
    assert rate.per_second(done) == pytest.approx(10, rel=0.01)
    for _ in range(100_000):
        rate.add(done)
    assert len(rate._samples) <= WINDOW_S + 2


def test_a_stall_is_seen() -> None:
    clock = Clock()
    rate = Rate(clock)
    for done in range(10):
        rate.add(done)
        clock.now += 1
    for _ in range(100):
        rate.add(9)
        clock.now += 1
    assert rate.per_second(9) == 0


def test_without_a_terminal_a_line_now_and_then() -> None:
    console, stream = plain_console()
    clock = Clock()
    with Progress(console=console, clock=clock) as progress:
        progress.update(0, 0, 0.0, "found 1000")
        progress.total = 200
        for done in range(101):
            clock.now += 0.1
            progress.update(done, 2, 171.4, "feeding")
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 101 * 0.1 / LINE_EVERY_S + 2
    assert lines[-1] == "feeding, 100/200, 2 failed, 9.90 images/s, 10 s to go, worker 171 MB"


def test_quiet_says_nothing() -> None:
    console, stream = plain_console()
    clock = Clock()
    with Progress(quiet=True, console=console, clock=clock) as progress:
        for done in range(50):
            clock.now += 1
            progress.update(done, 0, 0.0, "feeding")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("width", [40, 100])
def test_on_a_terminal_a_bar(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=True)
    with Progress(console=console) as progress:
        progress.update(0, 0, 0.0, "found 12")
        progress.total = 12
        progress.update(3, 1, 170.0, "[bold]waiting[/bold] for `x`")
    lines = [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue()).splitlines() if "3/12" in line]
    assert lines and "3/12  1 failed" in lines[-1]
    assert all(len(line) <= width for line in lines)
    assert "[bold]waiting" in lines[-1] or width < 80


def test_warnings_are_said_even_when_quiet_but_not_without_end() -> None:
    console, stream = plain_console()
    with Progress(quiet=True, console=console) as progress:
        for number in range(WARNINGS_SHOWN + 30):
            progress.warn(f"a\n{number}.zip: [red]skipped")
    lines = stream.getvalue().splitlines()
    assert lines[0] == r"warning a\x0a0.zip: [red]skipped"
    assert len(lines) == WARNINGS_SHOWN + 1 and lines[-1] == "…and more of the same"


def test_the_summary_names_what_failed(tmp_path: Path) -> None:
    forged = "x\n\x1b[2Jall ok [red].jpg"
    records = [ok(0), failed(1, forged, "TooLarge", "too\nlarge.pdf"), *(failed(n, f"{n}.jpg") for n in range(2, 30))]
    totals = summarise(write_results(tmp_path, records))
    (tmp_path / "report.html").touch()
    console, stream = plain_console()
    print_summary(tmp_path, totals, fresh=30, seconds=10, console=console)
    text = stream.getvalue()
    assert text.splitlines()[0] == r"failed x\x0a\x1b[2Jall ok [red].jpg: TooLarge: too\x0alarge.pdf"
    assert "\x1b" not in text
    assert text.count("CorruptImage: cut short") == FAILURES_SHOWN - 1
    assert "and 9 more failed" in text
    assert "29 (28 CorruptImage, 1 TooLarge)" in text
    assert "3.00 images/s" in text and "170 MB" in text and "results.jsonl" in text and "report.html" in text
    assert "overlays" not in text


def test_the_quiet_summary_is_one_line_and_the_failures(tmp_path: Path) -> None:
    totals = summarise(write_results(tmp_path, [ok(0), failed(1)]))
    console, stream = plain_console()
    print_summary(tmp_path, totals, fresh=1, seconds=3, quiet=True, console=console)
    assert stream.getvalue().splitlines() == [
        "failed b.jpg: CorruptImage: cut short",
        f"2 images: 1 ok, 1 failed, 1 boxes, 3 s for the last 1: {tmp_path}",
    ]


def test_a_job_without_results_has_a_summary(tmp_path: Path) -> None:
    console, stream = plain_console()
    print_summary(tmp_path, summarise(write_results(tmp_path, [])), fresh=0, seconds=0, console=console)
    assert "0 ok" in stream.getvalue()
