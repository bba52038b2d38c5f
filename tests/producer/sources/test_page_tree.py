"""Pages are found in the page tree one after the other, and no page finds another in a state that it was left in."""

from __future__ import annotations

import io
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from producer.detector_process.pdf_pages import PdfPages
from producer.sources.page_tree import PageTree
from producer.sources.single_page import open_pdf
from tests.faulty import drawn_pdf
from tests.producer.sources.test_page_bounds import written_pdf
from tests.producer.sources.test_single_page import DOCUMENTS, cut, cut_next, page, printed

ROOT = b"<</Type/Catalog/Pages 2 0 R>>"


def bare(parent: int, width: int) -> bytes:
    return b"<</Type/Page/Parent %d 0 R/MediaBox[0 0 %d 9]>>" % (parent, width)


def flat_pdf(pages: int) -> bytes:
    """Its pages are 10, 11, 12... wide."""
    kids = b" ".join(b"%d 0 R" % (3 + number) for number in range(pages))
    tree = b"<</Type/Pages/Count %d/Kids[%s]>>" % (pages, kids)
    return written_pdf(ROOT, tree, *(bare(2, 10 + number) for number in range(pages)))


def widths(data: bytes, numbers: list[int]) -> list[int | None]:
    reader, tree = open_pdf(io.BytesIO(data)), PageTree()
    places = [tree.find(reader, number) for number in numbers]
    found: list[Any] = [place.get_object() if place else None for place in places]
    return [page and int(page["/MediaBox"][2]) for page in found]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_page_is_the_same_whatever_was_taken_before(name: str) -> None:
    data = DOCUMENTS[name]
    reader, tree = open_pdf(io.BytesIO(data)), PageTree()
    for number in (0, 1, 0, 1, 1):
        assert cut_next(reader, tree, number) == cut(data, number)


def test_nodes_that_a_page_has_for_annotations_stay_what_they_are() -> None:
    """What leads elsewhere is taken out of annotations; here they are the nodes above the second page."""
    nodes = (
        b"<</Type/Pages/Count 2/Kids[3 0 R]/MediaBox[0 0 600 600]>>",
        b"<</Type/Pages/Parent 2 0 R/Count 2/Kids[%s]>>",
    )
    data = written_pdf(
        ROOT, nodes[0], nodes[1] % b"4 0 R 5 0 R", page(6, b"/Annots[2 0 R 3 0 R]").replace(b"2 0 R/M", b"3 0 R/M"),
        b"<</Type/Page/Parent 3 0 R/Contents 6 0 R>>", printed(1),
    )  # fmt: skip
    reader, tree = open_pdf(io.BytesIO(data)), PageTree()
    alone = cut(data, 1)
    assert alone and b"600" in alone
    for number in (0, 1, 0, 1):
        assert cut_next(reader, tree, number) == cut(data, number)
    assert cut_next(reader, tree, 1) == alone


def test_any_order_and_any_shape() -> None:
    assert widths(flat_pdf(30), [3, 29, 0, 4]) == [13, 39, 10, 14]
    deep = written_pdf(
        ROOT, b"<</Type/Pages/Count 3/Kids[3 0 R 6 0 R 4 0 R]>>", b"<</Type/Pages/Count 1/Kids[5 0 R]>>",
        bare(2, 30), bare(3, 10), b"<</Kids[7 0 R 8 0 R]/Count 1>>", b"<</Type/Pages/Kids[]/Count 0>>", bare(6, 20),
    )  # fmt: skip
    assert widths(deep, [2, 0, 1, 2]) == [30, 10, 20, 30]


@pytest.mark.parametrize(
    "kids", [b"3 0 R null 4 0 R", b"3 0 R 2 0 R", b"3 0 R 1 0 R 4 0 R", b"3 0 R 99 0 R 4 0 R", b"3 0 R 7 4 0 R"]
)
def test_up_to_what_is_odd(kids: bytes) -> None:
    """What comes before goes by the number that pdfium has for it, too; more is for pypdf to say, if it is sure."""
    tree = b"<</Type/Pages/Count 3/Kids[%s]>>" % kids
    data = written_pdf(ROOT, tree, bare(2, 10), bare(2, 11))
    assert widths(data, [0, 1, 2, 0]) == [10, None, None, 10]


@pytest.mark.parametrize("count", [b"0", b"null", b"(2)", b"-2"])
def test_a_count_that_is_none(count: bytes) -> None:
    assert widths(flat_pdf(2).replace(b"/Count 2", b"/Count " + count), [0, 1]) == [None, None]


def test_a_tree_without_end_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each node lists the next one twice: a billion empty nodes. All that may be looked at take 10 s."""
    monkeypatch.setattr("producer.sources.page_tree.MOST_ENTRIES", 3000)
    nodes = (b"<</Type/Pages/Count 5/Kids[%d 0 R %d 0 R]>>" % (3 + level, 3 + level) for level in range(29))
    data = written_pdf(ROOT, *nodes, b"<</Type/Pages/Count 0/Kids[]>>")
    began = time.process_time()
    assert widths(data, [0]) == [None]
    assert time.process_time() - began < 2


def test_a_walk_holds_no_page() -> None:
    data = drawn_pdf(1500, streams=True, depth=3)
    reader, tree = open_pdf(io.BytesIO(data)), PageTree()
    assert tree.find(reader, 1499)
    assert len(reader.resolved_objects) <= 4


@pytest.mark.slow
def test_a_page_costs_the_same_whatever_the_number_of_pages(tmp_path: Path) -> None:
    """Before: of 20,000 pages each took 2.4 s, of 100,000 none could be taken out."""
    out, taken = tmp_path / "page.pdf", {}
    for pages in (100, 2000):
        (tmp_path / "a.pdf").write_bytes(flat_pdf(pages))
        with closing(PdfPages()) as process:
            assert process.take(tmp_path / "a.pdf", pages // 2, out)
            assert process._process.child.process
            began = cpu_s(process._process.child.process.pid)
            for number in range(pages // 2, pages // 2 + 40):
                assert process.take(tmp_path / "a.pdf", number, out)
            taken[pages] = cpu_s(process._process.child.process.pid) - began
    assert taken[2000] < 3 * taken[100] + 0.2


def cpu_s(pid: int) -> float:
    """Of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


@pytest.mark.slow
def test_a_file_that_was_written_anew_is_opened_again(tmp_path: Path) -> None:
    path, out = tmp_path / "a.pdf", tmp_path / "page.pdf"
    with closing(PdfPages()) as process:
        for pages in (2, 3):
            path.write_bytes(flat_pdf(pages))
            assert process.take(path, pages - 1, out)
            assert b"%d" % (9 + pages) in out.read_bytes()
        assert not process.take(path, 3, out) and process.take(path, 1, out)
