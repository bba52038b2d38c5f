"""Links by the thousand, which cost whoever lays them nothing: a walk ends, soon, and finds what it did."""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from producer.growing.settling import Settling
from producer.job.output_folder import JobRequest, OutputFolder
from producer.sources.passed_over import OUTSIDE, PassedOver
from producer.sources.scan import scan
from producer.sources.walk import walk
from producer.web.addresses import may_read
from tests.producer.records import IN_PROCESS


@pytest.mark.slow
def test_a_row_of_links_hides_no_picture(tmp_path: Path) -> None:
    """Before: RecursionError, at each start: no other file of a watched folder was ever done."""
    root = tmp_path / "in"
    root.mkdir()
    for number in range(1000):
        (root / f"l{number:04}.png").symlink_to(f"l{number + 1:04}.png")
    (root / "z.png").touch()
    (root / "more.png").symlink_to("l0000.png")
    passed = PassedOver()
    found = [page.image for page in scan([str(root)], IN_PROCESS, passed=passed)]
    assert found == [*(f"l{number:04}.png" for number in range(1000)), "more.png", "z.png"]
    assert not passed.counts, "each is a page, which fails"
    assert [file.path.name for file in Settling(root, (), settle_s=0).ready()] == ["z.png"]
    assert may_read((root / "z.png").as_uri(), (root,))
    assert not may_read((root / ("d/" * 1000)).as_uri(), (root,)), "too long to tell"
    folder = OutputFolder(tmp_path / "out")
    folder.save_request(JobRequest(job="j", sources=[str(root / "l0000.png")]))
    assert folder.source_roots() == (root / "l0040.png",)


def test_a_link_that_becomes_a_file_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: exit 2 of a watched folder, after a few looks at one in which somebody swaps links for files."""
    (tmp_path / "a.png").touch()
    (tmp_path / "l.png").symlink_to("a.png")
    (tmp_path / "m.png").symlink_to("gone.png")
    look = os.readlink

    def readlink(name: str | Path) -> str:
        if str(tmp_path) in str(name):
            raise OSError(errno.EINVAL, "Invalid argument", str(name))
        return look(name)

    monkeypatch.setattr(os, "readlink", readlink)
    assert [found.name for found in walk(tmp_path)] == [b"a.png", b"l.png", b"m.png"]


@pytest.mark.slow
def test_hidden_folders_and_links_to_them(tmp_path: Path) -> None:
    """Before: 7 s for 1,000 of them, 40 minutes for 20,000, at each look at a watched folder."""
    (tmp_path / ".h").mkdir()
    for number in range(1000):
        (tmp_path / ".h" / str(number)).mkdir()
        (tmp_path / f"l{number}").symlink_to(f".h/{number}")
    (tmp_path / ".h/999/a.png").touch()
    begun = time.process_time()
    assert [found.name for found in walk(tmp_path, outside=lambda link: False)] == [b"l999/a.png"]
    assert time.process_time() - begun < 4


def test_a_link_to_a_folder_above_that_of_another_link(tmp_path: Path) -> None:
    """Before: it was passed over, and so was all that only it led to."""
    (tmp_path / ".h/a/b").mkdir(parents=True)
    (tmp_path / ".h/a/c").mkdir()
    (tmp_path / ".h/a/b/1.png").touch()
    (tmp_path / ".h/a/c/2.png").touch()
    (tmp_path / ".h/a/b/up").symlink_to("..")
    (tmp_path / "l").symlink_to(".h/a/b")
    (tmp_path / "m").symlink_to(".h/a")
    assert sorted(found.name for found in walk(tmp_path)) == [b"l/1.png", b"l/up/c/2.png"]
    (tmp_path / ".h/a/b/up").unlink()
    assert sorted(found.name for found in walk(tmp_path)) == [b"l/1.png", b"m/c/2.png"]


def plain_walk(folder: Path, walked: list[Path], out: list[Path], follow: bool) -> Iterator[Path]:
    """What a walk finds, as it is defined: each link is compared with all trees before."""
    for path in sorted(folder.iterdir(), key=os.fsencode):
        if path.name.startswith("."):
            continue
        real = Path(os.path.realpath(path))
        if path.is_symlink() and not real.is_relative_to(walked[0]):
            out.append(path)
            if not follow:
                continue
        if not path.is_dir():
            yield path
        elif not path.is_symlink():
            if real not in walked:
                yield from plain_walk(path, walked, out, follow)
        elif not walked[0].is_relative_to(real) and not any(
            real.is_relative_to(tree) and not any(part[0] == "." for part in real.relative_to(tree).parts)
            for tree in walked
        ):
            walked.append(real)
            yield from plain_walk(path, walked, out, follow)


def forest(root: Path, chance: random.Random) -> None:
    """Folders, hidden ones too, files, and links between all of them, out of them, to nothing and in circles."""
    root.mkdir()
    (root / "in").mkdir()
    folders = [root, root / "in"]
    for _ in range(12):
        folder = chance.choice(folders) / chance.choice(["a", "b", ".h", ".k"])
        if not folder.exists():
            folder.mkdir()
            folders.append(folder)
    for _ in range(8):
        (chance.choice(folders) / chance.choice("xy")).touch()
    made = list(folders)
    for _ in range(12):
        link = chance.choice(folders) / chance.choice(["l", "m", ".n", "o"])
        target = chance.choice(made)
        targets = [str(target), os.path.relpath(target, link.parent), "gone", "../l", str(target / "x"), link.name]
        if not link.is_symlink():
            link.symlink_to(chance.choice(targets))
            made.append(link)


@pytest.mark.slow
@pytest.mark.parametrize("follow", [False, True])
def test_a_walk_finds_what_it_did(follow: bool, tmp_path: Path) -> None:
    found = 0
    for seed in range(40):
        root = tmp_path / str(seed)
        forest(root, random.Random(seed))
        out: list[Path] = []
        wanted_out: list[Path] = []

        def outside(link: Path, out: list[Path] = out) -> bool:
            out.append(link)
            return follow

        files = [file.path for file in walk(root / "in", outside=outside)]
        wanted = list(plain_walk(root / "in", [root / "in"], wanted_out, follow))
        assert (sorted(files), out) == (sorted(wanted), wanted_out), seed
        found += len(files)
    assert found > 50


def test_a_link_out_that_cannot_be_told_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "l.jpg").symlink_to("d/" * 1000 + "x.jpg")
    passed = PassedOver()
    assert [page.image for page in scan([str(tmp_path)], IN_PROCESS, passed=passed)] == []
    assert passed.counts[OUTSIDE] == 1
