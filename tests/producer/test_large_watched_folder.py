"""A watched folder of a million files, and one more file behind a million pages: neither costs by what was before."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from producer import watch_folder
from producer.errors import JobInterruptedError
from producer.fleet_job import feed_job
from producer.growing.marks import Marks, Unchanged
from producer.growing.new_pages import append_pages
from producer.growing.settling import Settling
from producer.job.job_epoch import open_job
from producer.job.manifest import ManifestLine, count_manifest, read_manifest, write_lines, write_manifest
from producer.job.output_folder import JobRequest, OutputFolder
from producer.sources.found_page import FoundPage
from producer.whole_append import take_back, whole_append
from tests.traced import assert_few_bytes
from worker.app import app_for
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys
from worker.settings import Settings

JOB = "inbox"
FILES = 5000


def page(name: int | str) -> FoundPage:
    return FoundPage(f"{name}.jpg", f"file:///in/{name}.jpg", 0)


def numbers(manifest: Path) -> list[str]:
    """What the manifest lists, in its order; each line has its number."""
    return [line.image.removesuffix(".jpg") for line in read_manifest(manifest)]


@pytest.mark.slow
def test_a_file_that_waits_takes_few_bytes(tmp_path: Path) -> None:
    """Before: 1,300 each, so that a machine of 1 GB ended in MemoryError at 600,000, at each start."""
    (tmp_path / "0.png").touch()
    for number in range(1, FILES):
        os.link(tmp_path / "0.png", tmp_path / f"{number}.png")

    def settle(number: int) -> Settling:
        clock = [0.0]
        settling = Settling(tmp_path, (), settle_s=1, clock=lambda: clock[0])
        for second, count in enumerate([0, FILES, 0], 1):
            clock[0] = second * 5
            assert sum(1 for _ in settling.ready()) == count
        return settling

    # Most of what is held is the shelves; the peak has the names of one folder, 100,000 at most. Before: 7 MB.
    assert_few_bytes(settle, held=1_200_000, peak=2_500_000)


@pytest.mark.slow
def test_marks_are_a_set_of_8_bytes_each() -> None:
    chance = random.Random(1)
    marks, known = Marks(), [chance.getrandbits(64) for _ in range(100_000)]
    tracemalloc.start()
    try:
        for mark in known[:50_000] * 2:
            marks.add(mark)
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < 50_000 * 11, "Before: 60 to 100"
    assert all(mark in marks for mark in known[:50_000])
    assert not any(mark in marks for mark in known[50_000:])


@pytest.mark.slow
def test_since_when_files_are_unchanged_is_what_a_dict_would_say() -> None:
    for seed in range(20):
        chance = random.Random(seed)
        files = [chance.getrandbits(64) for _ in range(40)]
        unchanged, plain = Unchanged(), dict[int, tuple[int, float]]()
        for look in range(12):
            met = dict[int, tuple[int, float]]()
            unchanged.begin_look()
            for mark in chance.sample(files, 30):
                facts, now = chance.choice([1, 1, 1, 2**64 - 1]), float(look)
                before, since = plain.get(mark, (None, now))
                met[mark] = facts, since if before == facts else now
                assert unchanged.since(mark, facts, now) == met[mark][1]
            unchanged.end_look()
            plain = met


def test_a_file_is_looked_at_when_it_is_its_turn(tmp_path: Path) -> None:
    """Whoever works an hour on those before it must not take what began to grow meanwhile, nor call it settled."""
    for name in "abc":
        (tmp_path / f"{name}.jpg").touch()
    clock = [0.0]
    settling = Settling(tmp_path, (), settle_s=10, clock=lambda: clock[0])
    assert list(settling.ready()) == []
    clock[0] = 10
    given = []
    for found in settling.ready():
        given.append(found.name)
        if clock[0] == 10:
            clock[0] = 3600
            (tmp_path / "b.jpg").write_text("grows")
    assert given == [b"a.jpg", b"c.jpg"]
    clock[0] = 3601
    assert list(settling.ready()) == []
    clock[0] = 3610
    assert [found.name for found in settling.ready()] == [b"b.jpg"]


def test_files_are_taken_in_bundles_and_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the work on one is interrupted."""
    monkeypatch.setattr(watch_folder, "MOST_AT_ONCE", 3)
    inbox, folder = tmp_path / "in", OutputFolder(tmp_path / "out")
    inbox.mkdir()
    for number in range(8):
        (inbox / f"{number}.jpg").touch()
    request = JobRequest(job=JOB, sources=[str(inbox)])
    folder.save_request(request)
    lengths: list[int] = []

    def work() -> None:
        lengths.append(count_manifest(folder.manifest))
        if lengths[-1] in until:
            raise KeyboardInterrupt

    for ends in ([6], [8]):
        until = ends
        with pytest.raises(JobInterruptedError):
            watch_folder._watch(inbox, folder, request, work, lambda: None, poll_s=0.01, settle_s=0)
        until = []
    assert lengths == [3, 6, 6, 8]
    assert numbers(folder.manifest) == [str(number) for number in range(8)]


