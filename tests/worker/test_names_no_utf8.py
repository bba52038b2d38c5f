"""Names that are no UTF-8, as in old zips and on FTP servers: the page gets its own record, whatever it names."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from detector.errors import ImageError, as_utf8, json_line
from detector.record import ErrorRecord, ModelRecord
from producer.answer_line import answer_line
from producer.detector_process.members import MemberTaken
from worker.messages import ImageRecord, ImageTask, encode_record, failed_record
from worker.storage import Storage

ROOT = Path(__file__).parents[2]
TASK = ImageTask(job="j", index=0, image="x", uri="file:///x")
GONE = {
    "a file": "file://{root}/gone%E9.jpg",
    "too long a name": "file://{root}/" + "x" * 300 + "%E9.jpg",
    "a folder": "file://{root}/d%E9",
    "outside": "file:///nowhere/%E9.jpg",
    "a NUL": "file://{root}/%00%E9.jpg",
    "no archive": "zip+file://{root}/gone%E9.zip#a.jpg",
    "no zip member": "zip+file://{root}/lat%E9.zip#n%E9.jpg",
    "a broken zip member": "zip+file://{root}/lat%E9.zip#a.jpg",
    "no tar member": "tar+file://{root}/lat%E9.tar#n%E9.jpg",
    "a broken zip": "zip+file://{root}/broken%E9.zip#a.jpg",
    "a broken tar": "tar+file://{root}/broken%E9.zip#a.jpg",
    "a broken 7z": "sevenzip+file://{root}/broken%E9.zip#a.jpg",
}


@pytest.mark.parametrize("what", GONE)
def test_the_error_of_such_a_name_is_a_record(what: str, tmp_path: Path) -> None:
    """Before: UnicodeEncodeError; the page was tried three times, and after 100 s it was a lost worker's."""
    root = tmp_path / "in"
    (root / os.fsdecode(b"d\xe9")).mkdir(parents=True)
    lat = root / os.fsdecode(b"lat\xe9.zip")
    with zipfile.ZipFile(lat, "w") as archive:
        archive.writestr("a.jpg", b"some bytes")
    lat.write_bytes(lat.read_bytes().replace(b"some bytes", b"more bytes"))  # of another CRC
    with tarfile.open(lat.with_suffix(".tar"), "w"):
        pass
    (root / os.fsdecode(b"broken\xe9.zip")).write_bytes(b"PK\5\6 no archive")
    storage = Storage((root,), tmp_path / "spool")
    with pytest.raises(ImageError) as caught, storage.open_file(GONE[what].format(root=quote(str(root)))):
        pass
    made = failed_record(TASK, caught.value.type, str(caught.value))
    record, data = encode_record(made)
    assert record is made and msgspec.json.decode(data, type=ImageRecord) == made
    assert made.error is not None and made.error.type == caught.value.type and "e9" in made.error.message


def test_what_is_no_utf8_is_written_out() -> None:
    text = "é 茶 \U0001f600"
    assert as_utf8(text) == text
    assert as_utf8(os.fsdecode(b"a\xe9\xff") + "\ud83d" + "é") == r"a\xe9\xff\ud83dé"
    assert ErrorRecord("Internal", "\ud800").message == r"\ud800"


def test_whatever_a_program_answers_is_json() -> None:
    """Before: msgspec refused it, and what `json.dumps` made of it who asked could not read."""
    odd = os.fsdecode(b"a\xe9") + "\ud83d"
    answer = MemberTaken("NotFound", odd)
    assert msgspec.json.decode(answer_line(answer)) == {**msgspec.to_builtins(answer), "error": r"a\xe9\ud83d"}
    assert answer_line(MemberTaken("é")) == msgspec.json.encode(MemberTaken("é")) + b"\n"
    assert msgspec.json.decode(json_line({odd: [odd, {"é": (odd, 1.5, None)}]})) == {
        r"a\xe9\ud83d": [r"a\xe9\ud83d", {"é": [r"a\xe9\ud83d", 1.5, None]}]
    }


def test_no_program_makes_its_answer_by_itself() -> None:
    """One that comes by later would die of such a name again."""
    sources = [path for package in ("detector", "producer") for path in (ROOT / package).rglob("*.py")]
    written = [made for path in sources for made in re.findall(r"answers\.write\((\w+)", path.read_text())]
    assert len(written) >= 9 and set(written) == {"answer_line", "json_line"}


def test_a_record_that_cannot_be_written_is_a_failed_one() -> None:
    """Of a text that nobody thought of; the page must not be tried again and again."""
    odd = ImageRecord(job="j", index=3, image="a.jpg", page=1, status="ok", model=ModelRecord("\ud800", "", ""))
    record, data = encode_record(odd)
    assert (record.status, record.index, record.page) == ("failed", 3, 1)
    assert record.error is not None and record.error.type == "Internal"
    assert msgspec.json.decode(data, type=ImageRecord) == record


@pytest.mark.parametrize("kind", ["zip", "pax.tar", "gnu.tar"])
def test_members_are_found_in_any_locale(kind: str, tmp_path: Path) -> None:
    """Before: a member of such a name was not there where the locale was not UTF-8; here it is ASCII."""
    archive, name = tmp_path / f"a.{kind}", "mé/茶.jpg"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as bundle:
            bundle.writestr(name, b"bytes")
    else:
        form = tarfile.PAX_FORMAT if kind == "pax.tar" else tarfile.GNU_FORMAT
        with tarfile.open(archive, "w", format=form) as tar:
            header = tarfile.TarInfo(name)
            header.size = 5
            tar.addfile(header, io.BytesIO(b"bytes"))
    listed = "'.'.join(quote(found.name) for found in members(archive, kind, passed=PassedOver()))"
    program = f"""
import sys
from pathlib import Path
from urllib.parse import quote
from producer.sources.archive import members
from producer.sources.passed_over import PassedOver
from worker.storage import Storage
archive, kind = Path(sys.argv[1]), sys.argv[2]
names = {listed}
with Storage((), Path(sys.argv[3])).open(f"{{kind}}+file://{{archive}}#{{names}}") as copy:
    print(sys.getfilesystemencoding(), copy.read_text(), names)
"""
    ascii_only = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-c", program, str(archive), kind[-3:], str(tmp_path / "spool")]
    said = subprocess.run(words, env=ascii_only, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["ascii", "bytes", quote(name)]
