"""The quota is one for all: eight uploads at a time may not take it eight times over."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.requests import Request

from producer.web import runner
from producer.web import store as web_store
from producer.web.bounds import makings
from producer.web.bounds.makings import Makings
from producer.web.bounds.room import ENTRY_BYTES, QuotaUsedError, Room
from producer.web.problem import Problem, quota_is_used
from producer.web.runner import Runner
from producer.web.service import Service
from producer.web.settings import read_web_settings
from producer.web.store import Store, WebJob
from producer.web.upload import Intake
from tests.pictures import write_images
from tests.processes import wait_until
from tests.producer.web.places import lone_place
from worker.app import app_for
from worker.ledger import Ledger
from worker.settings import Settings

MIB = 1 << 20
SETTINGS = read_web_settings({"OCRFLEET_WEB_QUOTA_MB": "2", "OCRFLEET_WEB_MAX_FILE_MB": "1"})


def upload(store: Store, size: int, *, says_length: bool) -> Request:
    """A request with so many bytes, which come a piece at a time."""
    sent = 0

    async def receive() -> dict[str, object]:
        nonlocal sent
        await asyncio.sleep(0)  # the others' turn
        piece = (b"\xff\xd8\xff" if not sent else b"").ljust(min(1 << 16, size - sent), b"\0")
        sent += len(piece)
        return {"type": "http.request", "body": piece, "more_body": sent < size}

    headers = [(b"content-type", b"image/jpeg")]
    if says_length:
        headers.append((b"content-length", str(size).encode()))
    return Request({"type": "http", "headers": headers, "query_string": b""}, receive)


@pytest.mark.parametrize("says_length", [True, False])
def test_uploads_at_a_time_share_the_quota(says_length: bool, tmp_path: Path) -> None:
    """Before: each got all that was left; 8 of 15 MiB were all taken at a quota of 20 MiB."""
    store = Store(tmp_path)
    store.room.used()

    async def take() -> bool:
        folder = store.new_upload()
        intake = Intake(folder / "upload", SETTINGS, store.room, archives=True, most_files=1, place=lone_place())
        try:
            await intake.read(upload(store, 900 << 10, says_length=says_length))
        except Problem as problem:
            assert problem.status == 413 and "quota" in problem.detail
            return False
        return True

    async def all_of_them() -> list[bool]:
        return await asyncio.gather(*(take() for _ in range(8)))

    taken = asyncio.run(all_of_them())
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 2 * MIB
    if says_length:
        assert sum(taken) == 2, "what fits is kept for those who came first"
    assert store.room._claimed == 0


def test_what_is_written_counts_before_and_after_a_look() -> None:
    there = 0
    room = Room(lambda: (there, there))
    assert room.used() == 0
    claim = room.claim(100, 60)
    assert claim and room.used() == 60
    assert room.claim(100, 50) is None
    assert claim.write(40) and room.used() == 60
    there = 40
    room.forget()
    assert room.used() == 60, "40 on the disk, 20 kept"
    assert claim.write(30) and room.used() == 70, "10 more than it said"
    assert not claim.write(31)
    claim.close()
    claim.close()
    there = 0
    room.forget()
    assert room.used() == 0


def test_a_look_that_takes_long_forgets_nothing() -> None:
    def measure() -> tuple[int, int]:
        assert claim and claim.write(10)  # while the folder is looked through: perhaps seen, perhaps not
        return 5, 5

    room = Room(measure)
    claim = room.claim(100, 0)
    assert room.used() == 15


def test_nobody_waits_for_a_look_and_looks_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: uploads that were refused had all looked through again and again, and each thread waited for it."""
    looks, now, there = list[float](), 100.0, 5
    looking, go_on = threading.Event(), threading.Event()

    def measure() -> tuple[int, int]:
        nonlocal now
        looks.append(now)
        seen = there
        if len(looks) == 2:
            looking.set()
            assert go_on.wait(10)
        now += 2.0
        return seen, seen

    monkeypatch.setattr(time, "monotonic", lambda: now)
    room = Room(measure)
    assert room.used() == 5
    now = 110.0
    other = threading.Thread(target=room.used)
    other.start()
    assert looking.wait(10)
    assert room.used() == 5, "what is known, at once"
    there = 3
    room.forget()
    go_on.set()
    other.join()
    for _ in range(100):
        now += 0.1
        room.forget()
        room.used()
    assert room.used() == 3, "what was removed during a look is found by the next"
    assert 3 <= len(looks) <= 5, "a third of the time"


def test_who_says_much_keeps_a_file_at_most(tmp_path: Path) -> None:
    store, began = Store(tmp_path), time.monotonic()

    async def slow() -> dict[str, object]:
        assert store.room._claimed + ENTRY_BYTES == SETTINGS.max_file_bytes
        return {"type": "http.disconnect"}

    headers = [(b"content-type", b"image/jpeg"), (b"content-length", b"9" * 15)]
    request = Request({"type": "http", "headers": headers, "query_string": b""}, slow)
    folder = store.new_upload() / "upload"
    with pytest.raises(Problem):
        asyncio.run(
            Intake(folder, SETTINGS, store.room, archives=False, most_files=1, place=lone_place()).read(request)
        )
    assert store.room._claimed == 0 and time.monotonic() - began < 5


def test_what_a_job_lists_counts_too() -> None:
    """Before: a zip of 55 KB wrote 625 MB of manifest at a quota of 20 MiB."""
    room = Room(lambda: (15 << 20, 15 << 20))
    fits = room.check(20 << 20)
    fits(4 << 20)
    with pytest.raises(QuotaUsedError, match="quota of 20 MiB"):
        fits(6 << 20)


