"""A folder that becomes a link, or lies below one, between the look at its name and its turn: it is not read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from producer.growing.settling import Settling
from producer.sources.passed_over import UNREADABLE, PassedOver
from producer.sources.scan import scan
from producer.sources.walk import walk
from tests.pictures import write_images
from tests.processes import command
from tests.producer.records import IN_PROCESS
from worker.storage import real_path
from worker.storage.real_path import open_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures in folders of three levels; the same names lie in a private folder beside it."""
    for name in ("in/a.png", "in/b/c/d.png", "in/b/e.png", "in/z.png", "private/c/secret.png", "private/secret.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path / "in"


def becomes(folder: Path, target: Path) -> None:
    """The folder is hidden, and a link has its name."""
    folder.rename(folder.with_name("." + folder.name))
    folder.symlink_to(target)


def listed(folder: Path) -> list[str]:
    descriptor = open_folder(folder, str(folder))
    try:
        return sorted(os.listdir(descriptor))  # noqa: PTH208  # Path knows no descriptors
    finally:
        os.close(descriptor)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def walked(folder: Path, after: bytes, change: Callable[[], None]) -> tuple[list[bytes], list[str]]:
    """Names that a walk finds while another process makes a change when it has found one of them, and what it says."""
    found, said = list[bytes](), list[str]()
    for file in walk(folder, warn=said.append):
        found.append(file.name)
        if file.name == after:
            change()
    return found, said


def test_a_folder_that_became_a_link(folder: Path) -> None:
    """Before: `b/secret.png` and `b/c/secret.png` were pages of the job."""
    found, said = walked(folder, b"a.png", lambda: becomes(folder / "b", folder.parent / "private"))
    assert found == [b"a.png", b"z.png"]
    assert len(said) == 1 and said[0].startswith(f"{folder}/b: folder skipped, it cannot be read (")


def test_a_folder_below_one_that_became_a_link(folder: Path) -> None:
    (folder / "b" / "a.png").touch()
    found, said = walked(folder, b"b/a.png", lambda: becomes(folder / "b", folder.parent / "private"))
    assert found == [b"a.png", b"b/a.png", b"b/e.png", b"z.png"]
    assert len(said) == 1 and said[0].startswith(f"{folder}/b/c: ")


@pytest.mark.parametrize("link", ["folder", "link"])
def test_a_link_that_leads_elsewhere_when_its_turn_comes(
    link: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question where it leads and the opening; also where its target becomes a link."""
    (folder / ".h").mkdir()
    (folder / ".h" / "y.png").touch()
    (folder / "m").symlink_to(".h")
    real = real_path.os.open

    def opened(path: Path, flags: int, *more: int, **others: int) -> int:
        if path == folder / "m" and not flags & os.O_PATH and (folder / "m").exists():
            if link == "link":
                (folder / "m").unlink()
                (folder / "m").symlink_to(folder.parent / "private")
            elif not (folder / "..h").exists():
                becomes(folder / ".h", folder.parent / "private")
        return real(path, flags, *more, **others)

    monkeypatch.setattr(real_path.os, "open", opened)
    said: list[str] = []
    found = [file.name for file in walk(folder, warn=said.append)]
    if link == "link":  # what is asked for is where it led
        assert (found, said) == ([b"a.png", b"b/c/d.png", b"b/e.png", b"m/y.png", b"z.png"], [])
    else:
        assert found == [b"a.png", b"b/c/d.png", b"b/e.png", b"z.png"]
        assert len(said) == 1 and said[0].startswith(f"{folder}/m: ")


def test_scans_count_it_as_unreadable(folder: Path) -> None:
    passed, names = PassedOver(), []
    for page in scan([str(folder)], IN_PROCESS, passed=passed):
        names.append(page.image)
        if page.image == "a.png":
            becomes(folder / "b", folder.parent / "private")
    assert names == ["a.png", "z.png"] and passed.counts == {UNREADABLE: 1}


def test_a_source_below_a_link_is_read(folder: Path) -> None:
    (folder.parent / "here").symlink_to(folder.parent)
    found, said = walked(folder.parent / "here" / "in", b"", lambda: None)
    assert (found, said) == ([b"a.png", b"b/c/d.png", b"b/e.png", b"z.png"], [])


def test_other_capitals_are_the_same_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As exFAT, ext4 with casefold and SMB have it: the kernel may name an open folder as it was first asked for."""
    real = real_path.place_of
    monkeypatch.setattr(real_path, "place_of", lambda number, name: Path(str(real(number, name)).upper()))
    assert listed(folder / "b") == ["c", "e.png"]
    becomes(folder / "b", folder.parent / "private")
    before = descriptors()
    for name in ("b", "b/c"):
        with pytest.raises(OSError, match="Not a directory"):
            listed(folder / name)
    assert descriptors() == before


@pytest.mark.slow
def test_a_watched_folder_looks_into_none_of_a_systems(folder: Path) -> None:
    """Before: previews and what lies in the recycle bin were pages of it, and of no other scan."""
    for junk in ("@eaDir", "#recycle", "$RECYCLE.BIN", "__MACOSX", "b/@eaDir/x.png"):
        (folder / junk).mkdir(parents=True)
        (folder / junk / "fax.png").touch()
    found = [found.name for found in Settling(folder, (), settle_s=0).ready()]
    assert found == [b"a.png", b"b/c/d.png", b"b/e.png", b"z.png"]


@pytest.mark.slow
def test_a_picture_that_became_a_link_is_not_opened(environment: dict[str, str], tmp_path: Path) -> None:
    """Before: `resume`, and what `run` and a watched folder come to late, detected what lies elsewhere."""
    [picture, other] = write_images(tmp_path / "in", 2)
    secret = tmp_path / "secret.jpg"
    out = tmp_path / "out"
    run = ("ocr-producer", "run", tmp_path / "in", "-o", out, "--quiet", "--no-report")
    assert command(environment, *run).returncode == 0
    kept = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(line for line in kept if picture.name.encode() not in line))
    picture.rename(secret)
    picture.symlink_to(secret)
    assert command(environment, "ocr-producer", "resume", out, "--quiet").returncode == 1
    records = {record["image"]: record for record in map(json.loads, (out / "results.jsonl").read_text().splitlines())}
    assert records[other.name]["status"] == "ok"
    assert records[picture.name]["error"]["type"] == "NotFound"
    assert "outside the allowed roots" in records[picture.name]["error"]["message"]
