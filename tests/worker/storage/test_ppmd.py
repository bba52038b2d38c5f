"""PPMd is unpacked in a process that does nothing else: pyppmd writes into what it has freed."""

from __future__ import annotations

import random
from pathlib import Path

import psutil
import pyppmd
import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from detector.errors import CorruptImage
from tests.archives import write_7z, write_ppmd
from tests.worker.storage.test_archives import read, refused
from worker.storage import Storage, ppmd, ppmd_program
from worker.storage.spool import MachineFault

MEMBERS = {f"{number}.jpg": random.Random(number).randbytes(5000) + b"page" * 5000 for number in range(6)}


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage((), tmp_path / "spool")


def unpackers() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if ppmd_program.__file__ in child.cmdline()]


@pytest.mark.slow
def test_no_process_of_ours_unpacks_it(store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: it did, and was ended by SIGSEGV at a page of another archive in 3 of 12 runs."""
    write_ppmd(tmp_path / "a.7z", MEMBERS)
    monkeypatch.setattr(pyppmd, "Ppmd7Decoder", None)
    for name in ("0.jpg", "1.jpg", "4.jpg", "2.jpg", "5.jpg"):
        assert read(store, tmp_path / "a.7z", name) == MEMBERS[name]
        assert len(unpackers()) <= 1
    read(store, tmp_path / "a.7z", "1.jpg")
    (left,) = unpackers()
    store.close()
    assert not left.is_running() and not unpackers()


@pytest.mark.slow
def test_spoilt_data_is_of_its_archive(store: Storage, tmp_path: Path) -> None:
    """Before: `OutOfMemory` after three tries, where pyppmd says MemoryError of it."""
    write_7z(tmp_path / "sound.7z", MEMBERS)
    write_ppmd(tmp_path / "a.7z", MEMBERS)
    data = bytearray((tmp_path / "a.7z").read_bytes())
    chance = random.Random(1)
    for _ in range(5):
        for _ in range(20):
            data[32 + chance.randrange(20_000)] = chance.randrange(256)
        (tmp_path / "a.7z").write_bytes(data)
        error = refused(store, tmp_path / "a.7z", "5.jpg")
        assert isinstance(error, CorruptImage) and "a.7z" in str(error)
        assert read(store, tmp_path / "sound.7z", "3.jpg") == MEMBERS["3.jpg"]


@pytest.mark.parametrize(
    ("end", "said"), [("os.abort()", "SIGABRT"), ("1 / 0", "code 1"), ("os.kill(os.getpid(), 9)", "")]
)
def test_whose_unpacking_takes_its_process_down(
    end: str, said: str, store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the page, at its first try; but where the system ended it for want of memory."""
    write_ppmd(tmp_path / "a.7z", MEMBERS)
    (tmp_path / "program.py").write_text(f"import os\n{end}\n")
    with monkeypatch.context() as patch:
        patch.setattr(ppmd_program, "__file__", str(tmp_path / "program.py"))
        if said:
            error = refused(store, tmp_path / "a.7z")
            assert isinstance(error, CorruptImage) and "a.7z" in str(error) and said in str(error)
        else:
            with pytest.raises(MemoryError):
                read(store, tmp_path / "a.7z", "3.jpg")
    assert read(store, tmp_path / "a.7z", "3.jpg") == MEMBERS["3.jpg"]
    store.close()


def test_a_machine_that_starts_no_process_is_at_fault(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ppmd(tmp_path / "a.7z", MEMBERS)

    def no_more(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(ppmd.subprocess, "Popen", no_more)
        with pytest.raises(MachineFault):
            read(store, tmp_path / "a.7z", "3.jpg")


def test_the_end_of_a_pages_time_is_not_damage(store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: `CorruptImage`, of any 7z."""
    write_7z(tmp_path / "a.7z", MEMBERS)

    def is_over(*_: object, **__: object) -> bytes:
        raise SoftTimeLimitExceeded

    monkeypatch.setattr("py7zr.compressor.SevenZipDecompressor.decompress", is_over)
    with pytest.raises(SoftTimeLimitExceeded):
        read(store, tmp_path / "a.7z", "3.jpg")
