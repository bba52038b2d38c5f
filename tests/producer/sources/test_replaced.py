"""A file that a stranger replaces with a pipe between the look at it and its opening: nobody waits for the pipe."""

from __future__ import annotations

import os
import signal
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from detector.errors import ImageError
from detector.images.page import open_page
from detector.images.regular_file import NotRegularError, open_regular
from producer.detector_process.page_counter import PageCounter
from producer.errors import CannotCountError, ProducerError
from producer.job.sending.refusal import refuse_others
from producer.sources.archive import members
from producer.sources.page_count import count_file, kind_of_file
from tests.swaps import replace_when_looked_at
from worker.storage.files import Storage

TIFF = b"II*\0\x08\0\0\0\0\0" + bytes(20)


class HungError(BaseException):
    """Who opened the pipe would never have come back."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def hung(number: int, frame: FrameType | None) -> None:
        raise HungError

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(2)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def replaced_when_looked_at(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first look the file is a pipe."""
    replace_when_looked_at(path, lambda: os.mkfifo(path), monkeypatch)


def listed(path: Path) -> list[object]:
    return list(members(path, "zip"))


def stored(path: Path) -> None:
    with Storage((path.parent,), path.parent / "spool").open_file(path.as_uri()):
        pass


def member(path: Path) -> None:
    with Storage((path.parent,), path.parent / "spool").open_file(f"zip+{path.as_uri()}#a.png"):
        pass


@pytest.mark.parametrize(
    "opens",
    [
        partial(count_file, count_pdf=None),
        kind_of_file,
        lambda path: open_page(path, limit_side=640),
        open_regular,
        lambda path: refuse_others(path, "a.tif"),
        listed,
        stored,
        member,
    ],
)
def test_nobody_waits_for_a_pipe_that_took_its_place(
    opens: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the scan hung, and with it every job of the page."""
    path = tmp_path / "a.tif"
    path.write_bytes(TIFF)
    replaced_when_looked_at(path, monkeypatch)
    try:
        opens(path)
    except (ImageError, ProducerError, OSError) as error:
        assert not isinstance(error, OSError) or isinstance(error, NotRegularError)
    assert path.is_fifo()


@pytest.mark.parametrize("module", ["detector.images.count_pages", "producer.sources.count_pages"])
def test_nor_do_processes_that_are_told_its_name(module: str, tmp_path: Path) -> None:
    """Before: each cost 20 s."""
    os.mkfifo(tmp_path / "a.pdf")
    counter = PageCounter(module=module)
    try:
        with pytest.raises(CannotCountError, match="not a regular file"):
            counter.count(tmp_path / "a.pdf")
    finally:
        counter.close()


def test_a_file_is_read_as_before(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("a.png", b"x")
    with open_regular(tmp_path / "a.zip") as file:
        assert os.get_blocking(file.fileno()) and not os.get_inheritable(file.fileno())
    assert len(listed(tmp_path / "a.zip")) == 1
