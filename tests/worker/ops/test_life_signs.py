"""A worker's machine knows that it lives, whatever Redis says of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import redis

from worker.ops import life_signs, worker_registry
from worker.ops.life_signs import GOES_ON, WORKS, signs_of, tell
from worker.process_identity import identity
from worker.settings import Settings

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
