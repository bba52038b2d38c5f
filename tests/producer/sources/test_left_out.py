"""Members that an archive holds and its list of them does not: they are told of, and no page is nowhere."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from producer.sources.archive import BrokenArchiveError, Kind, members
from producer.sources.passed_over import UNKNOWN, PassedOver

PROGRAM = b"MZ a program that unpacks itself" * 9


def packed(*names: str, comment: bytes = b"") -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as bundle:
        bundle.comment = comment
        for name in names:
            bundle.writestr(name, f"content of {name}")
    return written.getvalue()


def says(number: int, data: bytes, *, less: int = 0) -> bytes:
    """A zip that says it has so many members, in a table that begins so many entries of 4 letters later."""
    place = data.rfind(b"PK\5\6")
    end = list(struct.unpack("<4s4H2LH", data[place : place + 22]))
    end[3:7] = number, number, end[5] - less * 50, end[6] + less * 50
    end[3] = end[4]
    return data[:place] + struct.pack("<4s4H2LH", *end) + data[place + 22 :]


def listed(path: Path, kind: Kind, passed: PassedOver | None = None) -> list[bytes]:
    found: list[bytes] = []
    try:
        found += (member.shown for member in members(path, kind, passed=passed))
    except BrokenArchiveError as error:
        found.append(str(error).encode())
    return found


TWO = packed("a.jp", "b.jp")
LEFT_OUT = {
    "another before it": (packed("c.jp", "d.jp") + TWO, "after 2 members: BadZipFile: another zip lies before it"),
    "one that was cut off behind it": (TWO + packed("c.jp")[:-80], "there is more behind its end"),
    "with a comment": (packed("a.jp", "b.jp", comment=b"PK") + packed("c.jp")[:40], "there is more behind its end"),
    "a number above its table": (says(3, TWO), "says 3 members and lists 2"),
}
HONEST = {
    "as it is": TWO,
    "a comment": packed("a.jp", "b.jp", comment=b"PK\3\4 it says"),
    "zeros behind it": TWO + bytes(1000),
    "self-extracting": PROGRAM + TWO,
    "a number below its table, as above 65,535": says(1, TWO),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_zip_that_holds_more_than_it_lists_says_so(name: str, tmp_path: Path) -> None:
    """Before: what was listed were all pages, and exit 0."""
    data, said = LEFT_OUT[name]
    (tmp_path / "a.zip").write_bytes(data)
    *found, error = listed(tmp_path / "a.zip", "zip")
    assert found == [b"a.jp", b"b.jp"] and said in error.decode()


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_zip_is_whole(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(HONEST[name])
    assert listed(tmp_path / "a.zip", "zip") == [b"a.jp", b"b.jp"]


def test_a_zip_whose_members_were_replaced_is_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle, pytest.warns(UserWarning, match="Duplicate"):
        for _ in range(2):
            bundle.writestr("a.jp", "content")
    assert listed(tmp_path / "a.zip", "zip") == [b"a.jp"]


def test_entries_of_unknown_kinds_in_a_tar_are_passed_over(tmp_path: Path) -> None:
    """Before: GNU tar takes them for files, and here nothing was said."""
    with tarfile.open(tmp_path / "a.tar", "w") as bundle:
        for number, kind in enumerate((*tarfile.SUPPORTED_TYPES[:7], b"Z", b"M", b"V")):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.type = kind
            if kind in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, b"Z", b"M", b"V"):
                info.size = 512
            bundle.addfile(info, io.BytesIO(bytes(512)) if info.size else None)
    passed = PassedOver()
    found = listed(tmp_path / "a.tar", "tar", passed)
    assert b"0.jpg" in found and passed.counts[UNKNOWN] == 2
