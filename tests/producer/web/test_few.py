"""What the list of jobs and a job's events tell has a bound in bytes, whatever strangers call their files."""

from __future__ import annotations

from types import SimpleNamespace

from producer.web.bounds.progress import MOST_WARNING, Progress
from producer.web.service import Service
from producer.web.store import MOST_TOLD, WebJob, few, first_of


def test_few_of_what_was_not_taken_is_told() -> None:
    long = {f"{number:04}" + "\x01" * 880: "not an image" for number in range(49)}
    told = few(long)
    assert 5 < len(told) < 12 and sum(len(name) + len(reason) for name, reason in told.items()) <= MOST_TOLD
    assert list(told) == list(long)[: len(told)]
    assert few({"a.txt": "no image"}) == {"a.txt": "no image"}


def test_warnings_are_cut() -> None:
    progress = Progress()
    progress.warn("\x01" * 3900 + ".zip: passed over")
    assert len(progress.warnings[0]) == MOST_WARNING
    assert first_of(["a", "b"]) == ["a", "b"]
    assert sum(map(len, first_of([f"{number:02}" + "x" * 298 for number in range(100)]))) == 27 * 300 <= MOST_TOLD


def test_the_list_of_jobs_tells_neither() -> None:
    """Before: 16 uploads of 0.9 MB, and each GET of the list had 14 to 37 MB; 60 at once took 861 MB."""
    status = {"job": "one", "skipped": {"a.txt": "no image"}, "warnings": ["w"], "state": "open"}
    store = SimpleNamespace(names=lambda: ["one"], has=lambda _: True)
    service = SimpleNamespace(
        store=store, status=lambda _: dict(status), ledger=SimpleNamespace(jobs=lambda newest: [])
    )
    (row,) = Service.jobs(service, 10)  # type: ignore[arg-type]
    assert row == {"job": "one", "state": "open", "skipped": {}, "warnings": []}
    assert WebJob(created=0.0).skipped == {}
