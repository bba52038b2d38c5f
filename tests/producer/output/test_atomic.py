"""A file is replaced whole; a device, a pipe or a socket is no file, and stays."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from detector.atomic import atomic_write
from producer.cli import main
from producer.new_folder import new_folder
from producer.whole_append import whole_append
from tests.producer.records import ok, write_results
from tests.worker.test_machine_faults import full_disk


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a device", "link to a pipe", "link to stdout"])
def test_what_is_no_file_stays(kind: str, tmp_path: Path) -> None:
    """Before: root's `export --to /dev/full` made the device a file, for all programs of the machine."""
    target = other = tmp_path / "target"
    if kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(target))
    elif kind == "link to a device":
        target.symlink_to("/dev/null")
    elif kind == "link to stdout":
        target.symlink_to("/proc/self/fd/1")
    else:
        other = tmp_path / "other" if "link" in kind else target
        os.mkfifo(other)
        if other != target:
            target.symlink_to(other)
    before = target.lstat()
    with pytest.raises(FileExistsError, match="device or a pipe"), atomic_write(target) as part:
        part.write_text("no")
    assert os.path.samestat(before, target.lstat())
    assert {path.name for path in tmp_path.iterdir()} == {target.name, other.name}


def test_files_and_links_to_them_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    for name, leads in (("file", None), ("link", "file"), ("nowhere", "gone"), ("new", None)):
        if leads:
            (tmp_path / name).symlink_to(leads)
        with atomic_write(tmp_path / name) as part:
            part.write_text(name)
        assert stat.S_ISREG((tmp_path / name).lstat().st_mode) and (tmp_path / name).read_text() == name
    assert (tmp_path / "file").read_text() == "file"


def test_what_a_disk_says_at_the_end_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: "Error: Input/output error"; a network file system says at fsync that it is full."""
    (tmp_path / "list").touch()

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, "told by the test")

    monkeypatch.setattr(os, "fsync", fails)
    for writing in (atomic_write(tmp_path / "a.json", sync=True), whole_append(tmp_path / "list")):
        with pytest.raises(OSError, match="told by the test") as caught, writing as part:
            if isinstance(part, Path):
                part.write_text("new")
        assert Path(caught.value.filename).parent == tmp_path
    monkeypatch.undo()
    with pytest.raises(OSError, match="too large") as caught, full_disk(), atomic_write(tmp_path / "b.csv") as part:
        part.write_text("x" * 2000)
    assert caught.value.filename == str(tmp_path / "b.csv")
    with (
        pytest.raises(OSError, match="too large") as caught,
        full_disk(),
        new_folder(tmp_path / "c", replace=False) as c,
    ):
        (c / "1.txt").write_text("x" * 2000)
    assert caught.value.filename == str(tmp_path / "c") and {path.name for path in tmp_path.iterdir()} == {
        "list",
        ".ocrfleet",
    }


def test_an_export_into_a_pipe_is_one_line(tmp_path: Path) -> None:
    write_results(tmp_path / "out", [ok(0, "a.jpg")])
    os.mkfifo(tmp_path / "pipe")
    done = CliRunner().invoke(
        main, ["export", str(tmp_path / "out"), "--format", "csv", "--to", str(tmp_path / "pipe")]
    )
    assert done.exit_code == 2 and done.output.count("\n") == 1
    assert "pipe: is a device or a pipe" in done.output and (tmp_path / "pipe").is_fifo()


def test_a_pipe_in_the_place_of_the_unfinished_file_is_not_waited_for(tmp_path: Path) -> None:
    """Before: who may write into a group's folder had a job wait for ever where its manifest was to be on the disk."""

    def waited(*_: object) -> None:
        raise AssertionError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(2)
    try:
        with pytest.raises(OSError, match="Invalid argument"), atomic_write(tmp_path / "target", sync=True) as part:
            os.mkfifo(part)
        assert list(tmp_path.iterdir()) == []
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
