"""The page's folder, where others could write into it once, or a stranger's archive: no link in it is followed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detector.exit_codes import ExitCode
from producer.no_links import OthersFolderError
from producer.web.store import Store, WebJob
from tests.producer.two_users import GROUP, OTHER, OWNER, Shared, forked, shared_folder

FOLDERS = ("incoming", "jobs", "trash", "exports", "temporary", "models")
JOB = WebJob(created=1.0, title="a.png")


def page(folder: Path) -> Path:
    """The folder of a page that has a job with a picture."""
    store = Store(folder)
    upload = store.new_upload()
    (upload / "upload/sub").mkdir()
    (upload / "upload/sub/a.png").touch()
    assert store.accept(upload, "web-1", JOB)
    (store.models / "dbnet-640.onnx").touch()
    return folder


def modes(folder: Path) -> dict[str, int]:
    """Of the folders in it, and its own."""
    return {str(path.relative_to(folder)): path.stat().st_mode & 0o7777 for path in folder.glob("**/")}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    with shared_folder(monkeypatch) as scene:
        yield scene


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_a_link_is_refused(tmp_path: Path, name: str) -> None:
    """Before: at the start of the page all was removed in what four of the six led to, and nothing was said."""
    folder, album = page(tmp_path / "web"), tmp_path / "album"
    album.mkdir()
    (album / "a.part.jpg").touch()
    (folder / name).rename(tmp_path / "away")
    (folder / name).symlink_to(album)
    with pytest.raises(OthersFolderError, match=f"{folder / name} is a link, or no folder: remove it") as refused:
        Store(folder).clean()
    assert refused.value.exit_code == ExitCode.USAGE
    assert [path.name for path in album.iterdir()] == ["a.part.jpg"]


LAID: dict[str, tuple[Callable[[Path], object], str]] = {
    "jobs/web-2": (lambda place: place.symlink_to("/etc"), "is a link"),
    "jobs/web-1/results.jsonl": (lambda place: place.symlink_to("/etc/hostname"), "is a link"),
    "jobs/web-1/upload/sub/b.png": (lambda place: place.symlink_to("nowhere"), "is a link"),
    "jobs/web-1/manifest.jsonl": (lambda place: os.mkfifo(place), "is no file"),
    "jobs/web-1/socket": (lambda place: socket.socket(socket.AF_UNIX).bind(str(place)), "is no file"),
    "models/a-640.onnx": (lambda place: place.symlink_to("/etc/hostname"), "is a link"),
}


@pytest.mark.parametrize("name", LAID)
def test_a_job_or_model_with_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Before: `results.jsonl` of what it led to was sent to visitors, and so was a model; a pipe was waited for."""
    folder = page(tmp_path / "web")
    monkeypatch.chdir(folder)  # a socket's name has 108 bytes
    LAID[name][0](Path(name))
    with pytest.raises(OthersFolderError, match=f"{folder / name} {LAID[name][1]}: remove it"):
        Store(folder)
    Path(name).unlink()
    assert Store(folder).names() == ["web-1"]


def test_what_is_only_removed_may_be_anything(tmp_path: Path) -> None:
    """A client's results, or a member of an archive, of a page that was killed."""
    folder = page(tmp_path / "web")
    (tmp_path / "album").mkdir()
    (tmp_path / "album/a.jpg").touch()
    for name in ("incoming", "exports", "temporary"):
        (folder / name / "link").symlink_to(tmp_path / "album")
        (folder / name / "deep").mkdir()
        (folder / name / "deep/link").symlink_to(tmp_path / "album")
        os.mkfifo(folder / name / "deep/pipe")
    Store(folder).clean()
    assert [path for name in ("incoming", "exports", "temporary") for path in (folder / name).iterdir()] == []
    assert (tmp_path / "album/a.jpg").exists()


def test_a_link_of_ones_own_to_the_whole_folder_is_fine(tmp_path: Path) -> None:
    """As to OUT: a large disk."""
    page(tmp_path / "disk")
    (tmp_path / "web").symlink_to(tmp_path / "disk")
    assert Store(tmp_path / "web").names() == ["web-1"]


