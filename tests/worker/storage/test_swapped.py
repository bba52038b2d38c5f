"""A picture under the roots that becomes a link between the look at it and its opening: what is outside is not read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.errors import NotFound
from tests.swaps import replace_when_looked_at
from worker.storage.files import Storage


@pytest.fixture
def swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    """After the first look at a file it is a link to another."""
    (tmp_path / "roots").mkdir()

    def when_looked_at(path: Path, other: Path) -> None:
        replace_when_looked_at(path, lambda: path.symlink_to(other), monkeypatch)

    return when_looked_at


@pytest.mark.parametrize("any_path", [True, False])
def test_a_link_in_a_files_place_is_not_followed(
    swap: Callable[[Path, Path], None], tmp_path: Path, any_path: bool
) -> None:
    """Before: one of 60 to 170 tries gave the picture outside."""
    (tmp_path / "secret").write_bytes(b"secret")
    picture = tmp_path / "roots" / "a.png"
    picture.write_bytes(b"own")
    storage = Storage((tmp_path / "roots",), tmp_path / "spool", any_path=any_path)
    with storage.open_file(picture.as_uri()) as file:
        assert (file.read(), file.name) == (b"own", str(picture))
    swap(picture, tmp_path / "secret")
    with pytest.raises(NotFound, match="outside the allowed roots"), storage.open_file(picture.as_uri()):
        pass
    assert picture.is_symlink()


def test_nor_in_an_archives_place(swap: Callable[[Path, Path], None], tmp_path: Path) -> None:
    archive, other = tmp_path / "roots" / "a.zip", tmp_path / "b.zip"
    for path, data in ((archive, b"own"), (other, b"secret")):
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("a.png", data)
    storage = Storage((tmp_path / "roots",), tmp_path / "spool")
    swap(archive, other)
    uri = f"zip+{archive.as_uri()}#a.png"
    with pytest.raises(NotFound, match="outside the allowed roots"), storage.open_file(uri):
        pass
    assert archive.is_symlink()


def test_what_is_open_stays_what_it_was(tmp_path: Path) -> None:
    """The page is decoded from what was looked at, whatever is done to its name meanwhile."""
    (tmp_path / "secret").write_bytes(b"secret")
    picture = tmp_path / "roots" / "a.png"
    picture.parent.mkdir()
    picture.write_bytes(b"own")
    with Storage((tmp_path / "roots",), tmp_path / "spool").open_file(picture.as_uri()) as file:
        picture.unlink()
        picture.symlink_to(tmp_path / "secret")
        assert file.read() == b"own"
