"""Names, paths and lines of lists of any length: what is too long is passed over and counted, and never held."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from producer.bounds import MOST_LINE_BYTES
from producer.job.manifest import (
    MOST_READ,
    LineTooLongError,
    ManifestError,
    ManifestIndex,
    ManifestLine,
    read_manifest,
    write_lines,
    write_manifest,
)
from producer.sources.found_page import FoundPage, Problem
from producer.sources.long_names import NotUtf8ListError, read_list, that_fit
from producer.sources.passed_over import LONG_LISTED, LONG_NAMED, PassedOver
from producer.sources.remote import scan_everything
from producer.sources.scan import scan
from tests.producer.records import IN_PROCESS

MIB = 1 << 20


def peak_mb(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
@pytest.mark.parametrize("block", [3, 1 << 16])
def test_a_list_with_a_line_of_any_length(separator: bytes, block: int) -> None:
    entries = [b"a.jpg", b"x" * 5000, b"b.jpg", b"y" * 4097, b"z" * 4096, b"", b"c" * 70_000]
    said: list[int] = []
    block = block if separator == b"\n" else max(block, 10)
    stream = io.BytesIO(separator.join(entries))
    assert list(read_list(stream, block, lambda: said.append(1))) == [b"a.jpg", b"b.jpg", b"z" * 4096]
    assert len(said) == 3


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_list_in_another_encoding_is_refused(encoding: str) -> None:
    """As Windows programs write it. Before: each character was a path, and `/` the whole disk."""
    with pytest.raises(NotUtf8ListError, match="iconv -f UTF-16"):
        next(read_list(io.BytesIO("wanted/a.jpg\r\n茶馆.jpg\r\n".encode(encoding))))


def test_a_list_that_windows_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UTF-8 with its mark at the start, lines that end with CR and LF, and empty ones. A name may end with CR."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg\r"):
        (tmp_path / name).touch()
    listed = io.BytesIO("\ufeffa.jpg\r\nb.jpg\r\nc.jpg\r\n\r\ngone.jpg\r\n\r\n\r".encode())
    pages = [page.image for page in scan(["-"], IN_PROCESS, stdin=listed)]
    assert pages == ["a.jpg", "b.jpg", "c.jpg\r", "gone.jpg"]
    assert [page.image for page in scan(["-"], IN_PROCESS, stdin=io.BytesIO(b"\r\0a.jpg\0"))] == ["\r", "a.jpg"]


def test_a_line_of_a_hundred_megabytes_is_not_held() -> None:
    """Before: 100 MB held, and copied for each 64 KB of them."""

    class Endless(io.RawIOBase):
        left = 100 * MIB

        def read(self, size: int = -1) -> bytes:
            if self.left <= 0:
                return b""
            self.left -= size
            return b"\na.jpg\n" if self.left <= 0 else b"x" * size

    passed = PassedOver()
    found: list[str] = []

    def look() -> None:
        found.extend(page.image for page in scan(["-"], IN_PROCESS, stdin=Endless(), passed=passed))  # type: ignore[arg-type]

    assert peak_mb(look) < 2 and found == ["a.jpg"] and passed.counts == {LONG_LISTED: 1}


@pytest.mark.slow
@pytest.mark.parametrize("line", [b"n" * 300, b"n/" * 2000 + b"a.jpg", b"a\0b.jpg", b"\xff" * 250 + b".png"])
def test_what_no_file_system_has_is_a_page_that_is_not_found(line: bytes) -> None:
    """A list of millions goes on; a worker says what is wrong with each."""
    pages = list(scan(["-"], IN_PROCESS, stdin=io.BytesIO(b"x.jpg\n" * 11_000 + line + b"\nb.jpg\n")))
    assert [page.image for page in pages[11_000:]][-1] == "b.jpg" and len(pages) == 11_002


def test_pages_whose_names_fill_a_line_are_passed_over() -> None:
    fits = FoundPage("é" * 1500, "file:///" + "%C3%A9" * 1400, 0)
    problem = Problem("CorruptImage", "\x01" * 100_000)
    pages = [
        fits,
        FoundPage("\x01" * 4096, "file:///" + "%01" * 4096, 0),
        FoundPage("a" * 900, "file:///a", 1, problem),
    ]
    passed, said = PassedOver(), list[str]()
    found = list(that_fit([*pages, pages[1]], passed, said.append))
    assert [len(page.image) for page in found] == [1500, 900] and passed.counts == {LONG_NAMED: 2} and len(said) == 1
    assert found[1].problem and len(found[1].problem.message) == 300
    lines = [ManifestLine(10**9, *msgspec.structs.astuple(page)[:4], 10**9, True) for page in found]
    assert max(len(msgspec.json.encode(line)) for line in lines) < MOST_LINE_BYTES


def test_a_deep_folder_of_odd_names(tmp_path: Path) -> None:
    """Control characters take six bytes each in a manifest, and three in an address."""
    folder = tmp_path
    for _ in range(9):
        folder /= "\x01" * 250
        folder.mkdir()
    (folder / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    passed = PassedOver()
    pages = scan_everything([str(tmp_path)], IN_PROCESS, exclude=None, passed=passed)
    assert write_manifest(pages, tmp_path / "m.jsonl") == 1 and passed.counts == {LONG_NAMED: 1}


def test_no_line_is_longer_than_who_takes_a_list_over_takes() -> None:
    with pytest.raises(LineTooLongError, match="too long"):
        write_lines(io.BytesIO(), [ManifestLine(0, "a" * MOST_LINE_BYTES, "file:///a", 0)])


@pytest.mark.slow
def test_long_lines_of_versions_before_take_no_memory(tmp_path: Path) -> None:
    """Before: eight blocks of 256 lines, each of up to 330 KB."""
    path = tmp_path / "m.jsonl"
    with path.open("wb") as stream:
        for number in range(600):
            stream.write(msgspec.json.encode(ManifestLine(number, "a" * 60_000, f"file:///{number}", 0)) + b"\n")

    def look() -> None:
        with ManifestIndex(path) as index:
            for number in (599, 0, 255, 256, 511, 512, 1):
                line = index.line(number)
                assert line and line.uri == f"file:///{number}"
            assert index.line(600) is None and index.is_paged(0, "a", 0) is False

    assert peak_mb(look) < 2


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_without_end_is_no_manifest(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"index":0,"image":"a","uri":"file:///a","page":0}\n' + b"x" * (MOST_READ + 5) + end)
    with pytest.raises(ManifestError, match="a line of more than"):
        list(read_manifest(path))
    with pytest.raises(ManifestError, match="a line of more than"):
        ManifestIndex(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.pdf", "a.zip", "a.tar.gz", "folder"])
def test_a_link_to_a_name_that_no_file_system_has(tmp_path: Path, name: str) -> None:
    """Before: "File name too long" ended the scan of the whole folder."""
    (tmp_path / name).symlink_to("n" * 300)
    (tmp_path / "z.jpg").touch()
    pages = list(scan([str(tmp_path)], IN_PROCESS))
    assert [page.image for page in pages][-1] == "z.jpg" and len(pages) <= 2


def test_a_named_link_to_a_long_name_is_a_page_like_others(tmp_path: Path) -> None:
    """`run in/*`, as a shell writes it out. Before: "File name too long", and none was done."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "b.png").symlink_to("x" * 300)
    for named in ([tmp_path / "b.png"], [tmp_path / "a.png", tmp_path / "b.png"]):
        assert [page.image for page in scan(map(str, named), IN_PROCESS)] == [path.name for path in named]
