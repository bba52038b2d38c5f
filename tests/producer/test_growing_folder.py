"""A folder that grows: --update, and watch-folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from producer.growing.settling import Settling
from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.ledger import Ledger


def names(out: Path) -> Counter[str]:
    """Image -> how many records it has."""
    file = out / "results.jsonl"
    return Counter(json.loads(line)["image"] for line in file.read_text().splitlines()) if file.exists() else Counter()


@pytest.mark.slow
def test_run_says_how_many_are_new_and_adds_them_when_asked(environment: dict[str, str], tmp_path: Path) -> None:
    first, second = write_images(tmp_path / "in", 1), write_images(tmp_path / "later", 3)[1:]
    out = tmp_path / "out"
    run = ("ocr-producer", "run", tmp_path / "in", "-o", out, "--quiet", "--no-report")
    assert command(environment, *run).returncode == 0
    before = (out / "results.jsonl").read_bytes()
    for path in second:
        shutil.copy(path, tmp_path / "in")
    told = command(environment, *run)
    assert told.returncode == 0 and "2 new images" in told.stderr and "--update adds them" in told.stderr
    assert (out / "results.jsonl").read_bytes() == before
    told = command(environment, *run, "--update")
    assert told.returncode == 0, told.stderr
    assert (out / "results.jsonl").read_bytes().startswith(before), "what was done is not done again"
    assert names(out) == Counter({path.name: 1 for path in [*first, *second]})
    assert json.loads((out / "job.json").read_text())["images"] == 3
    told = command(environment, *run, "--update")
    assert told.returncode == 0 and "nothing was left to do" in told.stderr and len(names(out)) == 3


def test_enqueue_adds_to_a_job_that_is_finished(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    write_images(tmp_path / "in", 1)
    enqueue = ("ocr-producer", "enqueue", tmp_path / "in", "--job", "grows", "--watch", "--quiet")
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        assert command(environment, *enqueue).returncode == 0
        shutil.copy(next((tmp_path / "in").iterdir()), tmp_path / "in" / "z.jpg")
        told = command(environment, *enqueue)
        assert "1 new images" in told.stderr and (status := ledger.status("grows")) and status.total == 1
        told = command(environment, *enqueue, "--update")
        assert told.returncode == 0 and "2 images, 1 sent now, 2 done" in told.stderr, told.stderr
    finally:
        worker.stop()
    assert (status := ledger.status("grows")) and status.finished and status.total == 2
    command(environment, "ocr-producer", "collect", "grows", "-o", tmp_path / "out", "-q", "--no-report")
    assert set(names(tmp_path / "out").values()) == {1} and len(names(tmp_path / "out")) == 2


def test_a_file_is_taken_when_it_has_stopped_growing(tmp_path: Path) -> None:
    clock = [0.0]
    (tmp_path / "old.jpg").write_bytes(b"old")
    growing = tmp_path / "growing.jpg"
    settling = Settling(tmp_path, [tmp_path / "old.jpg"], settle_s=10, clock=lambda: clock[0])
    for second in range(0, 30, 5):
        clock[0] = second
        growing.write_bytes(b"x" * (second + 1))
        assert list(settling.ready()) == []
    clock[0] = 34
    assert list(settling.ready()) == []
    clock[0] = 35
    [found] = settling.ready()
    assert found.path == growing and found.name == b"growing.jpg"
    clock[0] = 60
    assert list(settling.ready()) == []


def watcher(environment: dict[str, str], log: Path, *arguments: str | Path) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / "ocr-producer"
    with log.open("ab") as output:
        return subprocess.Popen(
            [program, "watch-folder", *arguments, "--poll", "0.2", "--settle", "0.5"],
            env=environment, stdout=output, stderr=output,
        )  # fmt: skip


def test_watch_folder_into_a_folder_across_a_kill(environment: dict[str, str], tmp_path: Path) -> None:
    inbox, out, log = tmp_path / "inbox", tmp_path / "out", tmp_path / "log"
    write_images(inbox, 1)
    extra = write_images(tmp_path / "later", 3)
    process = watcher(environment, log, inbox, "-o", out)
    try:
        wait_until(lambda: len(names(out)) == 1, seconds=90, what="the first image")
    finally:
        process.kill()
        process.wait()
    for path in extra[1:]:
        shutil.copy(path, inbox)
    process = watcher(environment, log, inbox, "-o", out)
    try:
        wait_until(lambda: len(names(out)) == 3, seconds=90, what="the others")
    finally:
        process.terminate()
        assert process.wait(60) == 130, log.read_text()
    assert set(names(out).values()) == {1}
    assert "the same command goes on" in log.read_text() and "Traceback" not in log.read_text()
    other = command(environment, "ocr-producer", "watch-folder", tmp_path / "later", "-o", out)
    assert other.returncode == 2 and "other inputs" in other.stderr


def test_watch_folder_feeds_a_job_each_file_once(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    """Also when the broker has forgotten the job meanwhile: what is done is not sent again, and what is not, is.

    Before, a page on the queue of a broker that lost its data was "ok", and read by nobody.
    """
    inbox, log = tmp_path / "inbox", tmp_path / "log"
    write_images(inbox, 2)
    done = tmp_path / "state" / "ocrfleet" / "inbox" / ".ocrfleet" / "done"

    def total() -> int:
        status = ledger.status("inbox")
        return status.total if status else 0

    def noted() -> int:
        return int(json.loads(done.read_text())["pages"]) if done.exists() else -1

    def watched(until: int, note: int, sent: set[int]) -> None:
        process = watcher(environment, log, inbox, "--job", "inbox", "--transfer", "redis")
        try:
            wait_until(lambda: total() == until, seconds=60, what=f"{until} images: {log.read_text()}")
            wait_until(lambda: set(ledger.in_flight("inbox")) == sent, seconds=60, what=f"{sent} to be sent")
            wait_until(lambda: noted() == note, seconds=60, what="the note of it")
        finally:
            process.terminate()
            assert process.wait(60) == 130

    watched(2, 0, {0, 1})
    ledger.forget("inbox")
    shutil.copy(next(inbox.iterdir()), inbox / "new.jpg")
    watched(3, 0, {0, 1, 2})
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        wait_until(lambda: ledger.first_to_feed("inbox") == 3, seconds=60, what="them to be read")
    finally:
        worker.stop()
    collected = command(environment, "ocr-producer", "collect", "inbox", "-o", tmp_path / "out", "-q", "--no-report")
    assert collected.returncode == 0, collected.stderr
    watched(3, 3, set())
    ledger.forget("inbox")
    shutil.copy(next(inbox.iterdir()), inbox / "newer.jpg")
    watched(4, 3, {3})
