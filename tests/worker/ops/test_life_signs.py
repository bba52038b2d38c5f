"""A worker's machine knows that it lives, whatever Redis says of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
import redis
from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery.exceptions import Reject
from celery.worker.request import Request

from detector.errors import ModelError
from worker import tasks
from worker.celery_ext.request import ImageRequest
from worker.ledger import Ledger
from worker.messages import ImageTask
from worker.ops import life_signs, worker_registry
from worker.ops.life_signs import GOES_ON, WORKS, signs_of, tell
from worker.process_identity import identity
from worker.redis_keys import JobKeys
from worker.settings import Settings
from worker.storage.spool import CutOff, MachineFault

ME = os.getpid()


@pytest.fixture
def here(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The settings of a worker, which this process is."""
    own = replace(settings, spool_dir=tmp_path / "spool")
    monkeypatch.setattr(life_signs, "settings", lambda: own)
    return own


def files(here: Settings) -> list[Path]:
    return sorted((here.spool.parent / "signs").iterdir())


def why(client: redis.Redis, here: Settings, waiting: int = 0) -> str | None:
    signs = partial(signs_of, spool=here.spool, redis_url=here.redis_url)
    return worker_registry.why_not_alive(
        client, waiting=waiting, patience_s=100, host="me", is_worker=ME.__eq__, signs=signs
    )


def test_what_redis_says_does_not_count(client: redis.Redis, here: Settings) -> None:
    """Before: who removed a note, or wrote another, had each worker of the fleet restarted while he went on."""
    assert why(client, here) == "no running worker of this machine has reported"
    tell(GOES_ON, WORKS)
    assert why(client, here, waiting=9) is None
    note = worker_registry.WorkerNote(at=1, started=1, version="1", profile="low", temp_bytes=0)
    worker_registry.note_worker(client, f"me:{ME}", note)
    assert why(client, here, waiting=9) is None
    [goes_on, works] = files(here)
    assert goes_on.stat().st_mode & 0o777 == 0o600 and goes_on.parent.stat().st_mode & 0o777 == 0o700
    then = time.monotonic() + life_signs._EPOCH - 200
    os.utime(works, (then, then))
    assert why(client, here) is None, "nothing to do is no fault"
    assert "finished no image for 200 s" in (why(client, here, waiting=9) or "")
    tell(WORKS)
    os.utime(goes_on, (then, then))
    worker_registry.note_worker(client, f"me:{ME}", worker_registry.WorkerNote(time.time(), 1, "1", "low", 0))
    assert "has not reported for 200 s" in (why(client, here) or ""), "a forged note keeps no dead worker"


def test_of_another_broker_or_process_nothing_is_said(here: Settings) -> None:
    """The worker of a `run` beside it has nothing to do, and no part in this fleet."""
    tell(GOES_ON, WORKS)
    assert signs_of(ME, here.spool, here.redis_url) is not None
    assert signs_of(ME, here.spool, "redis://other/0") is None
    assert signs_of(os.getppid(), here.spool, here.redis_url) is None
    assert signs_of(1 << 22, here.spool, here.redis_url) is None


def test_what_a_killed_process_left_goes(here: Settings) -> None:
    tell(GOES_ON)
    [mine] = files(here)
    gone, elsewhere = identity().rpartition(":")[0] + ":1", "boot:1:7:99"
    for other in (gone, elsewhere):
        (mine.parent / f"{other.replace(':', ',')}.broker.goes-on").touch()
    life_signs.forget_gone()
    assert sorted(file.name.partition(",")[0] for file in files(here)) == sorted(("boot", mine.name.partition(",")[0]))
    life_signs.leave()
    assert [file.name.partition(",")[0] for file in files(here)] == ["boot"]


def test_where_nothing_can_be_written_the_worker_goes_on(
    client: redis.Redis, here: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    here.spool_dir.write_text("no folder")
    for _ in range(3):
        tell(GOES_ON, WORKS)
    assert len(caplog.messages) == 1 and "goes-on" not in caplog.text
    worker_registry.note_worker(
        client,
        f"me:{ME}",
        worker_registry.WorkerNote(at=time.time(), started=1, version="1", profile="low", temp_bytes=0),
    )
    assert why(client, here) is None, "it goes by Redis, as it did"


def test_whatever_a_message_came_to_is_a_sign(ledger: Ledger, here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 30,000 pages without a try left were 70 s of work, and a probe after 43 had the worker restarted."""
    runner = Mock()
    monkeypatch.setattr(tasks, "_ledger", lambda: ledger)
    monkeypatch.setattr(tasks, "_runner", lambda: runner)
    monkeypatch.setattr(tasks, "FAULT_PAUSE_S", 0)
    pages = [ImageTask(job="j", index=index, image="p", uri="file:///p.png") for index in range(3)]
    ledger.create("j", 3, {})
    ledger.feed(pages)
    ledger.client.hset(JobKeys.of("j").attempts, "0", 99)
    seen = []

    def told(message: object) -> tuple[str, bool]:
        life_signs._remove(lambda *_: True)
        line = tasks.detect_image(msgspec.to_builtins(message))
        seen.append(line.partition(":")[0])
        return seen[-1], [file.suffix for file in files(here)] == [f".{WORKS}"]

    tell(WORKS)
    assert told(pages[0]) == ("failed", True)
    assert told(pages[0]) == ("dropped", True)
    assert told({"version": "to come"}) == ("refused", True)
    runner.run.side_effect = MachineFault(28, "No space left on device", "/spool")
    assert told(pages[1]) == ("left to another machine", False), "this a probe is to see"
    runner.run.side_effect.__cause__ = CutOff("https://host/p.png", "it ended")
    assert told(pages[1]) == ("left for later", True), "a server that breaks off is no fault of the worker's"
    runner.run.side_effect.__cause__ = ModelError("no recogniser 'nosuch'")
    assert told(pages[1]) == ("left for later", True), "who asks for a recogniser that nobody has is"
    monkeypatch.setattr(ledger, "begin", Mock(side_effect=SoftTimeLimitExceeded))
    assert told(pages[2]) == ("left for later", True), "a full broker is no fault of the worker's"


def test_so_is_what_ends_without_an_answer(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: pictures that took all their time, each of their tries, and pages that were revoked, by the thousand."""
    for name in ("on_failure", "on_timeout", "_announce_revoked"):
        monkeypatch.setattr(Request, name, lambda *_, **__: None)
    for name in ("_note_loss", "_task_of"):
        monkeypatch.setattr(ImageRequest, name, lambda *_: None)
    request: Any = ImageRequest.__new__(ImageRequest)
    failures = (Reject("TimedOut", requeue=True), WorkerLostError(), TimeLimitExceeded(1), ValueError())
    ends = [partial(request.on_failure, SimpleNamespace(exception=error)) for error in failures]
    ends += [partial(request.on_timeout, False, 1.0), partial(request._announce_revoked, "revoked", False, None, False)]
    tell(WORKS)
    for end in ends:
        life_signs._remove(lambda *_: True)
        end()
        assert len(files(here)) == 1
    life_signs._remove(lambda *_: True)
    request.on_timeout(True, 1.0)
    assert files(here) == [], "the page goes on"
