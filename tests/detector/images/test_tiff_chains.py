"""Where a TIFF's pages are is read once a file, and again where the file may have changed."""

from __future__ import annotations

import io
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.errors import NotFound
from detector.images import header, tiff
from detector.images.page import count_pages, page_header
from tests.raw_tiff import Picture, raw_tiff


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Where the directories begin that are read; files are taken for settled at once."""
    places: list[int] = []
    directory = tiff.Reader.directory

    def noted(self: tiff.Reader, number: int, place: int, *more: object) -> tuple[tiff.Directory, int]:
        places.append(place)
        return directory(self, number, place, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(tiff.Reader, "directory", noted)
    monkeypatch.setattr(header, "SETTLED_S", -1e9)
    header._chains.clear()
    yield places
    header._chains.clear()


def widths(first: int, count: int) -> list[Picture]:
    return [Picture(first + number, 8) for number in range(count)]


def test_a_page_reads_its_own_directory_alone(tmp_path: Path, read: list[int]) -> None:
    """Before: each page read all of them, 0.8 s of 20,000."""
    (tmp_path / "a.tif").write_bytes(raw_tiff(widths(8, 50)))
    assert count_pages(tmp_path / "a.tif") == 50 and len(read) == 50
    for page in (3, 49, 0):
        read.clear()
        found = page_header(tmp_path / "a.tif", page)
        assert (found.width, read) == (8 + page, [found.place])
    with pytest.raises(NotFound, match="has 50 pages"):
        page_header(tmp_path / "a.tif", 50)


def test_thumbnails_in_between_are_passed_over(tmp_path: Path, read: list[int]) -> None:
    pictures = [Picture(8, 8, 1), Picture(80, 60), Picture(20, 20, 1), Picture(70, 70), Picture(80, 9, 1)]
    (tmp_path / "a.tif").write_bytes(raw_tiff(pictures))
    for _ in range(2):
        found = [page_header(tmp_path / "a.tif", page) for page in range(3)]
        assert [(page.width, page.directory) for page in found] == [(80, 1), (70, 3), (80, 4)]
    assert len(read) == 5 + 6


def test_another_file_of_the_name_is_read_again(tmp_path: Path, read: list[int]) -> None:
    path = tmp_path / "a.tif"
    for first in (8, 9):
        (tmp_path / "b.tif").write_bytes(raw_tiff(widths(first, 3)))
        os.utime(tmp_path / "b.tif", (1, 1))
        (tmp_path / "b.tif").replace(path)
        assert [page_header(path, page).width for page in range(3)] == [first, first + 1, first + 2]
    os.truncate(path, len(raw_tiff(widths(9, 2))))
    assert count_pages(path) == 2


def test_a_file_just_written_may_change_again(tmp_path: Path, read: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "SETTLED_S", 2.0)
    path = tmp_path / "a.tif"
    for pictures in ([Picture(8, 12), Picture(8, 8)], [Picture(12, 8), Picture(9, 7)]) * 3:
        path.write_bytes(raw_tiff(pictures))
        assert [page_header(path, page).width for page in range(2)] == [picture.width for picture in pictures]
    assert not header._chains


def test_what_is_no_file_is_read_each_time(read: list[int]) -> None:
    for first in (8, 9):
        assert page_header(raw_tiff(widths(first, 3)), 1).width == first + 1
    assert not header._chains


@pytest.mark.slow
def test_a_page_takes_twelve_bytes(tmp_path: Path) -> None:
    """Before: half a KB a directory, 85 MB for 50,000 in a worker's child."""
    data = io.BytesIO(raw_tiff([Picture(4, 2)] * 3000))
    tracemalloc.start()
    try:
        chain = tiff.read_chain(data)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(chain.places) == 3000 and held < 60_000 and peak < 600_000
