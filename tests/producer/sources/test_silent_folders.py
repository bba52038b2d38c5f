"""A scan whose folder does not answer, or is large and holds no picture: its turn ends, and so does it with its job."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.images.tiff import BrokenTiffError
from producer.archive_process.limited_readers import limited_readers
from producer.errors import CannotCountError
from producer.sources import page_count
from producer.sources.readers import Readers
from producer.sources.scan import scan
from producer.sources.scan_time import ScanTime, TurnIsOverError
from producer.sources.walk import list_folder
from producer.web.bounds import scan_turns
from producer.web.bounds.scan_turns import ScanTurns
from producer.web.visitors.questions import NoAnswerError
from tests.processes import wait_until
from tests.producer.records import tiff


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """One that does not answer until this is set."""
    monkeypatch.setattr(scan_turns, "SILENT_S", 0.2)
    monkeypatch.setattr(scan_turns, "LOOK_S", 0.02)
    back = threading.Event()
    yield back
    back.set()


def empty(readers: Readers, left: ScanTime) -> int:
    """A scan of nothing."""
    left.check_turn(last=True)
    return 7


@pytest.mark.parametrize("quick", [False, True])
def test_a_share_that_hangs_keeps_no_turn(quick: bool, share: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: as long as it hung, for each job of the page, also when its own was deleted."""
    turns, kept = ScanTurns(), list[str]()

    def hang(readers: Readers, left: ScanTime) -> int:
        share.wait(30)
        left.check_turn(last=True)
        kept.append("a list that nobody waits for")
        return 1

    for number in range(scan_turns.MOST_SCANS + 1):
        with pytest.raises(NoAnswerError, match="does not answer"):
            turns.run(hang, quick=quick, look_up=lambda: None, whose=f"job {number}")
    assert turns.run(empty, quick=quick, look_up=lambda: None) == 7, "an upload"
    with pytest.raises(NoAnswerError):
        turns.run(empty, quick=quick, look_up=lambda: None, whose="job 0")
    share.set()
    wait_until(lambda: not turns._scans._begun, seconds=10, what="them to end")
    assert not kept
    monkeypatch.setattr(scan_turns, "SILENT_S", 60.0)
    assert turns.run(empty, quick=quick, look_up=lambda: None, whose="job 0") == 7


def test_a_share_that_is_slow_is_waited_for_longer(share: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: as long as the first time, in the turn of all uploads, again and again: its job was never done."""
    monkeypatch.setattr(scan_turns, "SLOWER", 100.0)
    turns = ScanTurns()

    def slow(readers: Readers, left: ScanTime) -> int:
        time.sleep(0.4)
        left.check_turn()
        return 3

    with pytest.raises(NoAnswerError) as said:
        turns.run(slow, quick=False, look_up=lambda: None, whose="job")
    assert said.value.waited_s == 0.2
    with turns._long, pytest.raises(NoAnswerError) as said:
        turns.run(slow, quick=False, look_up=lambda: None, whose="job", waited_s=0.2)
    assert said.value.waited_s == 0.0, "its thread has no answer yet: it is not in line for a turn"
    wait_until(lambda: not turns._scans._begun, seconds=10, what="it to end")
    with turns._short:
        assert turns.run(slow, quick=False, look_up=lambda: None, whose="job", waited_s=0.2) == 3


@pytest.mark.parametrize("hangs", [False, True])
def test_a_job_that_is_deleted_is_out_of_its_turn(
    hangs: bool, share: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_turns, "SILENT_S", 60.0)
    monkeypatch.setattr(scan_turns, "ENDED_S", 0.2 if hangs else 60.0)
    turns, begun, ended = ScanTurns(), threading.Event(), threading.Event()

    def go_on(readers: Readers, left: ScanTime) -> int:
        begun.set()
        try:
            while not share.wait(30 if hangs else 0.01):
                left.check_turn()
        finally:
            ended.set()
        return 1

    def look_up() -> None:
        if begun.is_set():
            raise InterruptedError

    with pytest.raises(InterruptedError):
        turns.run(go_on, quick=False, look_up=look_up, whose="job")
    assert hangs or ended.is_set(), "its scan ended first"
    assert turns.run(empty, quick=False, look_up=lambda: None) == 7


def test_who_waits_for_a_process_is_not_silent() -> None:
    left = ScanTime(turn_s=1000.0)
    left._seen_at -= 100
    with left.spending(1000.0):
        assert not left.end_if_silent(50)
    left.check_turn()
    left._seen_at -= 100
    assert left.end_if_silent(50)
    with pytest.raises(TurnIsOverError):
        left.check_turn()
    done = ScanTime()
    done.check_turn(last=True)
    done.end()
    assert not done.end_if_silent(-1.0), "what was found is being written"
    done.check_turn()


def test_who_waits_for_a_tiff_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: as if a process were waited for; it kept the turn for 80 s, also when its job was deleted."""
    (path := tmp_path / "a.tif").write_bytes(tiff(1))
    left, silent = ScanTime(), list[bool]()

    def hang(stream: object) -> None:
        left._seen_at -= 100
        silent.append(left.end_if_silent(50))
        raise BrokenTiffError("it hung")

    monkeypatch.setattr(page_count, "read_chain", hang)
    with pytest.raises(CannotCountError, match="it hung"):
        page_count.count_file(path, None, left)
    assert silent == [True]


@pytest.mark.parametrize("name", ["", "**/*"])
def test_a_folder_without_pictures_takes_its_turn_and_no_more(name: str, tmp_path: Path) -> None:
    """Before: the time was looked at where a page was found; six million texts had all others' turn for 213 s."""
    for number in range(9):
        (tmp_path / f"{number}.txt").touch()
    left = ScanTime(turn_s=1000.0)
    with limited_readers(left) as readers:
        left.end()
        with pytest.raises(TurnIsOverError):
            list(scan([str(tmp_path / name)], readers))
    looks = list[int]()
    list(list_folder(tmp_path, look=lambda: looks.append(1)))
    assert len(looks) == 9, "before they are sorted"
