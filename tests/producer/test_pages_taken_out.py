"""The process that takes pages out of PDFs keeps one open; neither its state nor its limits depend on earlier pages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from producer.detector_process import pdf_pages
from producer.detector_process.pdf_pages import PageWanted, PdfPages
from producer.sources.single_page import alone, open_pdf
from tests.producer.sources.test_page_tree import flat_pdf


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


def test_time_for_the_way_to_a_page_is_short_after_two_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, given = [b"", b"", b"", b'{"ok":true}\n', b"", b""], []
    pages = PdfPages()
    monkeypatch.setattr(pages._child, "begin", lambda question, timeout_s: given.append(timeout_s))
    monkeypatch.setattr(pages._child, "answer", lambda wait_s: answers.pop(0))
    for name in ["a.pdf"] * 5 + ["b.pdf"]:
        pages.take(tmp_path / name, 0, tmp_path / "page.pdf")
    short, long = pdf_pages.PAGE_TIMEOUT_S, pdf_pages.PAGE_TIMEOUT_S + pdf_pages.FIND_TIMEOUT_S
    assert given == [long, long, short, short, long, long]
