"""A spool is private: no other user can feed us pages, read ours, or have us write over a file."""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from worker.settings import read_settings
from worker.storage.spool import MachineFault, is_our_spool, make_private, open_spool, write_chunks


def test_a_new_spool_is_private_and_marked(tmp_path: Path) -> None:
    spool = read_settings({"OCRFLEET_SPOOL_DIR": str(tmp_path / "mine")}).spool
    open_spool(spool)
    assert is_our_spool(spool)
    assert [folder.stat().st_mode & 0o777 for folder in (spool, spool.parent)] == [0o700, 0o700]
    open_spool(spool)
    assert list(spool.iterdir()) == []


def test_a_spool_open_to_others_is_closed(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    make_private(spool)
    assert spool.stat().st_mode & 0o777 == 0o700


def test_the_folder_the_user_named_keeps_its_mode(tmp_path: Path) -> None:
    named = tmp_path / "data"
    named.mkdir()
    named.chmod(0o755)
    open_spool(read_settings({"OCRFLEET_SPOOL_DIR": str(named)}).spool)
    assert named.stat().st_mode & 0o777 == 0o755


def test_a_link_in_place_of_the_spool_is_refused(tmp_path: Path) -> None:
    """Before: another user's link in /tmp had us write pages into any folder of ours."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MachineFault, match="not a folder of this user's"):
        make_private(tmp_path / "spool")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_another_users_spool_is_refused(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, 12345, 12345)
    with pytest.raises(MachineFault, match="not a folder of this user's"):
        make_private(spool)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_the_folder_of_the_default_spool_is_nobody_elses_where_anybody_could_make_it(tmp_path: Path) -> None:
    """Before: who had made /tmp/ocrfleet-UID could put a spool of his in ours' place, and pages were read from it."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    others = temporary / "ocrfleet-12301"
    others.mkdir(mode=0o777)
    os.chown(others, 12345, 12345)
    with pytest.raises(MachineFault, match="not a folder of this user's"):
        open_spool(others / "ocrfleet-spool" / "pages")
    assert not list(others.iterdir())
    open_spool(temporary / "ours" / "ocrfleet-spool" / "pages")
    assert stat.S_IMODE((temporary / "ours").stat().st_mode) == 0o700


def test_pages_are_never_written_through_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "page-1").symlink_to(precious)
    with pytest.raises(MachineFault):
        write_chunks([b"x"], tmp_path / "page-1")
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "{}", "XDG_RUNTIME_DIR": "{}/run"}, "{}/.cache/ocrfleet"),
        ({"XDG_CACHE_HOME": "{}/cache", "HOME": "{}"}, "{}/cache/ocrfleet"),
        ({"HOME": "", "XDG_RUNTIME_DIR": "{}/run"}, "{}/run/ocrfleet"),
        ({}, "{}/passwd/.cache/ocrfleet"),  # before: /tmp/ocrfleet-UID, and whoever had made that stopped all workers
    ],
)
def test_the_default_place_is_the_users_own(
    environ: dict[str, str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_dir=f"{tmp_path}/passwd"))
    filled = {name: value.format(tmp_path) for name, value in environ.items()}
    assert str(read_settings(filled).spool_dir) == expected.format(tmp_path)


def test_the_default_place_is_none_where_others_rename_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: one of a group swapped the spool between the check and the copy, and a page of his was read for ours."""
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    environ = {"XDG_CACHE_HOME": str(shared / "cache"), "XDG_RUNTIME_DIR": str(shared)}
    assert read_settings(environ).spool_dir == Path(tempfile.gettempdir()) / f"ocrfleet-{os.getuid()}"
    shared.chmod(0o1777)
    assert read_settings(environ).spool_dir == shared / "cache" / "ocrfleet", "there nobody else may"
