"""An archive costs a scan so much and no more, however many members it has; what is left, workers count."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from producer.errors import CannotCountError
from producer.sources import allowance
from producer.sources.archive import BrokenArchiveError, members
from producer.sources.page_count import PageCount
from tests.nasty_pages import pdf

ZEROS = b"%PDF-1.4\n" + bytes(2 << 20)


def zipped(path: Path, **contents: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in contents.items():
            bundle.writestr(f"{name}.pdf", content)
    return path


def counts(path: Path) -> list[int | str]:
    found: list[int | str] = []
    for member in members(path, "zip"):
        try:
            found.append(member.look().pages)
        except CannotCountError as error:
            found.append(str(error))
    return found


@pytest.mark.slow
def test_members_that_unpack_to_much_are_not_all_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 4,000 members of 260 KB that unpack to 254 MB each held a scan, and all behind it, for three hours."""
    monkeypatch.setattr(allowance, "COUNTED_BYTES", 5 << 20)
    path = zipped(tmp_path / "a.zip", **{f"{number}": ZEROS for number in range(9)}, last=pdf(2))
    found = counts(path)
    assert len(found) == 10
    assert ["its worker counts them" in str(one) for one in found] == [False] * 3 + [True] * 7


def test_counting_ends_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "COUNTING_S", 0.05)
    path = zipped(tmp_path / "a.zip", a=pdf(2), b=pdf(3), c=pdf(4))
    now = 0.0  # a clock of its own: on a busy machine 0.04 s of sleep were more than 0.05
    monkeypatch.setattr(allowance, "time", SimpleNamespace(monotonic=lambda: now, process_time=time.process_time))

    def slow(path: Path) -> int:
        nonlocal now
        now += 0.04
        return 7

    found = []
    for member in members(path, "zip", count_pdf=slow):
        try:
            found.append(member.look())
        except CannotCountError:
            found.append(PageCount(0))
    assert found == [PageCount(7), PageCount(7), PageCount(0)]


def test_pictures_are_found_when_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not counted, and nothing is said of them."""
    monkeypatch.setattr(allowance, "COUNTED_BYTES", 0)
    monkeypatch.setattr(allowance, "COUNTED_RATIO", 0)
    assert counts(zipped(tmp_path / "a.zip", a=b"\xff\xd8\xff\xe0", b=pdf(2)))[0] == 1


def test_an_archive_that_is_read_for_ever_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowance, "READING_S", 0.0)
    monkeypatch.setattr(allowance, "COUNTING_S", 0.0)
    path = zipped(tmp_path / "a.zip", a=pdf(2), b=pdf(2))
    found = members(path, "zip")
    next(found)
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    with pytest.raises(BrokenArchiveError, match=r"after 1 members: it takes too long to read; unpack it first"):
        list(found)


@pytest.mark.slow
def test_a_common_archive_is_counted_whole(tmp_path: Path) -> None:
    assert counts(zipped(tmp_path / "a.zip", **{f"{pages}": pdf(pages) for pages in range(1, 20)})) == [*range(1, 20)]
