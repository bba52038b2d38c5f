"""An archive that met an error of the disk or the network while it was listed is not damaged, and is listed again."""

from __future__ import annotations

import errno
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from detector.images.regular_file import open_regular
from producer.archive_process import lister, program
from producer.archive_process.limited_readers import limited_readers
from producer.archive_process.lister import ArchiveLister
from producer.archive_process.messages import AliveLine, EndLine, Line, MemberLine, Question
from producer.detector_process.pdf_pages import PageTaken, PageWanted, _Taker
from producer.growing.listed_anew import list_anew
from producer.job.manifest import read_manifest, write_manifest
from producer.sources.archive import Kind, Member, UnreadArchiveError
from producer.sources.passed_over import PassedOver
from producer.sources.scan import scan, scan_file
from producer.sources.single_page import alone, open_pdf
from tests.broken_disk import Break, FailingFile, breaks
from tests.detector.images.test_read_errors import a_report

__all__ = ["breaks"]

MEMBERS = 40


class _Watched(program._Watched, FailingFile):
    """The archive on such a disk."""


def an_archive(path: Path) -> Path:
    """Pictures of 4 KB by their names, and one file that is none."""
    names = [*(f"{number:03}.jpg" for number in range(MEMBERS)), "notes.txt"]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as bundle:
            for name in names:
                bundle.writestr(name, b"\xff\xd8" + bytes(4094))
    else:
        with tarfile.open(path, "w") as tar:
            for name in names:
                entry = tarfile.TarInfo(name)
                entry.size = 4096
                tar.addfile(entry, io.BytesIO(b"\xff\xd8" + bytes(4094)))
    return path


def answered(path: Path, kind: Kind) -> list[Line]:
    lines: list[Line] = []
    end = program._listed(Question(quote(str(path)), kind), lines.append, None)
    return [*(line for line in lines if not isinstance(line, AliveLine)), end]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
def test_the_process_says_so(
    kind: Kind, error: int, tmp_path: Path, breaks: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "_Watched", _Watched)
    path = an_archive(tmp_path / f"a.{kind}")
    size = path.stat().st_size
    for begin in (0, size // 2, size - 2000):
        breaks(begin, 1, error)
        *members, end = answered(path, kind)
        assert isinstance(end, EndLine) and end.unread == "told by the test"
        assert all(isinstance(member, MemberLine) and not member.uncounted for member in members)
    *members, end = answered(path, kind)
    assert len(members) == MEMBERS + 1 and isinstance(end, EndLine) and not end.broken and not end.unread


def torn(path: Path) -> Path:
    path.write_bytes(an_archive(path).read_bytes()[:-30_000])
    return path


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_torn_archive_is_damaged_as_ever(kind: Kind, tmp_path: Path) -> None:
    end = answered(torn(tmp_path / f"a.{kind}"), kind)[-1]
    assert isinstance(end, EndLine) and end.broken and not end.unread


class _Told(ArchiveLister):
    """A lister whose process meets an error at these members, one after the other."""

    def __init__(self, *failing: int) -> None:
        super().__init__()
        self.failing = list(failing)

    def _answers(self, question: bytes) -> Iterator[Line]:
        fails_at = self.failing.pop(0) if self.failing else MEMBERS
        for number in range(fails_at):
            yield MemberLine(f"{number}.jpg", f"{number}.jpg")
        yield EndLine({".txt": 1}, "damaged", "Stale file handle") if fails_at < MEMBERS else EndLine({".txt": 1})


def listed(told: ArchiveLister, path: Path, passed: PassedOver) -> Iterator[Member]:
    return told.members(path, "zip", passed=passed)


@pytest.mark.parametrize("failing", [(0,), (7,), (7, 3), (7, 30)])
def test_it_is_listed_again(failing: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lister, "PAUSES_S", (0.01, 0.02))
    path, passed = an_archive(tmp_path / "a.zip"), PassedOver()
    names = [member.name for member in listed(_Told(*failing), path, passed)]
    assert names == [b"%d.jpg" % number for number in range(MEMBERS)] and passed.counts == {".txt": 1}


def test_one_that_is_never_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lister, "PAUSES_S", (0.01, 0.02))
    found = []
    with pytest.raises(UnreadArchiveError, match="after 9 members: Stale file handle"):
        for member in listed(_Told(7, 9, 8), an_archive(tmp_path / "a.zip"), PassedOver()):
            found.append(member.name)
    assert len(found) == 9


