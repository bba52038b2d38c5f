"""Members of archives that are read forward: what a broken off read, another archive or a long way does to the next."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from detector.errors import ImageError
from tests.archives import write_7z, write_zst
from tests.worker.storage.test_archives import MEMBERS, read
from worker.storage import Storage, files, kept, way
from worker.storage.way import Way, granted_s

FORWARD = ("a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.tar.zst", "a.7z")


def write(path: Path) -> str:
    """Returns its scheme."""
    if path.suffix == ".7z":
        write_7z(path, MEMBERS)
        return "sevenzip+file"
    if path.suffix == ".zst":
        write_zst(path, MEMBERS)
        return "tar+file"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in MEMBERS.items():
                archive.writestr(name, content)
        return "zip+file"
    with tarfile.open(path, f"w:{path.suffix[1:]}") as tar:  # type: ignore[call-overload]
        for name, content in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return "tar+file"


class BrokenOffError(Exception):
    """Celery's soft time limit raises it wherever the child is."""


def raise_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    """Traces: raised at the so-manieth line of a library that reads archives."""
    left = line

    def step(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if "worker/storage" in (name := frame.f_code.co_filename) or not name.endswith(
            ("gzip.py", "bz2.py", "lzma.py", "_compression.py", "_streams.py", "_zstdfile.py", "tarfile.py", "py7zr.py")
        ):
            return step
        left -= event == "line"
        if not left:
            sys.settrace(None)
            raise BrokenOffError
        return step

    return step


@pytest.mark.slow
@pytest.mark.parametrize("name", FORWARD)
def test_a_read_that_was_broken_off_spoils_no_other_page(tmp_path: Path, name: str) -> None:
    """Before: the stream went on with a piece missing, and all pages after the one of the time limit were damaged."""
    scheme = write(tmp_path / name)
    broken_off = 0
    for line in range(1, 300, 19):
        store = Storage((), tmp_path / "spool")
        assert read(store, tmp_path / name, "0.jpg", scheme) == MEMBERS["0.jpg"]
        before = sys.gettrace()
        try:
            sys.settrace(raise_at(line))
            read(store, tmp_path / name, "9.jpg", scheme)
        except BrokenOffError:
            broken_off += 1
        except ImageError:  # a library took it for its own
            broken_off += 1
        finally:
            sys.settrace(before)
        assert read(store, tmp_path / name, "10.jpg", scheme) == MEMBERS["10.jpg"]
    assert broken_off > 2


@pytest.mark.parametrize("name", FORWARD)
def test_two_archives_in_turn_are_read_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two jobs have it, and not two where memory is short. Before: each page began at its archive's beginning."""
    first, second = tmp_path / "first" / name, tmp_path / "second" / name
    for path in (first, second):
        path.parent.mkdir()
        scheme = write(path)
    opened: list[Path] = []
    plain = files.open_regular

    def counted(path: Path) -> Any:
        opened.append(path)
        return plain(path)

    monkeypatch.setattr(files, "open_regular", lambda path: counted(path) if path.name == name else plain(path))
    store = Storage((), tmp_path / "spool")
    for member, content in list(MEMBERS.items())[:4]:
        for path in (first, second):
            assert read(store, path, member, scheme) == content
    assert opened == [first, second]
    monkeypatch.setattr(kept, "limit_in_force", lambda: 1 << 20)
    for path in (first, second):
        assert read(store, path, "5.jpg", scheme) == MEMBERS["5.jpg"]
    assert len(opened) == 2, "what is open stays"
    (tmp_path / "third").mkdir()
    write(third := tmp_path / "third" / name)
    for path in (third, first):
        assert read(store, path, "6.jpg", scheme) == MEMBERS["6.jpg"]
    assert opened[2:] == [third, first]


def test_how_far_a_child_has_come(tmp_path: Path) -> None:
    here = Way()
    store = Storage((), tmp_path / "spool", way=here)
    scheme = write(tmp_path / "a.zip")
    for name in MEMBERS:
        assert read(store, tmp_path / "a.zip", name, scheme) == MEMBERS[name]
    assert here.held_s() == 0, "a zip has an index"
    scheme = write(tmp_path / "a.tar.bz2")
    held = []
    for name in MEMBERS:
        assert read(store, tmp_path / "a.tar.bz2", name, scheme) == MEMBERS[name]
        held.append(here.held_s())
    assert held[0] > 0 and held == sorted(held) and len(set(held)) == len(held)
    read(store, tmp_path / "a.tar.bz2", "1.jpg", scheme)
    assert here.held_s() < held[-1], "at the beginning again"


class Clock:
    """Stands for the module `time` in way.py."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(way, "time", made)
    return made


def test_what_is_granted_of_a_pages_time(clock: Clock) -> None:
    here = Way()
    here.of_child(3)
    clock.now += 5
    with here.going():
        for _ in range(350):  # 3.5 GB of bzip2 on a third of a core
            clock.now += 1
            here.moved(10 << 20)
        assert granted_s(3, since=1002) == 350
        assert granted_s(4, since=1002) == 0, "another child's"
    clock.now += 100
    assert granted_s(3, since=1002) == 350, "the page's own time is its own"
    assert granted_s(3, since=1360) == 0, "the page after it"
    with here.going():
        clock.now += 10
        here.moved(1 << 30)
        clock.now += 500  # nothing comes any more
        assert granted_s(3, since=1360) == 10 + way.STILL_S
    with here.going():
        for _ in range(1000):  # 5 MB of .xz that unpack for hours
            clock.now += 1
            here.moved(5_000)
        assert granted_s(3, since=1460) == pytest.approx(way.STILL_S + 5e6 / (1 << 20))


@pytest.mark.slow
def test_holes_are_no_way(tmp_path: Path, clock: Clock) -> None:
    """As ``truncate -s 16T`` makes them; here of a GB."""
    path = tmp_path / "a.tar.gz"
    with path.open("wb") as file:
        file.write(bytes(range(256)) * 16)
        file.truncate(1 << 30)
    here = Way()
    with here.going(), here.watched(files.open_regular(path)) as archive:
        assert archive.name == str(path) and archive.read(1 << 16)
        for _ in range(256):
            clock.now += 1
            archive.read(1 << 20)
        assert granted_s(0, since=999) < way.STILL_S + 1, "1 GiB would be 17 minutes"
