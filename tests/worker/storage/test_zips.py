"""Members of zips by their names, as zipfile finds them, in a fraction of its memory."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

from detector.errors import CorruptImage, NotFound, TooLarge
from tests.hostile import many_entries_zip
from tests.worker.storage.test_files import uri
from worker.storage import Storage, zips
from worker.storage.zips import ZipCursor

NAMES = ["a.jpg", "b/ü.jpg", "b/日本.jpg", "c.jpg", "a.jpg", *(f"{number:04d}.jpg" for number in range(100))]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        warnings.simplefilter("ignore")  # a name twice
        for number, name in enumerate(NAMES):
            bundle.writestr(name, f"{number} {name}" * number)
    return path


def same_as_zipfile(path: Path) -> int:
    cursor = ZipCursor()
    with zipfile.ZipFile(path) as bundle:
        for info in reversed(bundle.infolist()):
            with cursor.open_member(path, info.filename) as member:
                assert member.read() == bundle.read(info.filename)
        with pytest.raises(NotFound):
            cursor.open_member(path, "nobody.jpg")
        cursor.close()
        return len(bundle.infolist())


def test_what_zipfile_finds(archive: Path) -> None:
    """Of two members of one name the last, as zipfile and the scan have it."""
    assert same_as_zipfile(archive) == len(NAMES)


def test_of_other_makers(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    (tmp_path / "self-extracting.zip").write_bytes(b"MZ" + bytes(5000) + data)
    (tmp_path / "comment.zip").write_bytes(data[:-2] + b"\x05\0words")
    ascii_name = zipfile.ZipInfo("x\xf1.jpg")
    old = io.BytesIO()
    with zipfile.ZipFile(old, "w") as bundle:
        bundle.writestr(ascii_name, b"old")
    # cp437, as DOS wrote it: no UTF-8 flag
    raw = old.getvalue().replace(b"x\xc3\xb1.jpg", b"x\xa4z.jpg")
    flagless = raw.replace(struct.pack("<H", 0x800), b"\0\0")
    (tmp_path / "dos.zip").write_bytes(flagless)
    for name in ("self-extracting.zip", "comment.zip", "dos.zip"):
        assert same_as_zipfile(tmp_path / name)


@pytest.mark.slow
def test_a_number_of_members_in_16_bits_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "many.zip"
    many_entries_zip(path, 70_000)
    data = path.read_bytes()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x06\x06")
    path.write_bytes(
        data[:end] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 70_000 % 65536, 70_000 % 65536, end - start, start, 0)
    )
    cursor = ZipCursor()
    assert cursor.open_member(path, "0.jpg").read() == b""
    assert cursor._index and cursor._index.zip_of("69999.jpg") and not cursor._index.zip_of("70000.jpg")
    cursor.close()


def test_what_is_damaged_or_too_long_is_a_record(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Storage((), tmp_path / "spool")
    data = archive.read_bytes()
    broken = tmp_path / "b.zip"
    start = data.index(b"PK\x01\x02")
    for spoilt in (
        data[:-30],
        data[:start] + b"XX" + data[start + 2 :],
        data[: start + 99] + data[-22:],
        b"",
        b"PK\5\6",
    ):
        broken.write_bytes(spoilt)
        with pytest.raises((CorruptImage, NotFound)), store.open(uri(broken, "zip+file", b"a.jpg")):
            pass
    monkeypatch.setattr(zips, "MOST_MEMBERS", 100)
    with pytest.raises(TooLarge, match="more than 100 members"), store.open(uri(archive, "zip+file", b"a.jpg")):
        pass


IN_A_WORKER = """
import sys
from pathlib import Path
from detector.memory import limit_memory, peak_rss_mb
from worker.storage import Storage
storage = Storage((), Path(sys.argv[1]) / "spool")
before = peak_rss_mb()
limit_memory(192 << 20)
with storage.open(f"zip+file://{sys.argv[1]}/many.zip#0.jpg") as path:
    assert path.read_bytes() == b""
print(peak_rss_mb() - before)
"""


def test_a_worker_takes_a_member_of_hundreds_of_thousands(tmp_path: Path) -> None:
    """Before: 177 MB, beside a network of 100 in a worker of 192: OutOfMemory after three tries."""
    many_entries_zip(tmp_path / "many.zip", 380_000)
    done = subprocess.run(
        [sys.executable, "-c", IN_A_WORKER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 24
