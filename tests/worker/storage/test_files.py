"""URIs become paths: allowed roots, archives, names of any bytes, and nothing left in the spool."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from detector.errors import CorruptImage, NotFound, TooLarge, UnsupportedFormat
from worker.storage import Storage, zips
from worker.storage import files as storage_module


def uri(path: Path, scheme: str = "file", member: bytes | None = None) -> str:
    fragment = "" if member is None else "#" + quote(member)
    return f"{scheme}://{quote(os.fsencode(path))}{fragment}"


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage((tmp_path / "in",), tmp_path / "spool")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    "name", [b"plain.jpg", b"with space #1?.jpg", "文字.png".encode(), b"line\nbreak", b"caf\xe9.jpg"]
)
def test_any_file_name(store: Storage, inbox: Path, name: bytes) -> None:
    path = inbox / os.fsdecode(name)
    path.write_bytes(b"bytes")
    with store.open(uri(path)) as opened:
        assert opened.read_bytes() == b"bytes"
    assert path.exists(), "the user's own file must never be removed"


@pytest.mark.parametrize(
    ("address", "name", "suffix"),
    [
        ("redis-blob://job/7", "scans/a.tga", ".tga"),
        ("https://host/a%20b.tga?size=large", "", ".tga"),
        ("s3://bucket/a.tga", "a.\ud800", ""),
        ("redis-blob://job/7", "a.x/../y", ""),
    ],
)
def test_a_fetched_copy_keeps_its_suffix(tmp_path: Path, address: str, name: str, suffix: str) -> None:
    """A TGA has no signature. Before: "not an image", where its bytes were sent."""
    fetchers = {address.partition(":")[0]: lambda _, copy: copy.write_bytes(b"bytes")}
    store = Storage((), tmp_path / "spool", fetchers=fetchers)
    with store.open_file(address, name) as copy:
        assert copy.read() == b"bytes" and Path(copy.name).suffix == suffix


def test_outside_the_roots(store: Storage, inbox: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("no")
    (inbox / "link").symlink_to(secret)
    for path in (secret, inbox / "link", inbox / ".." / "secret"):
        with pytest.raises(NotFound, match="OCRFLEET_ROOTS"), store.open(uri(path)):
            pass


def test_what_lies_outside_is_not_told(store: Storage, inbox: Path, tmp_path: Path) -> None:
    """Before: "no such file" against "outside the roots" told anybody with the queue's password which paths exist."""
    (tmp_path / "there").write_text("no")
    answers = set()
    for name in ("there", "gone"):
        with pytest.raises(NotFound) as caught, store.open(uri(inbox / ".." / name)):
            pass
        answers.add(str(caught.value).replace(name, "NAME"))
    assert len(answers) == 1


def test_missing_folder_and_foreign_scheme(store: Storage, inbox: Path) -> None:
    with pytest.raises(NotFound, match="no such file"), store.open(uri(inbox / "gone.jpg")):
        pass
    with pytest.raises(NotFound, match="not a regular file"), store.open(uri(inbox)):
        pass
    with pytest.raises(UnsupportedFormat), store.open("gopher://host/a.jpg"):
        pass


def make_tar(path: Path, names: list[bytes], mode: str) -> None:
    with tarfile.open(path, mode) as archive:
        for name in names:
            info = tarfile.TarInfo(os.fsdecode(name))
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name))


def test_zip_members(store: Storage, inbox: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(inbox / "a.zip", "w") as archive:
        archive.writestr("sub/b #.jpg", b"inside")
    with store.open(uri(inbox / "a.zip", "zip+file", b"sub/b #.jpg")) as opened:
        assert opened.read_bytes() == b"inside"
        assert opened.parent == tmp_path / "spool"
    assert list((tmp_path / "spool").iterdir()) == []
    with pytest.raises(NotFound), store.open(uri(inbox / "a.zip", "zip+file", b"nobody.jpg")):
        pass
    (inbox / "b.zip").write_bytes(b"PK\3\4 torn")
    with pytest.raises(CorruptImage), store.open(uri(inbox / "b.zip", "zip+file", b"x")):
        pass
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_tar_members_in_any_order(store: Storage, inbox: Path, compression: str) -> None:
    names = [b"%d.jpg" % number for number in range(5)]
    path = inbox / f"a.tar.{compression}"
    make_tar(path, names, f"w:{compression}")
    for name in [*names, names[2], names[0], names[0]]:
        with store.open(uri(path, "tar+file", name)) as opened:
            assert opened.read_bytes() == name
    with pytest.raises(NotFound), store.open(uri(path, "tar+file", b"nobody")):
        pass


def test_a_whole_tar_in_order_is_read_once(store: Storage, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"%d.jpg" % number for number in range(20)]
    make_tar(inbox / "a.tar", names, "w:")
    headers = 0
    step = tarfile.TarFile.next

    def counted(self: tarfile.TarFile) -> tarfile.TarInfo | None:
        nonlocal headers
        headers += 1
        return step(self)

    monkeypatch.setattr(tarfile.TarFile, "next", counted)
    for name in names:
        with store.open(uri(inbox / "a.tar", "tar+file", name)):
            pass
    assert headers < 2 * len(names), "looking each member up from the front would read 200"


def test_a_zips_directory_is_read_once(store: Storage, inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    begin = zips._Index.__init__

    def counted(self: Any, file: Any, archive: Path) -> None:
        opened.append(archive.name)
        begin(self, file, archive)

    def write(name: str, content: bytes) -> None:
        with zipfile.ZipFile(inbox / name, "w") as archive:
            for number in range(5):
                archive.writestr(f"{number}.jpg", content)

    def read(name: str, number: int) -> bytes:
        with store.open(uri(inbox / name, "zip+file", b"%d.jpg" % number)) as page:
            return page.read_bytes()

    write("a.zip", b"first")
    write("b.zip", b"second")
    monkeypatch.setattr(zips._Index, "__init__", counted)
    assert {read("a.zip", number) for number in range(5)} == {b"first"}
    assert opened == ["a.zip"]
    assert read("b.zip", 0) == b"second" and read("a.zip", 0) == b"first"
    assert opened == ["a.zip", "b.zip"], "jobs take turns"
    write("c.zip", b"third")
    assert read("c.zip", 0) == b"third" and read("b.zip", 0) == b"second" and read("a.zip", 0) == b"first"
    assert opened == ["a.zip", "b.zip", "c.zip", "b.zip", "a.zip"], "two are kept, not all"
    write("a.zip", b"changed")
    assert read("a.zip", 1) == b"changed", "not what was there before"


def test_a_torn_archive_does_not_spoil_the_one_before(store: Storage, inbox: Path) -> None:
    make_tar(inbox / "good.tar", [b"a", b"b"], "w:")
    (inbox / "torn.tar").write_bytes(b"not a tar")
    with store.open(uri(inbox / "good.tar", "tar+file", b"a")):
        pass
    with pytest.raises(CorruptImage), store.open(uri(inbox / "torn.tar", "tar+file", b"a")):
        pass
    with store.open(uri(inbox / "good.tar", "tar+file", b"b")) as opened:
        assert opened.read_bytes() == b"b"


def test_bombs_do_not_fill_the_disk(
    store: Storage, inbox: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "MAX_MEMBER_BYTES", 1000)
    with zipfile.ZipFile(inbox / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 22))
    with pytest.raises(TooLarge), store.open(uri(inbox / "bomb.zip", "zip+file", b"zeros")):
        pass
    assert list((tmp_path / "spool").iterdir()) == []
