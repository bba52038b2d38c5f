"""The process that takes pages out of PDFs keeps one open; neither its state nor its limits depend on earlier pages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from msgspec.structs import replace
from pypdf import PdfReader

from producer.detector_process import pdf_pages, turn_process
from producer.detector_process.pdf_pages import PageWanted, PdfPages
from producer.detector_process.turn_process import AtWorkError
from producer.sources.single_page import alone, open_pdf
from tests.hostile import packed_tree_pdf
from tests.processes import wait_until
from tests.producer.records import pdf
from tests.producer.sources.test_page_tree import flat_pdf
from tests.producer.test_member_process import processes


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that a PDF is opened."""
    times: list[int] = []

    def noted(stream: Any) -> Any:
        times.append(1)
        return open_pdf(stream)

    monkeypatch.setattr(pdf_pages, "open_pdf", noted)
    monkeypatch.setattr(pdf_pages.gc, "collect", lambda: 0)  # of all that pytest holds: half a second each time
    return times


def wanted(folder: Path, page: int) -> PageWanted:
    return PageWanted(quote(os.fsencode(folder / "a.pdf")), page, quote(os.fsencode(folder / "page.pdf")))


def taken(taker: pdf_pages._Taker, folder: Path, page: int) -> bool:
    """Whether it is this page of `flat_pdf`."""
    answer = taker.take(wanted(folder, page))
    return answer.ok and b"0, 0, %d, 9" % (10 + page) in (folder / "page.pdf").read_bytes().replace(b" ", b", ")


def test_it_is_opened_once(tmp_path: Path, opened: list[int]) -> None:
    (tmp_path / "a.pdf").write_bytes(flat_pdf(9))
    taker = pdf_pages._Taker()
    assert all(taken(taker, tmp_path, page) for page in (0, 1, 8, 7, 0)) and len(opened) == 1


