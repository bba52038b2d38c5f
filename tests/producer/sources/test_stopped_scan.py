"""A folder that cannot be listed now ends the scan: a list without its files would be taken for the whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from producer.sources import walk as listing
from producer.sources.walk import ScanStoppedError
from tests.producer.sources.test_scan import names, touch


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_a_folder_that_cannot_be_read_now_ends_the_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Before: one hiccup of a network folder, and the job went without its files, with exit code 0."""
    touch(tmp_path, "a/x.jpg", "b/y.jpg")

    def open_folder(path: Path, place: str) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(listing, "open_folder", open_folder)
    with pytest.raises(ScanStoppedError, match=r"cannot be read .*; give the same command again"):
        names(tmp_path)


def test_a_large_folder_that_cannot_be_sorted_ends_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the folder was passed over, and called unreadable, for want of room in /tmp."""
    touch(tmp_path, *(f"{number}.jpg" for number in range(9)))
    monkeypatch.setattr(listing.list_folder, "__kwdefaults__", {"in_memory": 4})

    def full(**_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(listing.tempfile, "TemporaryFile", full)
    with pytest.raises(ScanStoppedError, match=r"No space left on device.*TMPDIR"):
        names(tmp_path)
