"""Members of 7z and tar.zst: in any order, a solid block once, and nothing that its header lies about is unpacked."""

from __future__ import annotations

import io
import os
import random
import struct
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import py7zr
import pytest
from py7zr.compressor import SevenZipDecompressor

from detector.errors import CorruptImage, ImageError, NotFound, TooLarge, UnsupportedFormat
from producer.sources.archive import members
from tests.archives import other_method, wide_zst, write_7z, write_zst
from tests.worker.storage.test_files import uri
from worker.storage import Storage, sevenzip, tars

MEMBERS = {f"{number}.jpg": bytes([number]) * 100_000 for number in range(20)}


@pytest.fixture
def store(tmp_path: Path) -> Storage:
    return Storage((), tmp_path / "spool")


def read(store: Storage, path: Path, name: str, scheme: str = "sevenzip+file") -> bytes:
    with store.open(uri(path, scheme, name.encode())) as opened:
        return opened.read_bytes()


def refused(store: Storage, path: Path, name: str = "3.jpg", scheme: str = "sevenzip+file") -> ImageError:
    with pytest.raises(ImageError) as caught:
        read(store, path, name, scheme)
    assert not list(store.spool.iterdir())
    return caught.value


@pytest.mark.parametrize(("write", "scheme"), [(write_7z, "sevenzip+file"), (write_zst, "tar+file")])
def test_members_in_any_order(store: Storage, tmp_path: Path, write: object, scheme: str) -> None:
    path = tmp_path / "a.archive"
    write(path, MEMBERS)  # type: ignore[operator]
    for name in ("0.jpg", "1.jpg", "7.jpg", "7.jpg", "2.jpg", "19.jpg"):
        assert read(store, path, name, scheme) == MEMBERS[name]
    assert isinstance(refused(store, path, "nobody.jpg", scheme), NotFound)
    assert read(store, path, "5.jpg", scheme) == MEMBERS["5.jpg"], "and goes on after it"