def test_a_group_lays_no_link_in_the_page_of_another(scene: Shared) -> None:
    """Nor is an honest user of a folder that a version before, or `chmod -R g+rwX`, left open in anybody's way."""
    folder = scene.project / "web"

    def opened() -> None:
        os.umask(0o002)
        page(folder)
        for path in (folder, *folder.glob("**/")):
            path.chmod(0o2775)

    def again() -> None:
        before = modes(folder)
        store = Store(folder)
        store.clean()
        assert store.names() == ["web-1"] and store.read("web-1") == JOB
        assert (store.uploads("web-1") / "sub/a.png").exists()
        assert modes(folder) == {name: 0o700 if name == "." else mode & ~0o022 for name, mode in before.items()}
        scene.now()
        os.umask(0o002)
        fresh = store.new_upload()
        assert {fresh.stat().st_mode & 0o777, (fresh / "upload").stat().st_mode & 0o777} == {0o700}
        assert store.accept(fresh, "web-2", JOB)
        assert sorted(Store(folder).names()) == ["web-1", "web-2"]

    held = list[int]()

    def other() -> None:
        for place in held:  # who had a folder open before it was taken back
            with pytest.raises(PermissionError):
                os.symlink(scene.album, "link", dir_fd=place)
        with pytest.raises(PermissionError):
            (folder / "link").symlink_to(scene.album)

    assert os.waitpid(forked(OWNER, opened), 0)[1] == 0
    held += [os.open(path, os.O_RDONLY) for path in (folder, *folder.glob("**/"))]
    scene.deed = other
    scene.play(again)


@pytest.mark.parametrize(
    ("name", "link"),
    [(name, False) for name in (*FOLDERS, "jobs/web-2", "jobs/web-1/upload/other")]
    + [("temporary", True), ("jobs/web-1", True)],
)
def test_what_a_group_laid_before_is_refused(scene: Shared, name: str, link: bool) -> None:
    """A link to the album, and a folder of the other's."""
    folder = scene.project / "web"

    def opened() -> None:
        page(folder)
        for path in (folder, *folder.glob("**/")):
            path.chmod(0o2775)

    def lays() -> None:
        if (folder / name).exists():
            (folder / name).rename(folder / "away")
        (folder / name).symlink_to(scene.album) if link else (folder / name).mkdir()

    def again() -> None:
        with pytest.raises(OthersFolderError, match=f"{folder / name} is a(nother user's folder| link)"):
            Store(folder).clean()

    for user, deed in ((OWNER, opened), (OTHER, lays)):
        assert os.waitpid(forked(user, deed), 0)[1] == 0
    scene.play(again)


def test_a_share_and_roots_folders_are_fine(scene: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS that squashes: all is of one other number. `lost+found` of a disk for models is root's, and not listed."""
    folder = page(scene.project / "web")
    (folder / "models/lost+found").mkdir(mode=0o700)
    for path in (folder, *folder.rglob("*")):
        if path.name != "lost+found":
            os.chown(path, OWNER, GROUP)

    def squashed() -> None:
        assert Store(folder).names() == ["web-1"]

    assert os.waitpid(forked(OWNER, squashed), 0)[1] == 0
    monkeypatch.setattr("producer.no_links.owner_of_new", lambda folder: {OWNER})
    monkeypatch.setattr(os, "geteuid", lambda: 999)
    assert Store(folder).names() == ["web-1"]


@pytest.mark.parametrize("name", ["incoming", "exports", "temporary", "trash"])
@pytest.mark.parametrize("opened", ["all", "the folder alone", "the whole alone"])
def test_what_others_may_have_moved_there_is_not_removed(tmp_path: Path, name: str, opened: str) -> None:
    """Before: a folder of the user's, that they could not empty, at the next start; of closed ones all goes still."""
    folder = page(tmp_path / "web")
    deep = folder / name / "album/2026/wedding.raw"
    deep.parent.mkdir(parents=True)
    deep.touch()
    for path in {"all": (folder, folder / name), "the whole alone": (folder,)}.get(opened, (folder / name,)):
        path.chmod(0o2775)
    store = Store(folder)
    store.clean()
    assert store.names() == ["web-1"]
    (aside,) = folder.glob(f"{name}-foreign-*")
    assert (aside / "album/2026/wedding.raw").exists() and list((folder / name).iterdir()) == []
    (folder / name / "left").mkdir()
    Store(folder).clean()
    assert not (folder / name / "left").exists()
    assert list(folder.glob("*-foreign-*")) == [aside], "once"
