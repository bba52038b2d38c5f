"""A tar or 7z that holds a name twice (`tar rf` of a changed picture): both are pages, and each is what is read."""

from __future__ import annotations

import io
import random
import tarfile
import warnings
import zipfile
from contextlib import closing
from pathlib import Path

import py7zr
import pytest

from producer.archive_process.limited_readers import limited_readers
from producer.detector_process.member_fetcher import ProducerStorage
from producer.sources.archive import members
from producer.sources.passed_over import REPLACED, PassedOver
from producer.sources.scan import file_uri, scan
from worker.storage.files import Storage

Entries = list[tuple[str, bytes]]
CHANGED: Entries = [
    (name, b"\x89PNG\r\n\x1a\n" + name.encode() + version)
    for version in (b" before", b" after", b" at last")
    for name in ("a.png", "b.png", "c.png")
]
BESIDE: Entries = sorted(CHANGED, key=lambda entry: entry[0])


def write_tar(path: Path, entries: Entries, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in entries:
            folder = tarfile.TarInfo(f"folder-{name}")
            folder.type = tarfile.DIRTYPE
            tar.addfile(folder)  # what is passed over counts as well
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_7z(path: Path, entries: Entries) -> Path:
    with py7zr.SevenZipFile(path, "w") as archive:
        for name, data in entries:
            archive.writestr(data, name)
    return path


def written(folder: Path, suffix: str, entries: Entries) -> Path:
    if suffix == "7z":
        return write_7z(folder / "a.7z", entries)
    return write_tar(folder / f"a.{suffix}", entries, "w:gz" if suffix == "tar.gz" else "w")


def listed(path: Path) -> list[tuple[str, str]]:
    with limited_readers() as readers:
        return [(page.image, page.uri) for page in scan([str(path)], readers)]


def content(storage: Storage, uri: str) -> bytes:
    with storage.open(uri) as copy:
        return copy.read_bytes()


@pytest.mark.parametrize("folder", ["", "./", "sub/", "./sub/"])
@pytest.mark.parametrize(("kind", "means"), [(tarfile.SYMTYPE, "a.png"), (tarfile.LNKTYPE, "{folder}a.png")])
def test_a_link_in_a_tar_of_a_folder(tmp_path: Path, folder: str, kind: bytes, means: str) -> None:
    """`tar cf a.tar .` has all names begin with `./`. Before, pages of symbolic links in it were not found."""
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        info, link = tarfile.TarInfo(f"{folder}a.png"), tarfile.TarInfo(f"{folder}link.png")
        info.size, link.type, link.linkname = 5, kind, means.format(folder=folder)
        tar.addfile(info, io.BytesIO(b"bytes"))
        tar.addfile(link)
    found = members(tmp_path / "a.tar", "tar")
    uris = [file_uri(tmp_path / "a.tar", "tar+file", member.name, member.number) for member in found]
    with closing(Storage((), tmp_path / "spool")) as storage:
        assert [content(storage, uri) for uri in uris] == [b"bytes"] * 2


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "7z"])
@pytest.mark.parametrize("entries", [CHANGED, BESIDE], ids=["changed", "beside"])
def test_each_is_read(tmp_path: Path, suffix: str, entries: Entries) -> None:
    pages = listed(written(tmp_path, suffix, entries))
    assert sorted(image.rpartition("/")[2] for image, _ in pages) == sorted(name for name, _ in entries)
    order = [*pages, *random.Random(7).sample(pages, len(pages))]
    with closing(Storage((), tmp_path / "spool")) as kept:
        found = [content(kept, uri) for _, uri in order]
        # Two workers: each meets some of the pages.
        with closing(Storage((), tmp_path / "spool")) as other:
            assert [content(other, uri) for _, uri in pages[1::2]] == found[1 : len(pages) : 2]
    assert sorted(found[: len(pages)]) == sorted(data for _, data in entries)
    assert found == [dict(zip(pages, found, strict=False))[page] for page in order]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tar", "7z"])
def test_of_a_producer_that_sends_bytes(tmp_path: Path, suffix: str) -> None:
    pages = listed(written(tmp_path, suffix, BESIDE))
    (tmp_path / "spool").mkdir()
    with closing(ProducerStorage((), tmp_path / "spool")) as storage:
        assert sorted(content(storage, uri) for _, uri in reversed(pages)) == sorted(data for _, data in BESIDE)


def test_of_a_zip_the_last_copy_is_the_page(tmp_path: Path) -> None:
    """As everything that unpacks it has it; the others are counted."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle, warnings.catch_warnings(action="ignore"):
        for name, data in CHANGED:
            bundle.writestr(name, data)
    passed = PassedOver()
    with limited_readers() as readers, closing(Storage((), tmp_path / "spool")) as storage:
        pages = list(scan([str(tmp_path / "a.zip")], readers, passed=passed))
        assert [content(storage, page.uri) for page in pages] == [data for _, data in CHANGED[-3:]]
    assert passed.counts == {REPLACED: 6}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["tar", "7z"])
def test_packed_anew_since(tmp_path: Path, suffix: str) -> None:
    """Then the names are what is left to go by, as in jobs of before that have no numbers."""
    pages = listed(written(tmp_path, suffix, [("a.png", b"\x89PNG\r\n\x1a\na"), ("b.png", b"\x89PNG\r\n\x1a\nb")]))
    written(tmp_path, suffix, [("b.png", b"new b"), ("c.png", b"new c"), ("a.png", b"new a")])
    with closing(Storage((), tmp_path / "spool")) as storage:
        assert {content(storage, uri) for _, uri in pages} == {b"new a", b"new b"}
        assert {content(storage, uri.replace("?member=", "?other=")) for _, uri in pages} == {b"new a", b"new b"}
