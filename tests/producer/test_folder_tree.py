"""Folders in each other, by the thousand: looked at and removed as others are."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.cli.detect import page_files
from producer.folder_tree import entries_below, remove_tree
from producer.new_folder import new_folder
from producer.no_links import OthersFolderError, refuse_links
from producer.sources.scan import scan
from producer.web.store import Store, WebJob
from tests.producer.records import IN_PROCESS

DEPTH = 300
"""Deeper than Python calls itself here; elsewhere it takes a thousand, which take seconds to make and remove."""


@pytest.fixture(autouse=True)
def calls_itself_a_hundred_times() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    yield
    sys.setrecursionlimit(before)


def dig(folder: Path, *, link: bool = False) -> Path:
    """A tree of that depth with a file at its end, or a link."""
    folder.mkdir()
    here = os.open(folder, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.symlink("/etc/hostname", "a", dir_fd=here) if link else os.mkdir("a", dir_fd=here)
    os.close(here)
    return folder


def test_deep_trees(tmp_path: Path) -> None:
    deep = dig(tmp_path / "deep", link=True)
    with pytest.raises(RecursionError):
        shutil.rmtree(deep, ignore_errors=True)
    assert sum(1 for _ in entries_below(deep)) == DEPTH + 1
    with pytest.raises(OthersFolderError, match="is a link"):
        refuse_links(deep)
    remove_tree(deep)
    assert not deep.exists()
    remove_tree(deep)


def test_two_who_make_one_folder_are_not_in_each_others_way(tmp_path: Path) -> None:
    """Before: the first went on in a folder that the second removed, and what it made then replaced the whole."""
    target = tmp_path / "export-txt"
    with new_folder(target, replace=True) as first:
        (first / "scan").mkdir()
        (first / "scan/one").touch()
        with new_folder(target, replace=True) as second:
            (second / "one").touch()
        (first / "scan/two").touch()
    assert sorted(path.name for path in target.rglob("*")) == ["one", "scan", "two"]
    with pytest.raises(FileNotFoundError, match="was removed"), new_folder(target, replace=True):
        (third,) = tmp_path.glob(".export-txt.*")
        remove_tree(third)
        (third / "mine").mkdir(parents=True)
    assert (third / "mine").exists(), "somebody else's"
    assert sorted(path.name for path in target.rglob("*")) == ["one", "scan", "two"]


def test_pictures_in_deep_trees_are_found(tmp_path: Path) -> None:
    """Before: RecursionError of `ocr-detector detect FOLDER`, and of `enqueue 'FOLDER/**/*.png'`."""
    deep = dig(tmp_path / "deep")
    last = deep.joinpath(*["d"] * DEPTH, "z.png")
    for picture in (deep / "a.png", last):
        picture.touch()
    assert list(page_files((deep,))) == [deep / "a.png", last]
    pages = scan([str(deep / "**" / "*.png")], IN_PROCESS)
    assert [page.uri for page in pages] == [f"file://{deep / 'a.png'}", f"file://{last}"]
    remove_tree(deep)


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/a").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path / "kept")
    assert [entry.name for entry in entries_below(tmp_path / "folder")] == ["link"]
    remove_tree(tmp_path / "folder")
    remove_tree(tmp_path / "folder")
    assert (tmp_path / "kept/a").exists() and not (tmp_path / "folder").exists()


def test_a_page_begins_and_measures_in_spite_of_them(tmp_path: Path) -> None:
    """Before: after one zip of 1,800 folders in each other, all was answered 500, and no page began again."""
    store = Store(tmp_path)
    assert store.accept(store.new_upload(), "job", WebJob(created=1))
    dig(store.new_export() / "d")
    dig(store.folder("job").root / "d")
    assert store.room.used() > 2 * DEPTH
    store.clean()
    store.throw_away("job")
    assert [list((tmp_path / name).iterdir()) for name in ("incoming", "jobs", "trash", "exports")] == [[], [], [], []]
