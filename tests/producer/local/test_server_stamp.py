"""The secret that tells own server data from a stranger's: for this user alone, and in no folder that is handed on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.job.output_folder import OutputFolder, state_folder
from producer.local.server_stamp import STAMP, forget_server, is_kept_from_others, is_ours, stamp, unstamp
from producer.user_secret import KEY


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = os.umask(0o022)
    OutputFolder(state_folder("job").root).make()  # as `enqueue` does, with others' right to look into it
    (tmp_path / "server").mkdir()
    yield tmp_path / "server"
    os.umask(before)


def test_nobody_else_can_read_it(data: Path) -> None:
    """Before: 0644, in a folder of 0755, and in each folder that it had stamped."""
    stamp(data)
    key = state_folder(KEY).root
    assert [path.stat().st_mode & 0o777 for path in (key, key.parent)] == [0o600, 0o700]
    assert is_ours(data)
    secret = key.read_bytes()
    assert secret not in (data / STAMP).read_bytes()
    key.chmod(0o644)
    assert not is_ours(data), "which others could read"
    assert key.read_bytes() != secret and key.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_where_the_secret_would_lie_in_anothers_folder_nothing_is_ours(data: Path, tmp_path: Path) -> None:
    """Before: all was, so that who made that folder first had a server read what he had handed over."""
    stamp(data)
    os.chown(tmp_path / "state" / "ocrfleet", 12345, 12345)
    assert not is_ours(data)


def test_a_stamp_is_of_one_folder(data: Path, tmp_path: Path) -> None:
    """Before: a folder that was handed on held what stamps any other."""
    stamp(data)
    shutil.copytree(data, tmp_path / "copy")
    assert is_ours(data) and not is_ours(tmp_path / "copy")
    data.rename(tmp_path / "moved")
    assert is_ours(tmp_path / "moved")


@pytest.mark.parametrize(
    ("folder", "below", "file", "kept"),
    [
        (0o700, 0o755, 0o644, True),
        (0o700, 0o755, 0o664, True),  # the umask 002, in a folder that nobody gets into
        (0o755, 0o755, 0o644, True),
        (0o777, 0o777, 0o777, True),  # a disk that knows no modes
        (0o755, 0o755, 0o664, False),
        (0o755, 0o755, 0o646, False),
        (0o700, 0o775, 0o644, False),  # who has it open writes into it still
        (0o755, 0o757, 0o644, False),
    ],
)
def test_what_others_may_write_below_is_not_kept(data: Path, folder: int, below: int, file: int, kept: bool) -> None:
    """Before: of all below the stamp alone was looked at, which the group left as it was; then no own group."""
    inner = data / "appendonlydir/appendonly.aof.1.incr.aof"
    inner.parent.mkdir()
    inner.touch()
    for path, mode in ((inner, file), (inner.parent, below), (data, folder)):
        path.chmod(mode)
    assert is_kept_from_others(data) == kept
    if os.geteuid() == 0 and kept:
        os.chown(inner, 12345, -1)
        assert not is_kept_from_others(data), "another's"


@pytest.mark.parametrize("mode", [0o2775, 0o755, 0o3775])
@pytest.mark.parametrize("where", ["server", "server/album", "server/appendonlydir"])
def test_a_folder_that_got_the_servers_name_is_not_removed(tmp_path: Path, data: Path, where: str, mode: int) -> None:
    """Before: a `retry` removed by its name what others had moved there, with all below that they could not."""
    folder = OutputFolder(tmp_path / "out")
    folder.make()
    if where != "server":
        folder.server_data.mkdir(0o700)
        stamp(folder.server_data)
    deep = folder.private / where / "2026/wedding.raw"
    deep.parent.mkdir(parents=True)
    deep.touch()
    (folder.private / where).chmod(mode)
    if where != "server" and mode == 0o755:
        unstamp(folder.server_data)  # others could write there while it ran: `EmbeddedServer.keep_from_others`
    forget_server(folder)
    assert not folder.server_data.exists()
    (aside,) = folder.private.glob("server-foreign-*")
    assert [path.name for path in aside.rglob("*.raw")] == ["wedding.raw"]


def test_what_a_job_leaves_of_its_server_is_removed(tmp_path: Path, data: Path) -> None:
    """A link in its place is moved aside, too."""
    folder = OutputFolder(tmp_path / "out")
    forget_server(folder)
    folder.make()
    forget_server(folder)
    (folder.server_data / "appendonlydir").mkdir(0o755, parents=True)
    (folder.server_data / "appendonlydir/appendonly.aof.1.incr.aof").touch()
    stamp(folder.server_data)
    forget_server(folder)
    assert list(folder.private.iterdir()) == []
    folder.server_data.symlink_to(tmp_path)
    forget_server(folder)
    assert [path.name[:15] for path in folder.private.iterdir()] == ["server-foreign-"]