def test_what_uploads_were_promised_ends_nothing(tmp_path: Path) -> None:
    """Before: who said that he would send much, and did not, ended others' jobs that were being listed, and results."""
    room = Room(lambda: (15 << 20, 15 << 20))
    room.used()
    promised = room.claim(20 << 20, 4 << 20)
    for written, ends in ((3 << 20, False), (6 << 20, True)):
        with pytest.raises(QuotaUsedError) as full:
            room.check(20 << 20)(written)
        assert full.value.is_due_to(0, listed=False) is ends
    service = Service.__new__(Service)
    service.web, service.store = replace(SETTINGS, quota_mb=19), Store(tmp_path)
    service.store.room = room
    with pytest.raises(Problem, match="quota"):
        service.check_quota()
    service.check_taken()
    assert promised and promised.write(4 << 20)
    with pytest.raises(Problem, match="quota"):
        service.check_taken()


@pytest.mark.parametrize("where", ["incoming/one/upload", "exports/one"])
def test_what_passes_ends_no_job(tmp_path: Path, where: str) -> None:
    """Before: uploads that were cut off at their last byte, or a result that was being made, refused jobs for good."""
    store = Store(tmp_path)
    look = store.room.check(20 << 20)
    (tmp_path / where).mkdir(parents=True)
    (tmp_path / where / "file").write_bytes(bytes(15 << 20))
    for written, ends in ((6 << 20, False), (20 << 20, True)):
        with pytest.raises(QuotaUsedError) as full:
            look(written)
        assert full.value.is_due_to(0, listed=False) is ends
    store.drop(tmp_path / where.partition("/one")[0] / "one")
    store.room._found_at = float("-inf")
    look(6 << 20)
    (tmp_path / "jobs" / "other").mkdir()
    (tmp_path / "jobs" / "other" / "file").write_bytes(bytes(15 << 20))
    store.room._found_at = float("-inf")
    with pytest.raises(QuotaUsedError) as full:
        look(6 << 20)
    assert full.value.is_due_to(0, listed=False), "what others keep stays"


def test_a_full_quota_ends_the_job_that_has_nearly_all_of_it(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: all open jobs of all visitors, for good, if only for the time in which a result was being converted."""
    monkeypatch.setattr(runner, "AGAIN_AFTER_S", 0.05)
    store = Store(tmp_path / "web")
    room = Room(lambda: (30 << 20, 30 << 20))
    jobs = Runner(app_for(settings), ledger, store, transfer="uri", roots=(tmp_path,), check=room.check(20 << 20))
    write_images(tmp_path / "in", 1)
    for name, size in (("small", 1), ("large", 19 << 20)):
        folder = store.new_upload()
        (folder / "upload" / "a.bin").write_bytes(bytes(size))
        assert store.accept(folder, name, WebJob(created=time.time(), sources=[str(tmp_path / "in")]))
        jobs.start(name)
    try:
        wait_until(lambda: store.read("large").state != "open", seconds=10, what="its end")
        assert store.read("large").state == "refused" and "quota of 20 MiB" in store.read("large").reason
        waiting = jobs.running("small")
        assert waiting and "waiting: the quota of 20 MiB" in waiting.progress.phase
        room._measure, room._forgotten = (lambda: (0, 0)), True
        wait_until(lambda: ledger.status("small") is not None, seconds=10, what="the other to go on")
        assert store.read("small").state == "open"
    finally:
        jobs.stop()


def test_what_is_made_ends_when_the_quota_is_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: it was looked at when it began, and took up to an hour, and 30 MB a second."""
    monkeypatch.setattr(makings, "WATCH_S", 0.1)

    def full() -> None:
        raise quota_is_used(1)

    with Makings().of("job", full) as making:
        began = time.monotonic()
        making.ask("code", b"", 20)  # it waits for more
        assert time.monotonic() - began < 10
        with pytest.raises(Problem, match="quota"):
            making.check()


@pytest.mark.parametrize("fails", ["the rename", "web.json", "the sync", "the removal too"])
def test_nothing_is_left_of_an_upload_whose_job_cannot_be_made(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: it lay in incoming/, in the quota, until the next start: 46 MB of three that were answered 507."""
    store = Store(tmp_path / "web")
    before = store.room.used()
    folder = store.new_upload()
    (folder / "upload" / "a.jpg").write_bytes(bytes(MIB))

    def full(path: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    with monkeypatch.context() as patch:
        if fails == "web.json":
            (folder / "web.json").mkdir()
        elif fails == "the sync":
            patch.setattr(web_store, "sync_to_disk", full)
        else:
            (store.root / "jobs").rename(store.root / "aside")
        if fails == "the removal too":
            patch.setattr(web_store, "remove_tree", full)
        with pytest.raises(OSError):
            store.accept(folder, "job", WebJob(created=1))
    if fails in ("the rename", "the removal too"):
        (store.root / "aside").rename(store.root / "jobs")
    assert folder.exists() == (fails == "the removal too")
    store.drop_left()
    assert not folder.exists() and store.names() == []
    assert store.room.used() == before
    assert store.accept(store.new_upload(), "job", WebJob(created=1)), "sent again"


def test_an_upload_is_a_folder_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    make = Path.mkdir

    def mkdir(path: Path, *given: int, **named: int) -> None:
        if path.name == "upload":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        make(path, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(OSError, match="No space"):
        store.new_upload()
    assert list((tmp_path / "incoming").iterdir()) == []