def test_a_dead_file_server_is_not_waited_for_at_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    told, path = _Told(*[0] * 300), an_archive(tmp_path / "a.zip")
    for _ in range(50):
        with pytest.raises(UnreadArchiveError):
            list(listed(told, path, PassedOver()))
    assert sum(slept) <= lister.MOST_PAUSES_S
    told.failing.clear()
    assert len(list(listed(told, path, PassedOver()))) == MEMBERS and told._pauses_left_s == lister.MOST_PAUSES_S


def test_the_record_says_what_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lister, "PAUSES_S", ())
    path = an_archive(tmp_path / "a.zip")
    with limited_readers() as readers:
        readers = readers._replace(list_members=_Told(5).members)
        *pages, last = scan_file(path, b"a.zip", readers)
    assert len(pages) == 5 and last.problem is not None and last.problem.type == "NotFound"
    assert "could not be read to its end (after 5 members: Stale file handle)" in last.problem.message


@pytest.mark.slow
def test_a_retry_lists_it_anew(tmp_path: Path) -> None:
    """Before: the archive's failed record stayed, and what was not listed was in no job."""
    names, path, manifest = ["a.jpg", "b.jpg", "r.pdf", "x.jpg"], tmp_path / "in" / "z.tar", tmp_path / "manifest.jsonl"
    path.parent.mkdir()
    (path.parent / "z.tiny.jpg").touch()

    def pack(kept: int) -> None:
        with tarfile.open(path, "w") as tar:
            for name in names:
                entry = tarfile.TarInfo(name)
                data = report if name.endswith("pdf") else b"\xff\xd8" + bytes(4094)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        os.truncate(path, kept or path.stat().st_size)

    def pages() -> list[tuple[int, str, int, bool, int]]:
        return [(line.index, line.image, line.page, bool(line.problem), line.of) for line in read_manifest(manifest)]

    report = a_report(tmp_path / "report.pdf").read_bytes()
    pack(4700)  # in the second's header
    with limited_readers() as readers:
        write_manifest(scan([str(path.parent)], readers), manifest)
    before = [(0, "z.tar/a.jpg", 0, False, -1), (1, "z.tar", 0, True, -1), (2, "z.tiny.jpg", 0, False, -1)]
    assert pages() == before
    assert list_anew(manifest, [0, 1], ()) == 0 and pages() == before, "as it was"
    pack(9300)
    assert list_anew(manifest, [1], ()) == 1
    assert pages() == [*before, (3, "z.tar/b.jpg", 0, False, -1)]
    pack(0)
    assert list_anew(manifest, [1], ()) == 3
    found = [(4, "z.tar/r.pdf", 1, False, 1), (5, "z.tar/x.jpg", 0, False, -1)]
    head = (1, "z.tar/r.pdf", 0, False, -1)
    assert pages() == [before[0], head, before[2], (3, "z.tar/b.jpg", 0, False, -1), *found]
    assert list_anew(manifest, [1], ()) == 0


@pytest.mark.parametrize(("error", "pages"), [(errno.EIO, 1), (errno.ESTALE, 1), (errno.EACCES, 0)])
def test_a_file_that_cannot_be_looked_into_is_not_passed_over(
    error: int, pages: int, tmp_path: Path, breaks: Break
) -> None:
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xe0" + bytes(4096))
    with limited_readers() as readers:
        breaks(0, 1, error)
        assert len(list(scan([str(tmp_path)], sniff=True, readers=readers))) == pages


def test_a_page_taken_out_of_a_pdf(tmp_path: Path, breaks: Break) -> None:
    report = a_report(tmp_path / "report.pdf")
    with open_regular(report) as file:
        reader = open_pdf(file)
        assert alone(reader, reader.pages[1])
    for begin in range(0, report.stat().st_size, 8192):
        breaks(begin)
        with open_regular(report) as file, pytest.raises(Exception, match=r"."):
            reader = open_pdf(file)
            alone(reader, reader.pages[1])


@pytest.mark.slow
def test_a_page_that_could_not_be_read_is_none_of_the_pdfs_fault(tmp_path: Path, breaks: Break) -> None:
    """Before: "it cannot be taken out", and of a large file each such page was TooLarge."""
    report = a_report(tmp_path / "report.pdf")
    breaks(0)
    answered = _Taker().take(PageWanted(quote(os.fsencode(report)), 1, quote(os.fsencode(tmp_path / "out.pdf")), None))
    assert answered == PageTaken(False, errno.EIO)