def test_pages_go_behind_the_others_in_the_same_file(tmp_path: Path) -> None:
    """Before: all of it was copied for each new file, 1.5 GB of ten million pages."""
    manifest = tmp_path / "out/manifest.jsonl"
    assert append_pages(manifest, []) == 0 and not manifest.exists()
    assert append_pages(manifest, map(page, range(3))) == 3
    inode = manifest.stat().st_ino
    assert append_pages(manifest, []) == 0
    assert append_pages(manifest, map(page, "xy")) == 2
    assert manifest.stat().st_ino == inode and numbers(manifest) == ["0", "1", "2", "x", "y"]
    assert {path.name for path in manifest.parent.iterdir()} == {"manifest.jsonl", ".ocrfleet"}


def test_a_scan_that_fails_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(map(page, range(3)), manifest)

    def found() -> Iterator[FoundPage]:
        yield page("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        append_pages(manifest, found())
    monkeypatch.setattr("producer.job.manifest.MOST_PAGES_OF_A_JOB", 4)
    with suppress(Exception):
        append_pages(manifest, map(page, "xyz"))
    assert numbers(manifest) == ["0", "1", "2"]
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.jsonl", ".ocrfleet"}


def test_a_collector_may_add_to_the_list_while_files_are_scanned(tmp_path: Path) -> None:
    """A list of archives takes an hour. Before: what was added meanwhile was lost, and its numbers were used again."""
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(map(page, range(3)), manifest)

    def found() -> Iterator[FoundPage]:
        yield page("x")
        with manifest.open("ab") as stream:
            write_lines(stream, [ManifestLine(3, "2.jpg", "file:///in/2.jpg", 1, None, 2)])
        yield page("y")

    assert append_pages(manifest, found()) == 2
    assert numbers(manifest) == ["0", "1", "2", "2", "x", "y"]


KILLED = """
import os, sys
from pathlib import Path
from producer.whole_append import whole_append
with whole_append(Path(sys.argv[1])) as stream:
    stream.write(b'{"index":3,"image":"x.jpg","uri":"file:///in/x.jpg","page":0}\\n{"index":')
    stream.flush()
    os.kill(os.getpid(), 9)
"""


def killed(manifest: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, manifest], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL and count_manifest(manifest) == 4


def test_half_a_bundle_of_a_killed_process_goes(tmp_path: Path) -> None:
    """Half of an archive's pages would be all of them: files of which a page is listed are not taken again."""
    folder = OutputFolder(tmp_path)
    write_manifest(map(page, range(3)), folder.manifest)
    killed(folder.manifest)
    # Before: who may read the list has its lock as well, and whoever took back or appended waited for him.
    with folder.manifest.open("rb") as readers:
        fcntl.flock(readers, fcntl.LOCK_EX)
        with folder.locked():
            assert numbers(folder.manifest) == ["0", "1", "2"]
        killed(folder.manifest)
        assert append_pages(folder.manifest, map(page, "yz")) == 2
    assert numbers(folder.manifest) == ["0", "1", "2", "y", "z"]
    assert (folder.private / "manifest.jsonl.lock").stat().st_mode & 0o777 == 0o600


def test_two_that_append_wait_for_each_other(tmp_path: Path) -> None:
    """A watched folder, and who collects its job beside it."""
    file = tmp_path / "list"
    file.touch()

    def append(line: bytes) -> None:
        with whole_append(file) as stream:
            for byte in line:
                stream.write(bytes([byte]))
                stream.flush()

    lines = [f"{number}\n".encode() * 20 for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(append, lines))
    data = file.read_bytes()
    assert all(line in data for line in lines) and len(data) == sum(map(len, lines))


def test_what_was_written_anew_is_not_cut(tmp_path: Path) -> None:
    """Nor by another's note."""
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(map(page, range(3)), manifest)
    killed(manifest)
    write_manifest(map(page, range(9)), manifest)
    for note in (None, b"", b"x y", b"1 2 3", b"\xff", f"{manifest.stat().st_ino} -4".encode()):
        if note is not None:
            (tmp_path / "manifest.jsonl.appending").write_bytes(note)
        take_back(manifest)
        assert count_manifest(manifest) == 9
        assert {path.name for path in tmp_path.iterdir()} == {"manifest.jsonl", ".ocrfleet"}
    manifest.rename(tmp_path / "other")
    manifest.symlink_to("other")
    with pytest.raises(OSError, match="is a link"), whole_append(manifest) as stream:
        stream.write(b"x")
    assert count_manifest(tmp_path / "other") == 9


def test_reading_begins_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.job.manifest.PASSED_AT_ONCE", 150)
    manifest = tmp_path / "manifest.jsonl"
    write_manifest((page("n" * (number % 200) + str(number)) for number in range(300)), manifest)
    lines = list(read_manifest(manifest))
    for start in range(302):
        assert list(read_manifest(manifest, start)) == lines[start:]


def test_a_new_page_is_fed_without_a_look_at_those_before(
    tmp_path: Path, ledger: Ledger, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the broker was asked for each page the folder ever had, 10 s a million, for each file that came."""
    folder, request = OutputFolder(tmp_path), JobRequest(job=JOB, sources=["/in"])
    write_manifest(map(page, range(1000)), folder.manifest)
    folder.save_request(request)
    open_job(folder, ledger, JOB, 1000)
    ledger.client.setrange(JobKeys.of(JOB).state, 0, b"o" * 1000)
    ledger.client.hset(JobKeys.of(JOB).job, "ok", 1000)
    asked: list[int] = []
    feed = ledger.feed

    def counted(tasks: list[ImageTask]) -> list[int]:
        asked.extend(task.index for task in tasks)
        return feed(tasks)

    monkeypatch.setattr(ledger, "feed", counted)
    append_pages(folder.manifest, map(page, "xy"))
    assert feed_job(folder, request, app_for(settings), ledger, watching=False, quiet=True).sent == 2
    assert asked == [1000, 1001] and set(ledger.in_flight(JOB)) == {1000, 1001}
    ledger.client.setrange(JobKeys.of(JOB).state, 7, b"\0")  # a broker that lost its last seconds
    ledger.client.hset(JobKeys.of(JOB).job, "ok", 999)
    assert feed_job(folder, request, app_for(settings), ledger, watching=False, quiet=True).sent == 1
    assert set(ledger.in_flight(JOB)) == {7, 1000, 1001}


def test_where_feeding_begins(ledger: Ledger) -> None:
    """At pages on their way, too: of those whose bytes are gone the bytes are sent again (job/upload.py)."""
    ledger.create(JOB, 6, {})
    state = JobKeys.of(JOB).state
    for letters, first in ((b"\0" * 6, 0), (b"oofqoo", 3), (b"ooofr\0", 4), (b"fooooo", 6), (b"oo", 2)):
        ledger.client.set(state, letters)
        assert ledger.first_to_feed(JOB) == first
    ledger.client.set(state, b"of\0qrof")
    assert list(ledger.pages_in_state(JOB, b"of")) == [0, 1, 5, 6]
