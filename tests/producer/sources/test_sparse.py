"""Time is granted by what the disk holds of a file: to say that it is long costs nothing."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from producer.archive_process.lister import ArchiveLister
from producer.sources import scan_time
from producer.sources.archive import BrokenArchiveError, members
from producer.sources.held_bytes import FEWEST_BYTES, MOST_SHRUNK, held_bytes
from producer.sources.scan_time import ScanTime

TIB = 1 << 40


def member(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def sparse_tar(path: Path, size: int = TIB) -> Path:
    """A member of a terabyte, of which nothing is on the disk, and a picture behind it."""
    with path.open("wb") as file:
        file.write(member("x.bin", size))
        file.seek(size, os.SEEK_CUR)
        file.write(member("a.png", 8) + b"\x89PNG\r\n\x1a\n".ljust(512, b"\0") + bytes(1024))
    return path


def test_a_terabyte_of_nothing_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a minute for each 16 GiB, so long as it was said to be, and all else of the folder behind it."""
    monkeypatch.setattr(scan_time, "SCAN_S", 10.0)
    monkeypatch.setattr(scan_time, "SCAN_S_PER_MIB", 0.0)
    lister = ArchiveLister(scan_time=ScanTime())
    try:
        found = [one.shown for one in lister.members(sparse_tar(tmp_path / "a.tar"), "tar")]
    finally:
        lister.close()
    assert found == [b"x.bin", b"a.png"]


@pytest.mark.slow
def test_a_hole_behind_a_packed_tar_is_no_progress(tmp_path: Path) -> None:
    """Before: each 8 MiB of it were a sign of life, and it brought 12 days of time. Zeros behind a .gz are padding."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as bundle:
        bundle.addfile(tarfile.TarInfo("a.png"))
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(tar.getvalue()))
    os.truncate(path, TIB)
    lister, began = ArchiveLister(patience_s=2.0), time.monotonic()
    found = lister.members(path, "tar")
    try:
        assert next(found).shown == b"a.png"
        with pytest.raises(BrokenArchiveError, match=r"came no further for 2 s"):
            next(found)
    finally:
        lister.close()
    assert time.monotonic() - began < 8


@pytest.mark.parametrize("where", ["ustar", "pax"])
def test_a_member_of_less_than_nothing_is_no_circle(tmp_path: Path, where: str) -> None:
    """Python before 3.11.14 reads such a header for ever (CVE-2025-8194)."""
    info = tarfile.TarInfo("a.png")
    if where == "ustar":
        header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        header[124:136] = (-1024).to_bytes(12, "big", signed=True)  # as GNU writes what is no octal number
        header[148:156] = b"%06o\0 " % tarfile.calc_chksums(header)[0]  # type: ignore[attr-defined]
    else:
        info.pax_headers = {"size": "-1536"}
        header = bytearray(info.tobuf(tarfile.PAX_FORMAT))
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(BrokenArchiveError, match="negative"):
        for number, _ in enumerate(members(path, "tar")):
            assert number < 5


def test_time_is_not_given_for_holes(tmp_path: Path) -> None:
    hollow, full = sparse_tar(tmp_path / "a.tar"), tmp_path / "b.tar"
    full.write_bytes(bytes(1 << 20))
    left = ScanTime()
    before = left.left_s()
    left.grant(hollow)
    assert left.left_s() - before < scan_time.SCAN_S_PER_FILE + 1
    before = left.left_s()
    left.grant(full)
    assert left.left_s() - before == pytest.approx(scan_time.SCAN_S_PER_FILE + scan_time.SCAN_S_PER_MIB)


def test_names_of_one_file_bring_its_share_once(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(bytes(1 << 20))
    left, before = ScanTime(), ScanTime().left_s()
    for number in range(1, 10):
        os.link(tmp_path / "0.tar", tmp_path / f"{number}.tar")
    for number in range(10):
        left.grant(tmp_path / f"{number}.tar")
    given = 10 * scan_time.SCAN_S_PER_FILE + scan_time.SCAN_S_PER_MIB
    assert left.left_s() - before == pytest.approx(given)


def test_a_file_system_that_counts_no_blocks_is_believed(tmp_path: Path) -> None:
    """FUSE, where its program fills them in for none; and what shrinks a file."""

    def held(path: Path, size: int, blocks: int) -> int:
        return held_bytes(path, cast("Any", SimpleNamespace(st_size=size, st_blocks=blocks)))

    full, hole = tmp_path / "a", tmp_path / "b"
    full.write_bytes(b"x")
    hole.touch()
    os.truncate(hole, TIB)
    assert held(full, TIB, 0) == TIB
    assert held(hole, TIB, 0) == held_bytes(hole, hole.stat()) == MOST_SHRUNK * FEWEST_BYTES
    assert held(full, 3_000_000, 1_500_000 // 512) == 3_000_000
    assert held(full, 100, 0) == 100
