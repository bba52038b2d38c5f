"""Pages of up to 64 MB, of many jobs in one process: none is in memory as a whole, and each finds its way."""

from __future__ import annotations

import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from detector.memory import peak_rss_mb
from producer.job.feed import Feeder, Window
from producer.job.manifest import ManifestLine
from producer.job.sending import kept_page
from producer.job.sending.kept_page import MOST_KEPT_BYTES, KeptPage
from producer.job.sending.room import Memory, Room, memory_for_pages
from producer.job.upload import Uploader
from producer.sources.scan import file_uri
from tests.processes import wait_until
from worker.app import app_for
from worker.broker import queue
from worker.ledger import Ledger
from worker.redis_keys import JobKeys, blob_key
from worker.settings import Settings

MIB = 1 << 20
JPEG = b"\xff\xd8\xff\xe0 begins"


class Jobs:
    """Jobs of one process, as the page has them."""

    def __init__(self, settings: Settings, ledger: Ledger, stack: ExitStack) -> None:
        self.app, self.ledger, self._stack = app_for(settings), ledger, stack

    def feeder(self, job: str, lines: list[ManifestLine], window_bytes: int = 48 * MIB) -> Feeder:
        self.ledger.create(job, len(lines), {})
        self.uploader = self._stack.enter_context(Uploader(self.ledger, job, limit_side=0, shrink=False))
        window = Window(low=100, high=200, bytes=window_bytes)
        return Feeder(self.app, self.ledger, job, lines, window=window, uploader=self.uploader)

    def finish(self, job: str) -> None:
        """As workers would."""
        for index in list(self.ledger.in_flight(job)):
            self.ledger.finish(job, index, ok=True, record=b"{}")
        queue.purge(self.ledger.client)


@pytest.fixture
def jobs(settings: Settings, ledger: Ledger) -> Iterator[Jobs]:
    with ExitStack() as stack:
        yield Jobs(settings, ledger, stack)


