"""For workers of tests (``-I``): a .tar.gz comes slowly, as from a disk, or a decompressor, of so many bytes a second.

Sleeps instead of computing: a way of seconds costs a test nothing. Every opening is a line in a file.
"""

from __future__ import annotations

import gzip
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

from worker.storage import tars, way

BYTES_A_S = int(os.environ["TEST_BYTES_A_S"])
STOPS_AT = int(os.environ.get("TEST_STOPS_AT", 1 << 60))
"""Bytes after which nothing comes any more."""

way.STILL_S = float(os.environ.get("TEST_STILL_S", way.STILL_S))


class _Slow:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        with Path(os.environ["TEST_OPENED"]).open("a") as opened:
            print(os.getpid(), file=opened)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, 1 << 15) if size > 0 else size)
        time.sleep(3600 if self._file.tell() > STOPS_AT else len(data) / BYTES_A_S)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


tars._UNPACK[b"\x1f\x8b"] = lambda file: gzip.GzipFile(fileobj=_Slow(file), mode="rb")  # type: ignore[arg-type]
