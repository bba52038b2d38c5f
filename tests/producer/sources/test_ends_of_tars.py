"""A tar that ends where it should not is said to, and one that was compressed in pieces is read to its end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.archive_process.limited_readers import limited_readers
from producer.sources.archive import BrokenArchiveError, members
from producer.sources.scan import scan
from worker.storage.archive_errors import zstd
from worker.storage.files import Storage

COUNT = 8
CONTENT = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9
PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": gzip.compress,
    "tar.bz2": bz2.compress,
    "tar.xz": lzma.compress,
}


def packed(length: int = len(CONTENT)) -> tuple[bytearray, list[int]]:
    """A tar of eight pictures, and where their headers are."""
    buffer, headers = io.BytesIO(), []
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(COUNT):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = length
            headers.append(tar.offset)
            tar.addfile(info, io.BytesIO(CONTENT))
    return bytearray(buffer.getvalue()), headers


TAR, HEADERS = packed()
FOURTH = HEADERS[3]


def spoilt(begin: int, data: bytes) -> bytes:
    return bytes(TAR[:begin] + data + TAR[begin + len(data) :])


SPOILT = {
    "check sum": spoilt(FOURTH + 150, bytes([TAR[FOURTH + 150] ^ 1])),
    "size": spoilt(FOURTH + 124, b"xxxxxxxxxxx\0"),
    "junk": spoilt(FOURTH, b"\1" * 512),
    "header of zeros": spoilt(FOURTH, bytes(512)),
    "hole": spoilt(FOURTH, bytes(1536)),
    "cut before a header": bytes(TAR[:FOURTH]),
    "cut in a header": bytes(TAR[: FOURTH + 100]),
}


def listed(path: Path) -> tuple[list[str], list[str]]:
    """The addresses of its pages, and what was said of it."""
    with limited_readers() as readers:
        pages = list(scan([str(path)], readers))
    return [page.uri for page in pages if not page.problem], [page.problem.message for page in pages if page.problem]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("fault", SPOILT)
def test_what_is_spoilt_is_said(tmp_path: Path, suffix: str, fault: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(PACK[suffix](SPOILT[fault]))
    pages, said = listed(path)
    assert len(pages) == 3
    assert len(said) == 1 and "cannot be read to its end (after 3 members" in said[0]
    storage = Storage((), tmp_path / "spool")
    for uri in [*pages, *reversed(pages), *(uri.replace("?member=", "?other=") for uri in pages)]:
        with storage.open(uri) as copy:
            assert copy.read_bytes() == CONTENT, uri


@pytest.mark.slow
@pytest.mark.parametrize("suffix", list(PACK)[1:])
def test_compressed_in_two_pieces(tmp_path: Path, suffix: str) -> None:
    """As bgzip, pigz -i and `cat a.gz b.gz` do it."""
    path = tmp_path / f"a.{suffix}"
    middle = HEADERS[4] + 700
    path.write_bytes(PACK[suffix](bytes(TAR[:middle])) + PACK[suffix](bytes(TAR[middle:])))
    pages, said = listed(path)
    assert len(pages) == COUNT and not said
    with Storage((), tmp_path / "spool").open(pages[-1]) as copy:
        assert copy.read_bytes() == CONTENT


@pytest.mark.slow
@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("padding", [0, 512, 1 << 20])
def test_zeros_end_a_tar(tmp_path: Path, suffix: str, padding: int) -> None:
    path = tmp_path / f"a.{suffix}"
    last = HEADERS[-1] + 512 + -(-len(CONTENT) // 512) * 512
    path.write_bytes(PACK[suffix](bytes(TAR[:last]) + bytes(512 + padding)))
    pages, said = listed(path)
    assert len(pages) == COUNT and not said


@pytest.mark.parametrize("name", ["BZhang/1.png", "]", "\x1f\x8b.png", "(\xb5/\xfd.png"])
def test_a_name_that_begins_as_compressed_data_does(tmp_path: Path, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", encoding="latin-1") as tar:
        for member in (name, "2.png"):
            info = tarfile.TarInfo(member)
            info.size = len(CONTENT)
            tar.addfile(info, io.BytesIO(CONTENT))
    (tmp_path / "a.tar").write_bytes(buffer.getvalue())
    pages, said = listed(tmp_path / "a.tar")
    assert len(pages) == (1 if name == "]" else 2) and not said  # "]" has no suffix of a picture
    with Storage((), tmp_path / "spool").open(pages[-1]) as copy:
        assert copy.read_bytes() == CONTENT


def test_two_tars_in_one(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(TAR + TAR)
    pages, said = listed(tmp_path / "a.tar")
    assert len(pages) == COUNT
    assert len(said) == 1 and "tar -i" in said[0]


def stored(behind: int = 0) -> bytes:
    """A .tar.gz whose data are stored as they are, as gzip does with a JPEG: a spoilt byte is no error of Deflate."""
    return gzip.compress(bytes(TAR) + bytes(behind), compresslevel=0)


def listed_here(path: Path) -> tuple[int, str]:
    """How many members it has, and what was said of it; without a process of its own."""
    count = 0
    try:
        for _ in members(path, "tar"):
            count += 1
    except BrokenArchiveError as error:
        return count, str(error)
    return count, ""


@pytest.mark.parametrize("behind", [0, 3 * 512, pytest.param(17 << 20, marks=pytest.mark.slow)])
def test_a_wrong_check_sum_is_said(tmp_path: Path, behind: int) -> None:
    """Before: each page was "ok", one of other bytes, and nothing was said. Above 16 MiB the sum was not reached."""
    sound = stored(behind)
    data = bytearray(sound)
    data[FOURTH + 1000] ^= 1
    path = tmp_path / "a.tar.gz"
    path.write_bytes(data)
    count, said = listed_here(path)
    assert count == COUNT and "its check sum is wrong: any page of it may be garbled" in said
    path.write_bytes(sound)
    assert listed_here(path) == (COUNT, "")


@pytest.mark.parametrize("missing", [1, 8])
def test_a_check_sum_that_is_missing_is_said(tmp_path: Path, missing: int) -> None:
    (tmp_path / "a.tar.gz").write_bytes(stored()[:-missing])
    count, said = listed_here(tmp_path / "a.tar.gz")
    assert count == COUNT and "cut off before its check sum" in said


JUNK = (bytes(4), bytes(12_345), b"x", b"\x1f", b"\xff" * 700, b"signature " * 2000)
SHORT = bytes(TAR[: HEADERS[-1] + 3072] + bytes(1024))
"""Not padded to 10 KiB: as Go's, Node's and bsdtar's are."""


