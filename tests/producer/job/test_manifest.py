"""A manifest is complete or absent, and costs no memory to read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.job.manifest import (
    AddedPages,
    ManifestError,
    ManifestIndex,
    ManifestLine,
    count_manifest,
    read_manifest,
    write_manifest,
)
from producer.sources.scan import FoundPage


def pages(count: int) -> Iterator[FoundPage]:
    return (FoundPage(f"a\n{number} 茶.jpg", f"file:///{number}", number % 3) for number in range(count))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "manifest.jsonl"
    told: list[int] = []
    assert write_manifest(pages(2500), path, told.append) == 2500
    assert told == [1000, 2000, 2500]
    assert count_manifest(path) == 2500
    lines = list(read_manifest(path))
    assert [line.index for line in lines] == list(range(2500))
    assert lines[7] == ManifestLine(7, "a\n7 茶.jpg", "file:///7", 1)
    assert list(read_manifest(path, start=2498)) == lines[2498:]
    assert list(read_manifest(path, start=9999)) == []


def test_an_interrupted_scan_leaves_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"

    def interrupted() -> Iterator[FoundPage]:
        yield from pages(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(interrupted(), path)
    assert not path.exists()
    assert write_manifest(pages(2), path) == 2
    assert [child.name for child in tmp_path.iterdir()] == ["manifest.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"), [((b'"index":1,', b'"index":5,'), "holds index 5, not 1"), ((b"a\\n1", b"\xff"), "not a")]
)
def test_damage_is_named_by_its_line(tmp_path: Path, change: tuple[bytes, bytes], message: str) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(pages(3), path)
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(ManifestError, match=rf"manifest\.jsonl:2: {message}"):
        list(read_manifest(path))


def test_single_lines_of_a_long_manifest(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    write_manifest(pages(5000), path)
    with ManifestIndex(path) as index:
        for number in (4999, 0, 255, 256, 2560, 1, 4095, 3000, 700, 1400, 2100, 2101):
            line = index.line(number)
            assert line is not None and line.uri == f"file:///{number}"
        assert index.line(5000) is None and index.line(-1) is None
        assert len(index._blocks) <= index.KEPT


def test_which_files_have_more_pages(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    found = [("a.tif", 0), ("b.tif", 0), ("b.tif", 1), ("c.pdf", 0), ("c.tif", 0)]
    write_manifest((FoundPage(image, "file:///x", page) for image, page in found), path)
    with ManifestIndex(path) as index:
        assert [index.is_paged(number, *page) for number, page in enumerate(found)] == [False, True, True, True, False]


@pytest.mark.parametrize("last_first", [False, True])
def test_pages_that_were_found_later_cost_by_the_page(last_first: bool) -> None:
    """Before: a look for a file's stepped over those of all files before it: 7 s here, hours for a million."""
    count, added = 20_000, AddedPages()
    begun = time.process_time()
    files = range(count - 1, -1, -1) if last_first else range(count)
    for found, first in enumerate(files):
        added.put(ManifestLine(count + found, "a.pdf", "file:///a.pdf", 1, of=first))
    for found, first in enumerate(files):
        assert list(added.to(first)) == [count + found]
    assert not list(added.to(count)) and count in added and count - 1 not in added
    assert time.process_time() - begun < 2


def test_lists_that_count_down_cost_by_the_page(tmp_path: Path) -> None:
    """Before: each page was put before all others, 4 s here, and four times that for twice as many."""
    count, path, added = 200_000, tmp_path / "manifest.jsonl", AddedPages()
    lines = [ManifestLine(index, "a.pdf", "", 1, of=0) for index in range(count, 0, -1)]
    begun = time.process_time()
    for line in lines:
        added.put(line)
    assert list(added.to(0)) == list(range(1, count + 1))
    assert time.process_time() - begun < 1.5
    with path.open("w") as stream:
        for index in (0, 5, 4, 3, 4, 5):  # lines that say another index are none of ours
            stream.write(f'{{"index":{index},"image":"a","uri":"","page":1,"of":{0 if index else -1}}}\n')
    with ManifestIndex(path) as manifest:
        assert manifest.count == 6 and list(manifest.added.to(0)) == [3, 4, 5]


def test_pages_of_a_file_that_were_found_later_are_in_order() -> None:
    """Whatever was put in between; files 7 and 1028 lie on one shelf."""
    added = AddedPages()
    for index, first in ((2000, 1028), (2001, 7), (2002, 8), (2003, 1028), (2004, 7), (2005, 2006), (2006, -1)):
        added.put(ManifestLine(index, "a.pdf", "file:///a.pdf", 1, of=first))
    assert [list(added.to(first)) for first in (7, 8, 1028, 6, 2006)] == [[2001, 2004], [2002], [2000, 2003], [], []]
