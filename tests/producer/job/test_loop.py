"""The loop of a job: how often it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from producer.job import feed, loop
from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.growth import Growth
from producer.job.loop import MANY_RECORDS, PAUSE_S, JobLoop, pause_s
from producer.job.manifest import ManifestLine, write_manifest
from producer.job.results_file import Line
from producer.sources.found_page import FoundPage
from worker.app import app_for
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask, Seconds
from worker.redis_keys import JobKeys
from worker.settings import Settings

JOB = "job"
STEPS = 5


class Silent:
    """A view nobody looks at."""

    total: int | None = None

    def update(self, done: int, failed: int, peak_rss_mb: float, state: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def note(self, line: str) -> None: ...


@dataclass
class OneAtATime:
    """A collector that always finds one record at once; with the last it ends the job."""

    end: Callable[[], object]
    steps: int = 0
    total: int = 1

    def letters(self, begin: int, end: int) -> bytes:
        return b"o"

    def step(self, block_ms: int) -> list[Line]:
        self.steps += 1
        if self.steps == STEPS:
            self.end()
        return [Line(self.steps, "a", 0, "ok", Seconds())]


@pytest.mark.parametrize(
    ("sent", "records", "collecting", "pause"),
    [
        (0, 1, True, PAUSE_S),
        (0, MANY_RECORDS - 1, True, PAUSE_S),
        (0, MANY_RECORDS, True, 0),
        (5, 1, True, 0),
        (0, 0, True, 0),  # it has waited for them already
        (0, 0, False, PAUSE_S),
        (5, 0, False, 0),
    ],
)
def test_pauses(sent: int, records: int, collecting: bool, pause: float) -> None:
    assert pause_s(sent, records, collecting=collecting) == pause


def test_records_are_taken_in_bundles(ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.create(JOB, 1, {})
    ledger.feed([ImageTask(job=JOB, index=0, image="a", uri="file:///a")])
    ledger.begin(JOB, 0, redelivered=False)

    def end() -> None:
        ledger.finish(JOB, 0, ok=True, record=b"{}")
        ledger.client.xtrim(JobKeys.of(JOB).results, maxlen=0, approximate=False)

    collector = OneAtATime(end)
    slept: list[float] = []
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: 0.0, sleep=slept.append))
    job_loop = JobLoop(app_for(settings), ledger, JOB, Silent(), collector=cast(Collector, collector))
    assert job_loop.run().finished
    assert slept == [PAUSE_S] * (STEPS - 1)


def test_pages_that_the_broker_forgot_are_fed_while_it_is_watched(
    ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the producer watched, and the job hung with unfed pages."""
    monkeypatch.setattr(feed, "LOOK_AGAIN_S", 0)
    monkeypatch.setattr(loop, "STATUS_EVERY_S", 0)
    ledger.create(JOB, 3, {})
    lines = [ManifestLine(index, "a", "file:///a", 0) for index in range(3)]
    feeder = Feeder(app_for(settings), ledger, JOB, iter(lines), again=lambda first: iter(lines[first:]))
    turns = 0

    def broker() -> None:
        nonlocal turns
        turns += 1
        assert turns < 50, "page 2 is nobody's"
        if turns == 3:  # fed, and looked for once more
            ledger.client.setrange(JobKeys.of(JOB).state, 2, b"\0")
            ledger.client.hdel(JobKeys.of(JOB).tasks, "2")
            for index in (0, 1):
                ledger.finish(JOB, index, ok=True, record=b"{}")
        if 2 in ledger.in_flight(JOB) and turns > 3:
            ledger.finish(JOB, 2, ok=True, record=b"{}")

    assert JobLoop(app_for(settings), ledger, JOB, Silent(), feeder, on_tick=broker).run().ok == 3


@pytest.mark.parametrize("total", [b"1000000", b"1", b"x" * 30])
def test_a_total_that_somebody_wrote_holds_no_job(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: bytes
) -> None:
    """Before: a job of two pages waited for the other 999,998, on the page in one of its 16 places."""
    monkeypatch.setattr(loop, "STATUS_EVERY_S", 0)
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(iter([FoundPage("a", "file:///a", 0), FoundPage("b", "file:///b", 0)]), manifest)
    ledger.create(JOB, 2, {})
    growth = Growth(manifest, ledger, JOB, 2)
    turns = 0

    def worker() -> None:
        nonlocal turns
        turns += 1
        assert turns < 50, "it waits for more"
        if turns == 2:
            ledger.client.hset(JobKeys.of(JOB).job, "total", total)
        if turns > 3:
            for index in ledger.in_flight(JOB):
                ledger.begin(JOB, index, redelivered=False)
                ledger.finish(JOB, index, ok=True, record=b"{}")
            ledger.client.xtrim(JobKeys.of(JOB).results, maxlen=0, approximate=False)

    nobody = SimpleNamespace(step=lambda block_ms: [], total=2, letters=lambda begin, end: b"oo", keep=lambda: None)
    lines = [ManifestLine(index, "a", "file:///a", 0) for index in range(2)]
    feeder = Feeder(app_for(settings), ledger, JOB, iter(lines))
    status = JobLoop(
        app_for(settings), ledger, JOB, Silent(), feeder, cast(Collector, nobody), on_tick=worker, growth=growth
    ).run()
    assert (status.ok, status.total) == (2, 2)
    assert ledger.client.hget(JobKeys.of(JOB).job, "total") == b"2"
