"""Records travel: they tell neither what a disk holds outside the roots, nor a byte of what it holds inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.errors import ImageError, NotFound, UnsupportedFormat
from detector.images.page import open_page
from worker.storage.files import Storage

SECRET = b"root:$6$salt$hash:19000:0:99999:7:::\n" * 40


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the root: a file, a folder, a file nobody may read, and a way there through a link."""
    folder = tmp_path / "outside"
    (folder / "folder").mkdir(parents=True)
    (folder / "file").write_bytes(SECRET)
    (folder / "closed").write_bytes(SECRET)
    (folder / "closed").chmod(0)
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(folder)
    return folder


@pytest.mark.parametrize("roots", [("root",), ()])
def test_one_answer_for_all_paths_outside(roots: tuple[str, ...], outside: Path, tmp_path: Path) -> None:
    """Before: no such file, not a regular file, no permission: an oracle for whoever may write to the queue."""
    storage = Storage(tuple(tmp_path / name for name in roots), tmp_path / "spool", any_path=False)
    said = set()
    names = (
        "outside/file",
        "outside/folder",
        "outside/closed",
        "outside/nothing",
        "root/link/file",
        "root/../outside/no",
    )
    for name in names:
        for scheme, member in (("file", ""), ("zip+file", "#a.jpg"), ("tar+file", "#a.jpg")):
            with pytest.raises(NotFound) as refused, storage.open(f"{scheme}://{tmp_path}/{name}{member}"):
                pass
            said.add(str(refused.value).partition(" is outside ")[2])
    assert len(said) == 1 and "allowed roots" in said.pop()
    with pytest.raises(UnsupportedFormat), storage.open(f"http://{tmp_path}/file"):
        pass


@pytest.mark.parametrize("name", ["shadow", "shadow.jpg", "shadow.pdf", "shadow.tif", "shadow.zip"])
def test_no_byte_of_a_file_is_in_a_message(name: str, tmp_path: Path) -> None:
    """Before: content starts with 'root:$6$salt'."""
    (tmp_path / name).write_bytes(SECRET)
    for scheme in ("file", "zip+file", "tar+file"):
        with (
            pytest.raises(ImageError) as refused,
            Storage((), tmp_path / "spool").open(f"{scheme}://{tmp_path / name}#a.jpg") as path,
        ):
            open_page(path, limit_side=640)
        assert not any(word in str(refused.value) for word in ("root:", "salt", "19000")), refused.value