def test_another_pdf_of_the_same_inode_size_and_time_is_opened(
    tmp_path: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies of members are written in place, and times may be of two seconds. Before: 59 of 60 pages were the first
    PDF's."""
    monkeypatch.setattr(pdf_pages, "facts_of", lambda status: ())
    taker = pdf_pages._Taker()
    for number, which in enumerate(({"copy": 1}, {"copy": 2}, {"copy": 2, "whose": "b"}, {"copy": 2, "whose": "b"})):
        width = 11 + 10 * min(number, 2)
        (tmp_path / "a.pdf").write_bytes(flat_pdf(3).replace(b"0 0 11 9", b"0 0 %d 9" % width))
        assert taker.take(replace(wanted(tmp_path, 1), **which)).ok
        assert PdfReader(tmp_path / "page.pdf").pages[0].mediabox.width == width
    assert len(opened) == 3


def test_a_page_that_fails_is_tried_on_one_opened_anew(
    tmp_path: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.pdf").write_bytes(flat_pdf(9))
    taker, readers = pdf_pages._Taker(), []

    def worn_out(reader: Any, page: Any) -> Any:
        readers.append(id(reader))
        if len(readers) in (2, 4, 5):
            raise MemoryError
        return alone(reader, page)

    monkeypatch.setattr(pdf_pages, "alone", worn_out)
    assert taken(taker, tmp_path, 3) and taken(taker, tmp_path, 4)
    assert not taken(taker, tmp_path, 5)
    assert taken(taker, tmp_path, 6) and len(opened) == 4 and len(readers) == 6


def test_what_grew_is_opened_anew(tmp_path: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf_pages, "GROWN_BYTES", -(1 << 40))
    (tmp_path / "a.pdf").write_bytes(flat_pdf(9))
    taker = pdf_pages._Taker()
    assert all(taken(taker, tmp_path, page) for page in (2, 3, 1)) and len(opened) == 3


def test_the_process_ends_itself_over_a_page() -> None:
    late = "import time\nfrom producer.detector_process.pdf_pages import _within\nwith _within(0.1): time.sleep(9)"
    assert subprocess.run([sys.executable, "-c", late], check=False).returncode == -signal.SIGALRM


class Asked:
    """A process that answers without being there: each page took so many seconds, of which none is the test's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pages, self.answer, self.timeouts = PdfPages(), b"", list[float]()
        monkeypatch.setattr(
            self.pages._process.child, "begin", lambda question, timeout_s: self.timeouts.append(timeout_s)
        )
        # In the place of the file that it writes.
        monkeypatch.setattr(pdf_pages, "_bytes_of", lambda out: 1 << 20)
        monkeypatch.setattr(self.pages._process.child, "answer", lambda wait_s: self.answer)

    def of(self, path: Path, pages: int, seconds: float, *, ok: bool = False, **kind: Any) -> int:
        """How many of so many pages it is asked for."""
        self.answer = b'{"ok":%s,"seconds":%f}\n' % (b"true" if ok else b"false", seconds)
        before, out = len(self.timeouts), path.parent / "page.pdf"
        for page in range(pages):
            self.pages.take(path, page, out, **kind)
        return len(self.timeouts) - before


def test_a_pdf_has_a_minute_for_its_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 20 s and more for each of them; 1 KB of 123 pages held up what was behind it for 16 minutes."""
    asked = Asked(monkeypatch)
    assert asked.of(tmp_path / "a.pdf", 100, 8.0) == 8, "neither what fails"
    assert asked.of(tmp_path / "b.pdf", 100, 8.0, ok=True) == 8, "nor what does not, but is slow"
    assert asked.of(tmp_path / "c.pdf", 500, 0.15, ok=True) == 500, "which is not this"
    (tmp_path / "d.pdf").write_bytes(bytes(10 << 20))
    assert asked.of(tmp_path / "d.pdf", 100, 8.0) == 10, "two seconds for each MiB of it"
    for number in range(100):  # a member's copy is made anew for each page
        (tmp_path / "member.pdf").write_bytes(bytes(number << 10))
        assert asked.of(tmp_path / "member.pdf", 1, 8.0, whose="zip+file:///a.zip#a.pdf") == (number < 8)


def test_all_pdfs_of_a_job_have_ten_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: those that stayed below their minute had one each: 1,000 of 0.5 KB held up others for 14 hours."""
    asked, many = Asked(monkeypatch), range(1000)
    assert all(asked.of(tmp_path / f"{n}.pdf", 50, 0.15, ok=True) == 50 for n in many), (
        "honest ones bring what they take"
    )
    slow_s = [8.3 * asked.of(tmp_path / f"slow-{n}.pdf", 6, 8.3) for n in many]
    assert max(slow_s) < pdf_pages.FILE_S and pdf_pages.JOB_S - 10 < sum(slow_s) < pdf_pages.JOB_S + 10
    assert asked.of(tmp_path / "small.pdf", 9, 0.01, ok=True) == 0, "these travel whole"
    (tmp_path / "large.pdf").write_bytes(bytes(10 << 20))
    assert asked.of(tmp_path / "large.pdf", 100, 8.0) == 3, "what it brings is its own"
    assert asked.of(tmp_path / "small.pdf", 9, 0.01, ok=True) == 0
    # Before, each page of such a one failed (`TooLarge`), for what the others had used up.
    for member in ("zip+file:///a.zip#a.pdf", "zip+file:///a.zip#b.pdf"):
        assert asked.of(tmp_path / "a.pdf", 500, 0.15, ok=True, whose=member, travels_whole=False) == 500
    assert asked.of(tmp_path / "a.pdf", 9, 4.0, whose="zip+file:///b.zip#a.pdf", travels_whole=False) == 2
    assert asked.of(tmp_path / "large.pdf", 100, 8.0) == 3, "nor is it less for that"


def test_what_was_ended_for_another_job_has_used_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: it was counted nowhere, and asked again the page had its whole minute."""
    asked = Asked(monkeypatch)
    process, used = asked.pages._process, iter([3.0, 43.0, 0.0, 0.0])
    monkeypatch.setattr(process.child, "cpu_s", lambda: next(used))
    monkeypatch.setattr(process.child, "answer", lambda wait_s: None)
    with pytest.raises(AtWorkError):
        asked.pages.take(tmp_path / "a.pdf", 0, tmp_path / "page.pdf")
    process.end()
    with pytest.raises(AtWorkError):
        asked.pages.take(tmp_path / "a.pdf", 0, tmp_path / "page.pdf")
    assert asked.timeouts == [60.0, 20.0]
    asked.pages.close()


def test_a_job_that_waits_for_its_turn_at_the_feeder_is_not_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: of 16 jobs, which each came after 8 s, more than half of the processes were ended at work."""
    now = [0.0]
    monkeypatch.setattr(turn_process.time, "monotonic", lambda: now[0])
    turns, jobs, ended = turn_process.Turns(), [], []
    for number in range(20):
        job = turn_process.TurnProcess[PageWanted]("none", turns)
        job.asked = PageWanted("a", 0, "b")
        monkeypatch.setattr(job, "end", partial(ended.append, number))
        jobs.append(job)
    for _ in range(5):
        for job in jobs:
            turns.enter(job)
            turns.take(job)
            now[0] += turn_process.ROUND_S
            turns.rest(job)
    assert turns._having == jobs[: turn_process.AT_ONCE] and turns._waiting == jobs[turn_process.AT_ONCE :]
    now[0] += turn_process.ABANDONED_S + turn_process.ROUND_S * len(jobs)
    turns.enter(jobs[4])
    assert turns.take(jobs[4]) and ended == [0], "whose job comes no more is"


@pytest.mark.slow
def test_the_answer_about_a_page_that_was_given_up_is_no_other_pdfs(tmp_path: Path) -> None:
    """Copies of members and objects have one name. Before: the next PDF's page was "ok" with the boxes of that page."""
    copy, out = tmp_path / "member.pdf", tmp_path / "page.pdf"
    copy.write_bytes(flat_pdf(3))
    with closing(PdfPages()) as pages:
        with pytest.raises(AtWorkError):
            pages.take(copy, 1, out, 0.0, whose="s3://theirs/a.pdf")
        wait_until(out.exists, seconds=30, what="the page of the first")
        copy.write_bytes(pdf(3))
        assert pages.take(copy, 1, out, whose="s3://ours/b.pdf")
        assert PdfReader(out).pages[0].mediabox.width == 100


@pytest.mark.slow
def test_a_few_processes_for_all_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: one for each job that sends a PDF, of up to 320 MiB."""
    monkeypatch.setattr(turn_process, "HOLD_S", 0.1)
    (tmp_path / "a.pdf").write_bytes(flat_pdf(9))
    with ExitStack() as stack:
        jobs = [stack.enter_context(closing(PdfPages())) for _ in range(turn_process.AT_ONCE + 3)]
        for page in range(2):
            for number, job in enumerate(jobs):
                out = tmp_path / f"{number}.pdf"
                assert job.take(tmp_path / "a.pdf", page, out) and out.stat().st_size
                assert 0 < len(processes("producer.detector_process.pdf_pages")) <= turn_process.AT_ONCE
    assert not pdf_pages._turns._having and not pdf_pages._turns._waiting


def test_a_process_that_is_lost_over_a_pdf_is_not_started_for_each_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, now = Asked(monkeypatch), [0.0]
    monkeypatch.setattr(pdf_pages.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(asked.pages._process.child, "answer", lambda wait_s: now.__setitem__(0, now[0] + 300) or b"")
    assert not any(asked.pages.take(tmp_path / "a.pdf", page, tmp_path / "page.pdf") for page in range(9))
    assert asked.timeouts == [60.0, 40.0, 20.0]


@pytest.mark.slow
def test_a_pdf_that_is_slow_by_itself_uses_up_its_time(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(packed_tree_pdf(300_000, [3] * 9))
    (tmp_path / "b.pdf").write_bytes(flat_pdf(9))
    with closing(PdfPages()) as pages:
        left = []
        for name in ("a.pdf", "b.pdf"):
            assert pages.take(tmp_path / name, 0, tmp_path / "page.pdf")
            left.append(pages._time._left_s)
        assert left[0] < pdf_pages.FILE_S - 0.1 <= left[1]
        pages._time._left_s = 0.0
        assert not pages.take(tmp_path / "b.pdf", 1, tmp_path / "page.pdf")
        assert not (tmp_path / "page.pdf").exists()
