"""A tar that ends where it should not is said to, and one that was compressed in pieces is read to its end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.archive_process.limited_readers import limited_readers
from producer.sources.scan import scan
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
