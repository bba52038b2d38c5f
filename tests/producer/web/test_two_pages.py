"""Pages that share a broker, and jobs that others gave the name of one of a page's: each page has its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.web import runner
from producer.web.bounds.job_locks import JobLocks
from producer.web.bounds.makings import Makings
from producer.web.runner import Runner
from producer.web.service import Service
from producer.web.store import Store, WebJob
from tests.pictures import write_images
from tests.processes import wait_until
from worker.app import app_for
from worker.ledger import Ledger
from worker.settings import Settings

OF_BEFORE = "web-d618fb157a4b382e92fcd4a830c5fa8a"  # sha256("monday")


def lone(folder: Path, ledger: Ledger, settings: Settings) -> Service:
    """A page without its HTTP side."""
    service = Service.__new__(Service)
    service.store, service.ledger, service.changing, service.makings = Store(folder), ledger, JobLocks(), Makings()
    service.runner = Runner(
        app_for(settings), ledger, service.store, transfer="uri", roots=(), check=lambda written: None
    )
    return service


def send(service: Service, name: str = "job", *, count: int = 2, width: int = 100) -> None:
    folder = service.store.new_upload()
    write_images(folder / "upload", count, width=width)
    assert service.accept(folder, name, WebJob(created=time.time(), files=count))


@pytest.fixture
def page(ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setattr(runner, "AGAIN_AFTER_S", 0.05)
    service = lone(tmp_path / "web", ledger, settings)
    yield service
    service.runner.stop()


def test_a_key_is_of_one_page(tmp_path: Path) -> None:
    """Before: two pages of a broker had one job of a key, and told each other's visitors names and texts."""
    names = dict[str, str]()
    for number in ("one", "two", "one"):
        service = Service.__new__(Service)
        service.store = Store(tmp_path / number)
        name = service.new_name("monday")
        assert names.setdefault(number, name) == name and name != OF_BEFORE
    assert len(set(names.values())) == 2

    def unreadable(file: Path) -> bytes:
        raise OSError(5, "Input/output error")

    store = Store(tmp_path / "one")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(OSError, match="Input/output"):
        patch.setattr("producer.web.store.read_small", unreadable)
        store.own_word()
    assert store.own_word() == Store(tmp_path / "one").own_word(), "before, another one from then on"
    assert service.store.accept(service.store.new_upload(), OF_BEFORE, WebJob(created=1))
    assert service.new_name("monday") == OF_BEFORE, "of the version before: still the same job"


def test_anothers_job_of_the_same_name_stays_whole(page: Service, ledger: Ledger) -> None:
    """Before: it was fed with the page's pictures, its records were the page's, and cancel and delete were its, too."""
    ledger.create("job", 9, {"manifest": "/elsewhere/manifest.jsonl", "host": "another"}, epoch="theirs")
    send(page)
    running = page.runner.running("job")
    assert running
    wait_until(lambda: "has its name" in running.progress.phase, seconds=10, what="the page to see it")
    running.damaged = True  # as after a look at it in the middle of a job
    time.sleep(0.3)
    page._workers, page._alive_at = 0, float("inf")
    assert page.status("job")["total"] is None, "not theirs"
    page.cancel("job")
    page.delete("job")
    send(page, "job")
    theirs = ledger.status("job")
    assert theirs and (theirs.epoch, theirs.total, theirs.state, theirs.in_flight) == ("theirs", 9, "open", 0)
    ledger.forget("job")
    wait_until(lambda: ledger.client.get("ocrfleet:job:job:state") == b"qq", seconds=10, what="ours to go on")


@pytest.mark.parametrize("kept", ["nothing", "the epoch", "the time"])
def test_a_job_begun_before_goes_on(page: Service, ledger: Ledger, kept: str) -> None:
    """Of a version that kept no epoch, and where somebody has forged what says on which machine it goes on."""
    folder = page.store.root / "jobs/job"
    if kept == "nothing":
        ledger.create("job", 2, {"manifest": str(folder / "manifest.jsonl"), "host": "pod-1"}, epoch="ours")
    send(page)
    wait_until(lambda: ledger.client.get("ocrfleet:job:job:state") == b"qq", seconds=10, what="its pages")
    status = ledger.status("job")
    assert status and page.store.folder("job").epoch == status.epoch
    if kept == "nothing":
        assert status.epoch == "ours"
        return
    page.runner.leave("job")
    forged = {"manifest": "y", ("epoch" if kept == "the time" else "heir"): "x"}
    ledger.client.hset("ocrfleet:job:job", mapping=forged)
    page.runner.start("job")
    if kept == "the time":  # before: it waited for its keys to expire

        def is_fed() -> bool:
            known = ledger.status("job")
            return known is not None and known.epoch == page.store.folder("job").epoch and known.in_flight == 2

        wait_until(is_fed, seconds=10, what="it to be begun again")
    time.sleep(0.5)
    assert page.store.read("job").state == "open" and page.runner.running("job") is not None
