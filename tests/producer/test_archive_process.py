"""Archives that a scan must survive: each costs a failed record, in bounded memory and time, and the job goes on."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from urllib.parse import quote

import msgspec
import pytest

from detector.images.regular_file import seen_as
from producer.archive_process import program
from producer.archive_process.lister import ArchiveLister
from producer.archive_process.messages import Question
from producer.archive_process.program import MEMORY_BYTES
from producer.errors import CannotCountError
from producer.sources.archive import members
from producer.sources.passed_over import LINKS, PassedOver
from producer.sources.scan import FoundPage, scan
from tests.archives import header_bomb, wide_zst, write_7z, write_zst
from tests.hostile import dictionary_tar_xz, long_name_tar, many_entries_zip, nameless_zip, slow_tar_xz
from tests.pictures import write_images
from tests.processes import wait_until
from tests.producer.records import IN_PROCESS

DAMAGED = b"%PDF-1.4 no"
ALLOWED_MB = (MEMORY_BYTES >> 20) + 150


class Watched:
    """A lister, and the largest memory of its process."""

    def __init__(self, patience_s: float) -> None:
        self.lister = ArchiveLister(patience_s)
        self.peak_mb = 0.0
        self._over = Event()
        self._thread = Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            try:
                process = self.lister.process
                status = Path(f"/proc/{process.pid}/status").read_text() if process else ""
            except OSError:
                continue
            peaks = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")]
            self.peak_mb = max([self.peak_mb, *peaks])

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self.lister.stop()


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    watching = Watched(patience_s=getattr(request, "param", 20.0))
    yield watching
    watching.stop()


def scanned(folder: Path, lister: ArchiveLister) -> list[FoundPage]:
    return list(scan([str(folder)], IN_PROCESS._replace(list_members=lister.members)))


def truncated_gz(path: Path) -> None:
    path.write_bytes(b"\x1f\x8b\x08")


def no_name(path: Path) -> None:
    path.write_bytes(nameless_zip())


def long_name(path: Path) -> None:
    path.write_bytes(long_name_tar())


def many(path: Path) -> None:
    many_entries_zip(path)


def slow(path: Path) -> None:
    path.write_bytes(slow_tar_xz())


def dictionary(path: Path) -> None:
    path.write_bytes(dictionary_tar_xz())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "make", "watched"),
    [
        ("b.tar.gz", truncated_gz, 20.0),
        ("c.zip", no_name, 20.0),
        ("b.txz", long_name, 20.0),
        ("b.tar.xz", slow, 5.0),
        ("d.tar.xz", dictionary, 20.0),
        ("b.zip", many, 20.0),
        ("b.7z", header_bomb, 20.0),
        ("b.tzst", wide_zst, 20.0),
    ],
    ids=[
        *("3 bytes of gz", "no name", "a name of 1.5 GB", "slow xz", "a dictionary of 3 GiB", "a million members"),
        *("a table of contents of 300 MB", "a window of 1 GB"),
    ],
    indirect=["watched"],
)
def test_a_hostile_archive_is_a_failed_record(
    name: str, make: Callable[[Path], None], watched: Watched, tmp_path: Path
) -> None:
    """Before: TypeError, IndexError, > 3 GB, minutes, and 496 MB in the producer itself, and the scan was over."""
    write_images(tmp_path, 2)
    make(tmp_path / name)
    began = time.monotonic()
    pages = scanned(tmp_path, watched.lister)
    seconds = time.monotonic() - began
    failed = [page for page in pages if page.problem]
    assert sum(page.image.startswith("image-") for page in pages) == 2
    if make is not no_name:  # which has no other members; what has a name is taken
        assert [(page.image, page.problem.type) for page in failed if page.problem] == [(name, "CorruptImage")]
    print(f"{name}: {watched.peak_mb:.0f} MB, {seconds:.1f} s, {failed[-1].problem if failed else None}")
    assert watched.peak_mb < ALLOWED_MB
    assert seconds < 40


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
def test_a_damaged_pdf_whose_name_is_no_utf8(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the process died of the error that names it, and all members behind it were lost."""

    class Damaged:
        def count(self, path: Path) -> int:
            raise CannotCountError(f"{path}: the PDF is damaged")

        def close(self) -> None: ...

    monkeypatch.setattr(program, "PageCounter", Damaged)
    monkeypatch.setattr(program, "limit_memory", lambda limit: None)
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w", encoding=encoding, format=tarfile.GNU_FORMAT) as bundle:
        for name in ("a.jpg", "br\xe9.pdf", "b.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(DAMAGED)
            bundle.addfile(info, io.BytesIO(DAMAGED if name.endswith(".pdf") else bytes(len(DAMAGED))))
    answers = io.BytesIO()
    question = Question(quote(str(archive)), "tar", "", 60.0, seen_as(archive))
    program.serve(io.BytesIO(msgspec.json.encode(question)), answers)
    lines = [msgspec.json.decode(line) for line in answers.getvalue().splitlines()]
    assert [line["type"] for line in lines] == ["member", "member", "member", "end"]
    shown = "br\xe9.pdf" if encoding == "utf-8" else r"br\xe9.pdf"
    assert lines[1]["uncounted"] == f"{shown}: the PDF is damaged" and not lines[3]["broken"]


@pytest.mark.slow
def test_the_process_lists_what_this_one_lists(tmp_path: Path, watched: Watched) -> None:
    photo = next(write_images(tmp_path / "in", 1)[0].parent.iterdir()).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        for member in ("a/b.jpg", "ü.jpg", "__MACOSX/x.jpg", ".hidden.jpg", "notes.txt"):
            bundle.writestr(member, photo)
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        for member in ("b.jpg", b"\xe9.jpg".decode("utf-8", "surrogateescape"), "c.tif"):
            info = tarfile.TarInfo(member)
            info.size = len(photo)
            tar.addfile(info, io.BytesIO(photo))
    write_7z(tmp_path / "a.7z", dict.fromkeys(("a/b.jpg", "ü.jpg", "__MACOSX/x.jpg", "c.tif"), photo))
    write_zst(tmp_path / "a.tar.zst", dict.fromkeys(("b.jpg", "ü.jpg", "c.tif"), photo))
    for name, kind in (("a.zip", "zip"), ("a.tar.gz", "tar"), ("a.7z", "7z"), ("a.tar.zst", "tar")):
        here, there = PassedOver(), PassedOver()
        ours = [(m.name, m.shown, m.look()) for m in members(tmp_path / name, kind, passed=here)]  # type: ignore[arg-type]
        found = watched.lister.members(tmp_path / name, kind, passed=there)  # type: ignore[arg-type]
        assert [(m.name, m.shown, m.look()) for m in found] == ours and len(ours) >= 3
        assert there.counts == here.counts and LINKS not in there.counts


@pytest.mark.slow
def test_a_lost_process_is_started_again(tmp_path: Path, watched: Watched) -> None:
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as bundle:
            bundle.writestr("x.jpg", b"\xff\xd8\xff")
    assert len(scanned(tmp_path, watched.lister)) == 2
    assert watched.lister.process
    first = watched.lister.process
    assert len(scanned(tmp_path, watched.lister)) == 2 and watched.lister.process is first, "one process for all"
    first.kill()
    first.wait()
    assert len(scanned(tmp_path, watched.lister)) == 2


@pytest.mark.slow
def test_a_list_that_is_left_in_the_middle_leaves_no_process(tmp_path: Path, watched: Watched) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        for number in range(1000):
            bundle.writestr(f"{number}.jpg", b"\xff\xd8\xff")
    found = watched.lister.members(tmp_path / "a.zip", "zip")
    next(found)
    process = watched.lister.process
    found.close()  # type: ignore[attr-defined]
    assert process is not None and process.poll() is not None and watched.lister.process is None


def test_what_was_being_unpacked_goes_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: up to 256 MB stayed in the temporary folder for each listing that was killed, beside the page's quota."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        for number in range(4):
            bundle.writestr(f"{number}.pdf", b"%PDF-1.4" + bytes(50 << 20))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.writestr("b.jpg", b"\xff\xd8\xff")
    lister = ArchiveLister()
    assert len(list(lister.members(tmp_path / "b.zip", "zip"))) == 1
    listed = lister.members(tmp_path / "a.zip", "zip")
    assert next(listed).shown == b"0.pdf"
    wait_until(lambda: any(path.is_file() for path in temporary.rglob("ocrfleet-count-*")), seconds=20, what="a copy")
    listed.close()  # as a scan whose job is deleted, or whose time is up
    assert list(temporary.iterdir()) == []
    assert len(list(lister.members(tmp_path / "b.zip", "zip"))) == 1, "it goes on with another process"
    lister.close()
    assert list(temporary.iterdir()) == []
