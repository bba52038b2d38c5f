"""Links that lie in a folder of ours, from a stranger's archive or hand: nothing that a command leaves goes through."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from producer.local.server import EmbeddedServer
from producer.local.server_stamp import STAMP, stamp
from producer.no_links import OthersFolderError, refuse_links
from producer.output.formats import export_results
from producer.output.overlays import write_overlays
from tests.producer.output.test_changed_links import job

NOBODY = 65534 if os.geteuid() == 0 else os.geteuid()


def precious(tmp_path: Path) -> Path:
    file = tmp_path / "home" / ".bashrc"
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    return file


@pytest.mark.parametrize("format_name", ["coco", "labelstudio", "csv", "icdar", "pagexml", "crops", "pdf"])
def test_no_export_writes_through_one(format_name: str, tmp_path: Path) -> None:
    """At every name that it leaves, which a first export tells."""
    out, file = job(tmp_path), precious(tmp_path)
    before = set(out.rglob("*"))
    export_results(out, format_name)
    left = [path for path in out.rglob("*") if path not in before and path.is_file()]
    assert left or format_name in ("crops", "pdf")  # of a picture outside the sources there is none
    for path in left:
        path.unlink()
        path.symlink_to(file)
    export_results(out, format_name)
    assert file.read_text() == "mine" and not any(path.is_symlink() for path in left)


@pytest.mark.parametrize("name", ["server.log", "server.pid", "appendonlydir"])
def test_no_private_server_writes_through_one(name: str, tmp_path: Path) -> None:
    file, data = precious(tmp_path), tmp_path / "server"
    data.mkdir()
    stamp(data)
    (data / name).symlink_to(file)
    server = EmbeddedServer(data)
    try:
        with pytest.raises(OthersFolderError, match=f"{name} is a link: remove it"):
            server.start()
    finally:
        server.stop()
    assert file.read_text() == "mine"


def test_a_server_that_somebody_handed_over_is_not_started(tmp_path: Path) -> None:
    """Before: 700 bytes of its file were 6 GB of memory, each time; of a FIFO in the place of server.pid it waited."""
    data = tmp_path / "server"
    theirs = EmbeddedServer(data)
    theirs.start()
    redis.Redis.from_url(theirs.url).set("theirs", "x")
    theirs.stop()
    (data / STAMP).unlink()
    os.mkfifo(data / "server.pid")
    ours = EmbeddedServer(data)
    try:
        ours.start()
        assert redis.Redis.from_url(ours.url).keys() == []
        assert len(list(tmp_path.glob("server-foreign-*"))) == 1
    finally:
        ours.stop()
    again = EmbeddedServer(data)
    try:
        again.start()
        assert len(list(tmp_path.iterdir())) == 2, "this one is ours"
    finally:
        again.stop()


def test_no_overlay_is_written_through_one(tmp_path: Path) -> None:
    out, pictures = job(tmp_path), tmp_path / "Pictures"
    pictures.mkdir()
    (out / "overlays").symlink_to(pictures)
    with pytest.raises(OthersFolderError, match="overlays is a link"):
        write_overlays(out)
    (out / "overlays").unlink()
    (out / "overlays").mkdir()
    (out / "overlays" / "a").symlink_to(pictures)
    with pytest.raises(OthersFolderError, match="a is a link"):
        write_overlays(out)
    assert list(pictures.iterdir()) == []


def test_what_cannot_be_looked_into_is_refused() -> None:
    """Before: a link in a folder of mode 0300 was not seen; a log went through it to a ~/.profile, and ran there."""
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are root's alone
        inner = Path(name, "overlays/inner")
        inner.mkdir(parents=True)
        (inner / "a").symlink_to(precious(Path(name)))
        inner.chmod(0o300)
        for path in (Path(name), *Path(name).rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        with as_nobody(), pytest.raises(OthersFolderError, match=r"inner cannot be listed \(Permission denied\)"):
            refuse_links(inner.parent)
        inner.chmod(0o700)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may list any folder."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    refuse_links(tmp_path / "new")
