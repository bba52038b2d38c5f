"""A job's files have one share of time together, and nobody's small zip waits for another's fifty slow ones."""

from __future__ import annotations

import os
import threading
import time
import zipfile
from pathlib import Path

import pytest

from producer.archive_process.limited_readers import limited_readers
from producer.sources import scan_time
from producer.sources.readers import Readers
from producer.sources.scan import FoundPage, scan
from producer.sources.scan_time import ScanTime, TurnIsOverError
from producer.web.bounds import scan_turns
from producer.web.bounds.scan_turns import ScanTurns
from tests.hostile import slow_tar_xz
from tests.producer.records import pdf

FIFTY = 50


@pytest.fixture(scope="module")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty archives, each of which takes hours to read."""
    folder = tmp_path_factory.mktemp("fifty")
    (folder / "00.tar.xz").write_bytes(slow_tar_xz())
    for number in range(1, FIFTY):
        os.link(folder / "00.tar.xz", folder / f"{number:02d}.tar.xz")
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds instead of minutes."""
    monkeypatch.setattr(scan_time, "SCAN_S", 0.8)
    monkeypatch.setattr(scan_time, "SCAN_S_PER_MIB", 0.0)
    monkeypatch.setattr(scan_time, "SCAN_S_PER_FILE", 0.01)
    monkeypatch.setattr(scan_turns, "SHORT_S", 1.5)


def small_zip(folder: Path) -> Path:
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w") as bundle:
        bundle.writestr("a.png", b"")
    return folder


@pytest.mark.slow
def test_fifty_archives_have_the_time_of_a_job(short: None, fifty: Path, tmp_path: Path) -> None:
    """Before: a minute without progress each, fifty minutes."""
    began = time.monotonic()
    with limited_readers() as readers:
        found = list(scan([str(fifty)], readers))
    assert time.monotonic() - began < 20, "on a busy machine, too"
    assert len(found) == FIFTY and all(page.problem and page.problem.type == "CorruptImage" for page in found)
    assert all("in a job of its own, or unpack it first" in page.problem.message for page in found if page.problem)
    with limited_readers() as readers:
        assert [page.problem for page in scan([str(small_zip(tmp_path / "small"))], readers)] == [None]


@pytest.mark.slow
def test_files_beside_archives_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (tmp_path / f"{number}.pdf").write_bytes(pdf(2))
    monkeypatch.setattr(scan_time, "SCAN_S_PER_FILE", 0.0)
    monkeypatch.setattr(scan_time, "SCAN_S_PER_MIB", 0.0)
    monkeypatch.setattr(scan_time, "SCAN_S", 1e-4)
    warned: list[str] = []
    with limited_readers() as readers:
        pages = list(scan([str(tmp_path)], readers, warn=warned.append))
    assert len(pages) == 2 + 3 and len(warned) == 3, "the first was counted before anybody knew"
    assert all("its worker counts them" in line for line in warned)


@pytest.mark.slow
def test_a_small_zip_waits_for_one_short_turn(
    short: None, fifty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: until all fifty were done with."""
    monkeypatch.setattr(scan_time, "SCAN_S", 2.0)
    turns = ScanTurns()
    found: dict[str, list[FoundPage]] = {}
    times: dict[str, float] = {}
    begun = threading.Event()
    began = time.monotonic()

    def run(name: str, folder: Path) -> None:
        def look(readers: Readers, left: ScanTime) -> int:
            begun.set()
            found[name] = []
            for page in scan([str(folder)], readers):
                left.check_turn()
                found[name].append(page)
            return len(found[name])

        assert turns.run(look, quick=False, look_up=lambda: None) == len(found[name])
        times[name] = time.monotonic() - began

    slow = threading.Thread(target=run, args=("slow", fifty))
    slow.start()
    assert begun.wait(5)
    run("small", small_zip(tmp_path / "small"))
    slow.join()
    assert len(found["small"]) == 1 and times["small"] < times["slow"]
    assert len(found["slow"]) == FIFTY and all(page.problem for page in found["slow"]), (
        "from the beginning, in its turn"
    )


def test_who_waits_may_be_called_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_turns, "LOOK_S", 0.01)
    turns = ScanTurns()
    turns._short.acquire()

    def look_up() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        turns.run(lambda readers, left: 0, quick=False, look_up=look_up)
    assert turns.run(lambda readers, left: 7, quick=True, look_up=look_up) == 7


def test_a_turn_ends_however_little_was_left() -> None:
    left = ScanTime(turn_s=1000.0)
    assert 999 > left.left_s() > 500 and left.counting_s() == 300
    left.use_up()  # of the two the turn is longer here
    assert left.left_s() == 0
    left.check_turn()
    turn = ScanTime(turn_s=5.0)
    turn.use_up()
    with pytest.raises(TurnIsOverError):
        turn.check_turn()