def page_of(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    path.write_bytes(JPEG)
    os.truncate(path, size)
    return path


def lines_of(*paths: Path) -> list[ManifestLine]:
    return [ManifestLine(index, path.name, file_uri(path), 0) for index, path in enumerate(paths)]


def forget_the_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_rss_mb()


def test_many_jobs_that_wait_hold_no_page(jobs: Jobs, tmp_path: Path) -> None:
    """Before: a packed page each, 64 MB at most, and the page was killed at 1 GiB: sixteen zips of 742 KB did it."""
    small, large = page_of(tmp_path, "small.jpg", 4 * MIB), page_of(tmp_path, "large.jpg", 12 * MIB)
    feeders = [jobs.feeder(f"job-{number}", lines_of(small, large), 1) for number in range(8)]
    before = forget_the_peak()
    for _ in range(2):
        for feeder in feeders:
            feeder.step()
    assert [feeder.sent for feeder in feeders] == [1] * 8 and not any(feeder.exhausted for feeder in feeders)
    assert peak_rss_mb() - before < 8, "one of these pages alone has 12"
    jobs.finish("job-3")
    assert feeders[3].step() == 1 and jobs.ledger.client.strlen(blob_key("job-3", 1)) == 12 * MIB
    assert peak_rss_mb() - before < 8


def test_small_pages_are_kept_and_all_jobs_together_keep_few(jobs: Jobs, tmp_path: Path) -> None:
    paths = [page_of(tmp_path, f"{number}.jpg", 1 * MIB) for number in range(2)]
    feeders = [jobs.feeder(f"job-{number}", lines_of(*paths), MIB + 10) for number in range(12)]
    before = forget_the_peak()
    for feeder in feeders:
        assert feeder.step() == 1
    assert kept_page._budget._left == 0 and peak_rss_mb() - before < (MOST_KEPT_BYTES >> 20) + 5
    paths[1].unlink()
    for number, feeder in enumerate(feeders):
        jobs.finish(f"job-{number}")
        feeder.step()
    assert sum(feeder.sent for feeder in feeders) == 12 + 8, "those that were not kept are read again, and are gone"
    failed = [jobs.ledger.status(f"job-{number}") for number in range(12)]
    assert sum(status.failed for status in failed if status) == 4
    assert kept_page._budget._left == MOST_KEPT_BYTES


def test_what_a_job_kept_is_free_when_it_ends() -> None:
    one, other = KeptPage[str](), KeptPage[str]()
    assert one.keep("page", MOST_KEPT_BYTES) and not other.keep("page", 1) and other.take() is None
    assert one.keep("smaller", MOST_KEPT_BYTES - 1) and other.keep("page", 1)
    one.close()
    one.close()
    assert other.take() == "page" and one.take() is None
    assert kept_page._budget._left == MOST_KEPT_BYTES


def test_a_page_waits_for_the_brokers_memory(jobs: Jobs, tmp_path: Path) -> None:
    """Before: it was sent and refused (OOM), each three seconds, of each job."""
    client = jobs.ledger.client
    path = page_of(tmp_path, "large.jpg", 12 * MIB)
    first, second = (jobs.feeder(job, lines_of(path)) for job in ("first", "second"))

    def used() -> int:
        memory = client.info("memory")
        return int(memory["used_memory"]) + memory["lazyfree_pending_objects"] * MIB

    def rests() -> bool:
        before = used()
        time.sleep(0.3)
        return before < 8 * MIB and abs(used() - before) < MIB // 4

    # Of an empty server; buffers of clients of the tests before go later than their pages.
    wait_until(rests, seconds=30, what="pages of before to be freed")
    client.config_set("maxmemory", used() + 40 * MIB)
    try:
        assert first.step() == 1
        for _ in range(2):
            assert second.step() == 0 and second.waiting == "waiting until the broker has memory for a page of 13 MB"
        jobs.finish("first")
        wait_until(second.step, seconds=5, what="Valkey to have freed it, in its own time")
        assert not second.waiting and client.strlen(blob_key("second", 0)) == 12 * MIB
    finally:
        client.config_set("maxmemory", "0")


def test_a_page_that_the_broker_can_never_take_has_a_record_and_others_go(jobs: Jobs, tmp_path: Path) -> None:
    client = jobs.ledger.client
    feeder = jobs.feeder("job", lines_of(page_of(tmp_path, "large.jpg", 30 * MIB), page_of(tmp_path, "b.jpg", MIB)))
    client.config_set("maxmemory", 32 * MIB)
    try:
        assert feeder.step() == 1
    finally:
        client.config_set("maxmemory", "0")
    [(_, fields)] = client.xrange(JobKeys.of("job").results)
    assert b'"TooLarge"' in fields[b"record"] and b"more than the 14 MB that travel" in fields[b"record"]


def test_a_file_that_is_cut_while_it_is_sent(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [page_of(tmp_path, f"{number}.jpg", 2 * MIB) for number in range(2)]
    feeder = jobs.feeder("job", lines_of(*paths))
    send = jobs.uploader.send
    monkeypatch.setattr(jobs.uploader, "send", lambda parcels: (os.truncate(paths[0], MIB), send(parcels))[1])
    feeder.step()
    status = jobs.ledger.status("job")
    assert status and status.failed == 1 and feeder.sent == 1
    [(_, fields)] = jobs.ledger.client.xrange(JobKeys.of("job").results)
    assert b"0.jpg: it became 1,048,576 bytes shorter while it was sent" in fields[b"record"]


def test_an_archive_is_not_read_again_for_pages_that_wait(jobs: Jobs, tmp_path: Path) -> None:
    """A .tar.gz is read from its beginning for a member that has gone by."""
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz", compresslevel=1) as bundle:
        for number in range(6):
            bundle.add(page_of(tmp_path, "page.jpg", 2 * MIB + number), f"{number}.jpg")
    archive = tmp_path / "a.tar.gz"
    uris = [file_uri(archive, "tar+file", b"%d.jpg" % number) for number in range(6)]
    feeder = jobs.feeder("job", [ManifestLine(i, f"{i}.jpg", uri, 0) for i, uri in enumerate(uris)], 5 * MIB)
    taken: list[str] = []
    extract = jobs.uploader._storage.extract

    def counted(scheme: str, archive: Path, member: str, copy: Path, *, number: int | None) -> None:
        extract(scheme, archive, member, copy, number=number)
        taken.append(member)

    jobs.uploader._storage.extract = counted  # type: ignore[method-assign]

    def fed() -> bool:
        feeder.step()
        if feeder.sent % 2 == 0:
            jobs.finish("job")
        return feeder.exhausted

    wait_until(fed, seconds=20, what="all to be fed")
    assert feeder.sent == 6 and len(taken) == 6


def test_the_end_is_seen_while_the_last_page_fills_the_window(jobs: Jobs, tmp_path: Path) -> None:
    """`enqueue` ends then, whether workers come or not."""
    feeder = jobs.feeder("job", lines_of(page_of(tmp_path, "large.jpg", 2 * MIB)), 100)
    feeder.step()
    feeder.step()
    assert feeder.sent == 1 and feeder.exhausted


def test_room() -> None:
    left = Room(100, 1000, alone=True)
    assert left.fits(0) and left.fits(500) and not left.fits(501)
    left.take(300)
    assert left.fits(0) and not left.fits(1) and left.has_memory(200) and not left.has_memory(201)
    assert Room(100, 50).fits(25) and not Room(100, 50).fits(26) and not Room(100).fits(101)
    assert memory_for_pages({"used_memory": 10, "maxmemory": 0}) == Memory()
    assert memory_for_pages({"used_memory": 50, "maxmemory": 100}) == Memory(45, 45)
    assert memory_for_pages({"used_memory": 0, "maxmemory": 1 << 40}).largest == Memory().largest