def write_zip(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in members.items():
            bundle.writestr(zipfile.ZipInfo(name), content)


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as bundle:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            bundle.addfile(header, io.BytesIO(content))


@pytest.mark.parametrize(("write", "scheme"), [(write_tar, "tar+file"), (write_zip, "zip+file")])
def test_another_of_its_size_and_time_in_its_place(store: Storage, tmp_path: Path, write: object, scheme: str) -> None:
    """Reproducible archives have one time. Before: the old one's member, in the record of the new one's page."""
    sizes = set()
    for content in (b"a", b"b"):
        write(tmp_path / "new", {"1.jpg": content * 1000, "2.jpg": content * 1000})  # type: ignore[operator]
        os.utime(tmp_path / "new", (10**9, 10**9))
        sizes.add((tmp_path / "new").stat().st_size)
        (tmp_path / "new").replace(tmp_path / "a.archive")
        for name in ("1.jpg",) if content == b"a" else ("2.jpg", "1.jpg"):
            assert read(store, tmp_path / "a.archive", name, scheme) == content * 1000
    assert len(sizes) == 1


@pytest.mark.parametrize("method", [py7zr.FILTER_LZMA2, py7zr.FILTER_LZMA, py7zr.FILTER_BZIP2, py7zr.FILTER_DEFLATE])
def test_a_spoilt_block_of_several(store: Storage, tmp_path: Path, method: int) -> None:
    """Before: none behind it could be read, though `7z x` takes them out; or they were not listed at all."""
    path, chance = tmp_path / "a.7z", random.Random(1)
    content = {f"{number}.jpg": chance.choices(range(9), k=9000) for number in range(6)}
    for block in (["0.jpg", "1.jpg", "2.jpg"], ["3.jpg", "4.jpg"], ["5.jpg"]):
        with py7zr.SevenZipFile(path, "a" if path.exists() else "w", filters=[{"id": method}]) as archive:
            for name in block:
                archive.writestr(bytes(content[name]), name)
    data = bytearray(path.read_bytes())
    data[2000:2040] = chance.randbytes(40)
    path.write_bytes(data)
    pages = [(member.shown, member.number) for member in members(path, "7z")]
    assert pages == [(name.encode(), number) for number, name in enumerate(content)]
    for _ in range(2):
        for name in ("0.jpg", "1.jpg", "2.jpg"):
            assert isinstance(refused(store, path, name), CorruptImage)
        for name in ("3.jpg", "4.jpg", "5.jpg"):
            assert read(store, path, name) == bytes(content[name])


@pytest.mark.slow
def test_a_solid_block_is_unpacked_once(store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_7z(tmp_path / "a.7z", MEMBERS)
    unpacked = 0
    step = SevenZipDecompressor.decompress

    def counted(self: SevenZipDecompressor, *arguments: object, **options: object) -> bytes:
        nonlocal unpacked
        data: bytes = step(self, *arguments, **options)
        unpacked += len(data)
        return data

    monkeypatch.setattr(SevenZipDecompressor, "decompress", counted)
    for name, content in MEMBERS.items():
        assert read(store, tmp_path / "a.7z", name) == content
    assert unpacked < 1.1 * sum(map(len, MEMBERS.values())), "from the front for each it would be ten times as much"


def test_a_large_dictionary_is_refused_before_anything_is_unpacked(store: Storage, tmp_path: Path) -> None:
    other_method(tmp_path / "a.7z", MEMBERS, b"\x21\x01\x20")
    error = refused(store, tmp_path / "a.7z")
    assert isinstance(error, UnsupportedFormat) and "256 MiB" in str(error) and "7z x" in str(error)
    other_method(tmp_path / "a.7z", MEMBERS, b"\x21\x01\x1c")  # 64 MiB, "ultra": allowed
    assert read(store, tmp_path / "a.7z", "3.jpg") == MEMBERS["3.jpg"]
    wide_zst(tmp_path / "a.tar.zst")
    assert isinstance(refused(store, tmp_path / "a.tar.zst", scheme="tar+file"), CorruptImage)


def test_an_unknown_method_is_named(store: Storage, tmp_path: Path) -> None:
    other_method(tmp_path / "a.7z", MEMBERS, b"\x7f\x01\x18")
    error = refused(store, tmp_path / "a.7z")
    assert isinstance(error, UnsupportedFormat) and "7f" in str(error)


def test_a_bomb_is_refused_before_anything_is_unpacked(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sevenzip, "FREE_BYTES", 1 << 20)
    monkeypatch.setattr(sevenzip, "MOST_RATIO", 1000)
    write_7z(tmp_path / "a.7z", {"3.jpg": bytes(2 << 20)})
    error = refused(store, tmp_path / "a.7z")
    assert isinstance(error, CorruptImage) and "2 MiB would come out of" in str(error)


def test_a_member_that_says_it_is_too_large_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_7z(tmp_path / "a.7z", MEMBERS)
    monkeypatch.setattr("worker.storage.files.MAX_MEMBER_BYTES", 1000)
    assert isinstance(refused(Storage((), tmp_path / "spool"), tmp_path / "a.7z", "0.jpg"), TooLarge)


@pytest.mark.slow
def test_a_table_of_contents_that_lacks_a_part(store: Storage, tmp_path: Path) -> None:
    """Before: an AttributeError, which was a fault of ours."""
    table = b"\x01\x04\0\0"  # streams, without what they are
    head = struct.pack("<QQI", 0, len(table), zlib.crc32(table))
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<I", zlib.crc32(head)) + head + table)
    with (
        pytest.raises(CorruptImage, match="does not say how"),
        store.open(f"sevenzip+file://{tmp_path}/a.7z?member=0#a"),
    ):
        pass


def test_a_password_is_said(store: Storage, tmp_path: Path) -> None:
    write_7z(tmp_path / "a.7z", MEMBERS, password="secret")
    error = refused(store, tmp_path / "a.7z")
    assert isinstance(error, UnsupportedFormat) and "locked by a password" in str(error)


def test_flipped_bytes_and_lost_ends_are_typed_errors(store: Storage, tmp_path: Path) -> None:
    path, content = tmp_path / "a.7z", bytes(range(256)) * 40 + b"end"
    write_7z(path, {"3.jpg": content})
    whole = path.read_bytes()
    told = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert read(store, path, "3.jpg") == content, "a byte that means nothing"
        except ImageError:
            told += 1
    assert told > len(whole) // 7 * 0.7
    for length in (0, 5, 31, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert isinstance(refused(store, path), CorruptImage)


def test_without_the_extra_it_says_what_is_missing(
    store: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_7z(tmp_path / "a.7z", MEMBERS)
    write_zst(tmp_path / "a.tar.zst", MEMBERS)
    monkeypatch.setitem(sys.modules, "py7zr", None)
    monkeypatch.setattr(tars, "zstd", None)
    for name, scheme in (("a.7z", "sevenzip+file"), ("a.tar.zst", "tar+file")):
        error = refused(store, tmp_path / name, scheme=scheme)
        assert isinstance(error, UnsupportedFormat) and "ocrfleet[archives]" in str(error)