def all_packers() -> dict[str, Callable[[bytes], bytes]]:
    return {**PACK, "tar.zst": zstd.compress} if zstd else PACK


@pytest.mark.parametrize("suffix", list(all_packers())[1:])
@pytest.mark.parametrize("tar", [bytes(TAR), SHORT], ids=["padded", "short"])
def test_what_lies_behind_the_compressed_data_is_no_part_of_it(tmp_path: Path, suffix: str, tar: bytes) -> None:
    """Before: pages in the last 10 KiB were not listed, where a tar was not padded; Zstandard's was an error."""
    path = tmp_path / f"a.{suffix}"
    for junk in JUNK:
        path.write_bytes(all_packers()[suffix](tar) + junk)
        assert listed_here(path) == (COUNT, ""), junk[:9]


@pytest.mark.parametrize("spoilt", [1, 8])
def test_a_wrong_check_sum_costs_no_page(tmp_path: Path, spoilt: int) -> None:
    """Before: of a tar that is not padded, those in its last 10 KiB."""
    data = bytearray(gzip.compress(SHORT))
    data[-spoilt] ^= 1
    (tmp_path / "a.tar.gz").write_bytes(data)
    count, said = listed_here(tmp_path / "a.tar.gz")
    assert count == COUNT and "its check sum is wrong" in said


@pytest.mark.parametrize("suffix", list(all_packers())[1:])
def test_a_second_tar_before_junk_is_said(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(all_packers()[suffix](SHORT + SHORT) + bytes(4))
    count, said = listed_here(tmp_path / f"a.{suffix}")
    assert count == COUNT and "tar -i" in said


def test_a_long_tar_of_zeros_is_not_read_through(tmp_path: Path) -> None:
    """A TiB that is nowhere on the disk."""
    path = tmp_path / "a.tar"
    path.touch()
    os.truncate(path, 1 << 40)
    assert listed_here(path) == (0, "")
