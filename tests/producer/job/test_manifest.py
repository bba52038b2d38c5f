"""A manifest is complete or absent, and costs no memory to read."""

from __future__ import annotations

import timeit
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


def test_added_pages_are_found_as_fast_however_many_there_are() -> None:
    """Before: all those of earlier files were stepped over, for each page of an export."""
    added, count = AddedPages(), 20_000
    for number in range(count):
        added.put(ManifestLine(count + number, "a.pdf", "file:///a.pdf", 1, None, number))
    first, last = (min(timeit.repeat(lambda at=at: list(added.to(at)), number=20)) for at in (0, count - 1))
    assert list(added.to(count - 1)) == [2 * count - 1]
    assert last < 20 * first
