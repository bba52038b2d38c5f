"""What this machine has too little of now ends no job, and costs none of its pages: it is tried again."""

from __future__ import annotations

import asyncio
import errno
import importlib
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
import uvicorn

from producer.archive_process.messages import Question
from producer.archive_process.program import _listed
from producer.errors import ProducerError
from producer.job.manifest import read_manifest
from producer.no_links import _not_listed
from producer.web import runner as runners
from producer.web.runner import Runner
from producer.web.server import _Server
from producer.web.store import Store, WebJob
from tests.big_pdf import big_pdf
from tests.pictures import write_images
from tests.processes import wait_until
from worker.app import app_for
from worker.ledger import Ledger
from worker.settings import Settings
from worker.storage.spool import MachineFault, want_of_the_machine

FULL = OSError(errno.EMFILE, "Too many open files")
NO_MEMORY, NO_PROCESS = OSError(errno.ENOMEM, "Cannot allocate memory"), OSError(errno.EAGAIN, "no process")
NO_THREAD = RuntimeError("can't start new thread")

# Where it is met, in a scan and in sending pages, and what.
MET: list[tuple[str, BaseException]] = [
    ("producer.sources.walk:open_folder", FULL),
    ("producer.sources.walk:open_folder", OSError(errno.ESTALE, "Stale file handle")),
    ("producer.sources.page_count:open_regular", FULL),
    ("producer.sources.page_count:kind_of", MemoryError()),
    ("producer.detector_process.line_process:subprocess.Popen", NO_MEMORY),
    ("producer.detector_process.line_process:subprocess.Popen", NO_PROCESS),
    ("producer.detector_process.line_process:selectors.DefaultSelector", FULL),
    ("producer.archive_process.lister:tempfile.TemporaryDirectory", OSError(errno.ENOSPC, "No space left")),
    ("producer.web.runner:write_manifest", NO_THREAD),
    ("producer.job.upload:open_regular", FULL),
    ("producer.job.upload:refuse_others", NO_MEMORY),
    ("worker.storage.files:real_path", OSError(errno.ENFILE, "Too many open files in system")),
]


def once(monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException, met: list[str]) -> None:
    """Have it raise this the first time."""
    module, _, names = where.partition(":")
    *owners, name = names.split(".")
    holder: Any = importlib.import_module(module)
    for owner in owners:
        holder = getattr(holder, owner)
    real: Callable[..., Any] = getattr(holder, name)
    left = [error]

    def call(*given: Any, **named: Any) -> Any:
        if left:
            met.append(where)
            raise left.pop()
        return real(*given, **named)

    monkeypatch.setattr(holder, name, call)


@pytest.mark.slow
def test_a_job_goes_on_with_all_its_pages(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: "refused", for good, or pages of a PDF that nobody missed, or a failed record of a sound page."""
    store = Store(tmp_path / "web")
    folder = store.new_upload()
    upload = folder / "upload"
    upload.mkdir(exist_ok=True)
    picture = write_images(tmp_path, 1)[0].read_bytes()
    (upload / "a.zip").write_bytes(picture)
    with zipfile.ZipFile(upload / "b.zip", "w") as bundle:
        bundle.writestr("page.jpg", picture)
    big_pdf(upload / "c.pdf", 3, 100)
    assert store.accept(folder, "job", WebJob(created=time.time()))
    monkeypatch.setattr(runners, "AGAIN_AFTER_S", 0.01)
    met: list[str] = []
    for where, error in MET:
        once(monkeypatch, where, error, met)
    runner = Runner(app_for(settings), ledger, store, transfer="redis", roots=(), check=lambda written: None)
    runner.start("job")
    try:
        wait_until(lambda: ledger.client.get("ocrfleet:job:job:state") == b"qqqqq", seconds=30, what="all pages")
        assert store.read("job").state == "open"
        assert sorted(met) == sorted(where for where, _ in MET)
        lines = [(line.image, line.page) for line in read_manifest(store.folder("job").manifest)]
        assert lines == [("a.zip", 0), ("b.zip/page.jpg", 0), ("c.pdf", 0), ("c.pdf", 1), ("c.pdf", 2)]
    finally:
        runner.stop()


def test_a_fault_of_its_own_ends_a_job_when_that_can_be_said(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: where the broker was away at that moment the job stayed open, and nobody was at it until a new start."""

    def full(written: int) -> None:
        raise ProducerError("no such pages")

    store = Store(tmp_path / "web")
    folder = store.new_upload()
    write_images(folder / "upload", 1)
    assert store.accept(folder, "job", WebJob(created=time.time()))
    monkeypatch.setattr(runners, "AGAIN_AFTER_S", 0.01)
    met: list[str] = []
    monkeypatch.setattr(runners, "write_manifest", lambda pages, manifest, check: check(0))
    once(monkeypatch, "worker.ledger.ledger:Ledger.cancel", redis.ConnectionError("away"), met)
    once(monkeypatch, "producer.web.store:Store.change", FULL, met)
    runner = Runner(app_for(settings), ledger, store, transfer="redis", roots=(), check=full)
    runner.start("job").ended.result(10)
    runner.stop()
    assert len(met) == 2
    assert (store.read("job").state, store.read("job").reason) == ("refused", "no such pages")


def test_what_counts_pages_in_an_archive_cannot_be_started(tmp_path: Path) -> None:
    """Before: one page was taken of each PDF there. It is asked for again, and said at last."""
    big_pdf(tmp_path / "c.pdf", 3, 100)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.write(tmp_path / "c.pdf", "c.pdf")

    def count(path: Path) -> int:
        raise MachineFault(errno.EAGAIN, "no more of them may be started")

    end = _listed(Question(str(tmp_path / "b.zip"), "zip", ""), lambda line: None, count)
    assert (end.unread, end.broken) == ("no more of them may be started", "")


def test_a_local_service_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: who had all its files, without a token, ended it."""

    def raises(error: Exception) -> SimpleNamespace:
        def revive_server() -> None:
            raise error

        return SimpleNamespace(revive_server=revive_server)

    async def told(error: Exception) -> Exception | None:
        service = object.__new__(_Server)
        service._fleet, service._revived_at, service.broken = raises(error), -10.0, None  # type: ignore[assignment]
        service.should_exit, service.config = False, uvicorn.Config(str)
        assert await service.on_tick(1) is (service.broken is not None)
        return service.broken

    for error in (FULL, NO_THREAD, _not_listed(FULL), redis.ConnectionError()):
        assert asyncio.run(told(error)) is None
    for error in (_not_listed(OSError(errno.EACCES, "Permission denied", "x")), OSError(errno.EFBIG, "too large")):
        assert asyncio.run(told(error)) is error


def test_what_says_something_of_the_machine() -> None:
    def made_of(cause: BaseException, *, hidden: bool = False) -> Exception:
        try:
            try:
                raise cause
            except type(cause) as error:
                raise ProducerError("it cannot be read") from (None if hidden else error)
        except ProducerError as error:
            return error

    for error in (FULL, NO_MEMORY, NO_THREAD, MemoryError(), MachineFault(errno.EIO, "bad disk")):
        assert want_of_the_machine(error) is not None
        assert want_of_the_machine(made_of(made_of(error))) is not None
        assert want_of_the_machine(made_of(error, hidden=True)) is None
    for error in (OSError(errno.EIO, "bad disk"), FileNotFoundError(), RuntimeError("other"), BlockingIOError()):
        assert want_of_the_machine(made_of(error)) is None
