"""A disk whose reads fail, without one: what opens regular files gets files whose reads do."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from detector.images import regular_file, source
from detector.images.regular_file import ReadFile

Break = Callable[..., None]


class FailingReads(io.FileIO):
    """As the system fails: reads of `length` bytes from `begin` on, `times` of them."""

    begin, length, times, error = 0, 0, 0, errno.EIO

    def _meet(self, size: int) -> None:
        begin = FailingReads.begin
        if FailingReads.times and self.tell() < begin + FailingReads.length and self.tell() + size > begin:
            FailingReads.times -= 1
            raise OSError(FailingReads.error, "told by the test")

    def readinto(self, buffer: Any) -> int:
        self._meet(len(buffer))
        return super().readinto(buffer)

    def read(self, size: int | None = -1) -> bytes:
        self._meet(1 << 40 if size in (None, -1) else size or 0)
        return super().read(-1 if size is None else size)

    def readall(self) -> bytes:
        self._meet(1 << 40)
        return super().readall()


class FailingFile(ReadFile, FailingReads):
    """A `ReadFile` over such a system."""


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Break]:
    """Breaks the disk: from which byte on, for how many reads, with what, for how many bytes."""
    monkeypatch.setattr(regular_file, "ReadFile", FailingFile)
    monkeypatch.setattr(source, "ReadFile", FailingFile)

    def broken(begin: int, times: int = 1, error: int = errno.EIO, length: int = 1 << 40) -> None:
        FailingReads.begin, FailingReads.length, FailingReads.times, FailingReads.error = begin, length, times, error

    yield broken
    FailingReads.times = 0
