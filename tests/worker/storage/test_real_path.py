"""Where a name leads: as `os.path.realpath` says of honest names, and soon whatever links a stranger lays."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path

import pytest

from detector.errors import NotFound
from worker.storage.files import Storage
from worker.storage.real_path import MOST_LETTERS, real_or_named, real_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/x.jpg").touch()
    (tmp_path / "to-b").symlink_to("a/b")
    (tmp_path / "to-gone").symlink_to("to-b/gone.jpg")
    (tmp_path / "a/far").symlink_to("../to-b/../no/such/x.jpg")
    (tmp_path / "whole").symlink_to(tmp_path / "to-gone")
    (tmp_path / "long").symlink_to("n" * 300)
    (tmp_path / "odd").symlink_to(os.fsdecode(b"a//./\xff\n (deleted)"))
    return tmp_path


NAMES = (
    *("", "a/b/x.jpg", "to-b", "to-b/x.jpg", "to-b/../x", "to-b/x.jpg/../y", "to-gone", "a/far", "whole", "long/x"),
    *("odd", "odd/../x", "no/../../y", "a/./b//", "../../../../../../../../../../etc"),
)


@pytest.mark.parametrize("linux", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_as_realpath(name: str, linux: bool, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = os.path.realpath(folder / name)
    wanted_here = os.path.realpath(name)
    if not linux:
        monkeypatch.delattr(os, "O_PATH")
    assert str(real_path(f"{folder}/{name}")) == wanted
    assert str(real_path(name or ".")) == wanted_here


def test_a_row_of_links(tmp_path: Path) -> None:
    """Before: RecursionError."""
    for number in range(1000):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}")
    (tmp_path / "l1000").touch()
    assert real_path(tmp_path / "l980") == tmp_path / "l1000"
    assert real_path(tmp_path / "l0") == tmp_path / "l40"
    with pytest.raises(NotFound, match="no such file"), Storage((), tmp_path).open((tmp_path / "l0").as_uri()):
        pass


def test_no_name_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 40 links of 3 KB took 2.8 s, and 900 of them 24 minutes."""
    looked = Counter[str]()
    look = os.readlink

    def readlink(path: str | Path) -> str:
        looked["letters"] += len(str(path))
        return look(path)

    monkeypatch.setattr(os, "readlink", readlink)
    (tmp_path / "x").mkdir()
    for number in range(40):
        (tmp_path / f"l{number}").symlink_to("x/../" * 800 + f"l{number + 1}")
    for number in range(40):
        assert real_or_named(tmp_path / f"l{number}").parent == tmp_path
        assert looked["letters"] < 2 * MOST_LETTERS
        looked.clear()
    with pytest.raises(OSError) as refused:
        real_path(tmp_path / "l0")
    assert refused.value.errno == errno.ENAMETOOLONG
    assert real_path(tmp_path) == tmp_path


def test_what_cannot_be_told_is_outside_of_roots(tmp_path: Path) -> None:
    """The roots of a worker: nothing is said of it."""
    uri = (tmp_path / ("d/" * 1000 + "x.jpg")).as_uri()
    with pytest.raises(NotFound, match="outside the allowed roots"), Storage((tmp_path,), tmp_path).open(uri):
        pass
    with pytest.raises(NotFound, match="cannot be opened"), Storage((), tmp_path).open(uri):
        pass


@pytest.mark.parametrize("there", [True, False])
def test_a_link_that_is_none_any_more(there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: OSError 22 (a watched folder ended, a record was of type Internal)."""
    link, other = tmp_path / "a.png", tmp_path / "own"
    link.symlink_to(other)
    if there:
        other.touch()
    look = os.readlink

    def readlink(name: str | Path) -> str:
        if str(name) == str(link):
            monkeypatch.undo()
            link.unlink()
            link.write_bytes(b"a file by now")
        return look(name)

    monkeypatch.setattr(os, "readlink", readlink)
    assert real_path(link) == (other if there else link)


def test_without_proc(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "readlink", lambda path: (_ for _ in ()).throw(FileNotFoundError()))
    assert real_path(folder / "to-b" / "x.jpg") == folder / "a/b/x.jpg"
