"""The loop of a job: how often it looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import pytest

from producer.job import feed, loop
from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.loop import MANY_RECORDS, PAUSE_S, JobLoop, pause_s
from producer.job.manifest import ManifestLine
from producer.job.results_file import Line
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
