"""Files that another program holds (a lease, as file servers take them): a scan waits for all of them together."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detector.images.regular_file import Patience, open_regular
from producer.archive_process.limited_readers import limited_readers
from producer.sources import scan_time
from producer.sources.scan import scan

NAMES = ("a.png", "b.pdf", "c.tif", "d.zip", "e.tar", "f.png", "g.zip", "h.pdf")


@contextmanager
def held(*paths: Path) -> Iterator[list[int]]:
    """Leases that nobody gives back."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel asks for them with it
    descriptors = []
    try:
        for path in paths:
            descriptors.append(os.open(path, os.O_RDWR | os.O_CREAT))
            os.write(descriptors[-1], b"x")
            fcntl.fcntl(descriptors[-1], fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        signal.signal(signal.SIGIO, before)


def test_a_scan_waits_for_all_of_them_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: a second for each, of 20,000 five and a half hours."""
    monkeypatch.setattr(scan_time, "LEASES_S", 0.3)
    (tmp_path / "free.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with held(*(tmp_path / name for name in NAMES)), limited_readers() as readers:
        began = time.monotonic()
        pages = list(scan([str(tmp_path)], readers))
        assert time.monotonic() - began < 3
    assert sorted(page.image for page in pages) == sorted([*NAMES, "free.png"]), "a worker asks again"
    assert [page.image for page in pages if page.problem] == ["d.zip", "e.tar", "g.zip"]


def test_one_that_is_given_back_is_waited_for(tmp_path: Path) -> None:
    with held(tmp_path / "a.png") as [descriptor]:
        threading.Timer(0.1, fcntl.fcntl, (descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)).start()
        patience = Patience(5.0)
        with open_regular(tmp_path / "a.png", patience) as file:
            assert file.read() == b"x"
    assert patience.left_s == 5.0, "it is for those that are not"
