"""A retry counts files and lists archives again, days after the scan: of the job's own sources, and within limits."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from detector.images.regular_file import SeenPath, identity_of
from producer.archive_process.limited_readers import limited_readers
from producer.detector_process.page_counter import PageCounter
from producer.errors import CannotCountError
from producer.growing.listed_anew import list_anew
from producer.job.growth import Growth
from producer.job.manifest import ManifestLine, count_manifest, read_manifest, write_lines, write_manifest
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.recount import recount
from producer.job.results_file import Line, failed_pages
from producer.local import job as local_job
from producer.local.job import drop_failed_pages
from producer.sources.found_page import FoundPage, Problem
from producer.sources.readers import Readers
from producer.sources.scan import file_uri, scan_file
from producer.whole_append import whole_append
from tests.producer.records import failed, ok, pdf, write_results
from tests.raw_tiff import Picture, raw_tiff
from worker.ledger import Ledger
from worker.messages import Seconds

BROKEN = Problem("CorruptImage", "not to its end")


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    with limited_readers() as opened:
        yield opened


def a_job(out: Path, files: dict[str, bytes], sources: list[str] | None = None) -> OutputFolder:
    """One that a scan did not see the ends of: of PDFs and TIFFs page 1 alone, of archives nothing."""
    source, pages = out.parent / "src", []
    source.mkdir()
    for name, data in files.items():
        (source / name).write_bytes(data)
        uri = file_uri(source / name)
        first = 0 if name.endswith("zip") else 1
        pages += [FoundPage(name, uri, 0)] * first + [FoundPage(name, uri, first, BROKEN)]
    write_results(out, [failed(number) if page.problem else ok(number) for number, page in enumerate(pages)])
    write_manifest(pages, out / "manifest.jsonl")
    folder = OutputFolder(out)
    folder.save_request(JobRequest(job="j", sources=[str(source)] if sources is None else sources))
    return folder


def zipped(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for name in names:
            bundle.writestr(name, b"\xff\xd8" + bytes(100))
    return path


def listed(folder: OutputFolder) -> list[tuple[str, int, bool]]:
    return [(line.image, line.page, bool(line.problem)) for line in read_manifest(folder.manifest)]


def test_links_that_lead_out_by_now(tmp_path: Path) -> None:
    """Before: the members of any archive that the producer can read, and pages of any TIFF, were pages of the job."""
    folder = a_job(tmp_path / "out", {"bad.zip": b"PK", "bad.tif": b"II", "own.zip": b"PK", "own.tif": b"II"})
    before, source, private = listed(folder), tmp_path / "src", tmp_path / "private"
    private.mkdir()
    (source / ".kept").mkdir()
    for place in (private, source / ".kept"):
        zipped(place / "p.zip", "salary.jpg")
        (place / "p.tif").write_bytes(raw_tiff([Picture(8, 8)] * 3))
    for name in ("bad", "own"):
        for suffix in ("zip", "tif"):
            (source / f"{name}.{suffix}").unlink()
            target = private if name == "bad" else source / ".kept"
            (source / f"{name}.{suffix}").symlink_to(target / f"p.{suffix}")
    assert drop_failed_pages(folder) == 4
    mended = [("own.zip/salary.jpg", 0, False), ("own.tif", 0, False), ("own.tif", 1, False), ("own.tif", 2, False)]
    assert listed(folder) == before[:3] + mended


@pytest.mark.slow
@pytest.mark.parametrize("sources", [["-"], ["src", "-"], ["src/*"], ["src/bad.zip", "src/bad.tif"], ["gone", "src"]])
def test_of_sound_jobs_all_is_counted_again(sources: list[str], tmp_path: Path) -> None:
    """Whatever their sources are; where these came as a list nobody knows them, and a file may lie anywhere."""
    folder = a_job(tmp_path / "out", {"bad.zip": b"PK", "bad.tif": b"II"}, [str(tmp_path / name) for name in sources])
    if "-" in sources:
        folder.save_request(JobRequest(job="j", sources=sources))
    zipped(tmp_path / "src" / "bad.zip", "a.jpg", "b.jpg")
    (tmp_path / "src" / "bad.tif").write_bytes(raw_tiff([Picture(8, 8)] * 2))
    assert drop_failed_pages(folder) == 2
    found = [("bad.zip/a.jpg", 0, False), ("bad.tif", 0, False), ("bad.tif", 1, False), ("bad.zip/b.jpg", 0, False)]
    assert listed(folder) == found


@pytest.mark.slow
def test_the_list_is_made_whole_just_before_it_grows(tmp_path: Path) -> None:
    """Not before files are counted, which may take minutes: a collector elsewhere tells of missed pages meanwhile."""
    folder = a_job(tmp_path / "out", {"bad.zip": b"PK", "bad.tif": b"II"})
    sizes: list[int] = []

    def before() -> None:
        sizes.append(count_manifest(folder.manifest))

    for _ in range(2):
        recount(folder.manifest, range(3), (), before)
        list_anew(folder.manifest, range(3), (), before=before)
        zipped(tmp_path / "src" / "bad.zip", "a.jpg", "b.jpg")
        (tmp_path / "src" / "bad.tif").write_bytes(raw_tiff([Picture(8, 8)] * 3))
    assert sizes == [3, 4] and count_manifest(folder.manifest) == 5


def test_a_file_that_took_the_place_is_not_opened(tmp_path: Path, readers: Readers) -> None:
    """Between the look at a file and its process that opens it, whichever that is."""
    path, archive = tmp_path / "a.pdf", zipped(tmp_path / "a.zip", "a.jpg")
    path.write_bytes(pdf(2))
    for file, count in ((path, 2), (archive, 1)):
        with file.open("rb") as seen:
            own, other = identity_of(seen), (identity_of(seen)[0], identity_of(seen)[1] + 1)
        pages = list(scan_file(SeenPath.to(file, own), b"a", readers))
        assert len(pages) == count and not any(page.problem for page in pages)
        [page] = scan_file(SeenPath.to(file, other), b"a", readers)
        assert page.uri == file_uri(file), "of the archive itself; of a PDF the first page, for its worker"
    with path.open("rb") as seen:
        device, inode = identity_of(seen)
    for module in ("detector.images.count_pages", "producer.sources.count_pages"):
        counter = PageCounter(module=module)
        assert counter.count(SeenPath.to(path, (device, inode))) == 2
        with pytest.raises(CannotCountError, match="another file has taken its place"):
            counter.count(SeenPath.to(path, (device, inode + 1)))
        counter.close()


def test_a_pdf_is_counted_by_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: by pypdf in the producer's own, without a limit: 985 bytes took 1.2 GB and 70 s."""

    def here(stream: object) -> int:
        raise AssertionError

    monkeypatch.setattr("producer.sources.page_count._count_pdf", here)
    folder = a_job(tmp_path / "out", {"a.pdf": pdf(3)})
    assert recount(folder.manifest, [1], ()) == 3


def test_a_retry_that_is_killed_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the failed records were gone by then, and `retry` said that there were none."""
    folder = a_job(tmp_path / "out", {"bad.tif": raw_tiff([Picture(8, 8)] * 2)})

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    for name in ("recount", "list_anew"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(local_job, name, killed)
            drop_failed_pages(folder)
        assert list(failed_pages(folder.results)) == [1]
    assert drop_failed_pages(folder) == 1 and not any(problem for *_, problem in listed(folder))


@pytest.mark.parametrize("name", ["bad.tif", "bad.zip"])
def test_a_list_that_is_written_anew_is_nobody_elses(tmp_path: Path, name: str) -> None:
    """Before: 664 under the umask 002, so that the next `resume` in an OUT that a group may read refused it."""
    data = raw_tiff([Picture(8, 8)] * 2) if name.endswith("tif") else zipped(tmp_path / "z", "a.jpg").read_bytes()
    folder = a_job(tmp_path / "out", {name: data})
    before, umask = folder.manifest.stat(), os.umask(0o002)
    try:
        assert drop_failed_pages(folder) == 1
    finally:
        os.umask(umask)
    after = folder.manifest.stat()
    assert after.st_ino != before.st_ino and after.st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["bad.tif", "bad.zip"])
def test_what_is_added_while_files_are_looked_at_keeps_its_number(tmp_path: Path, name: str) -> None:
    """Before: by a watched folder; its pages were lost from the list, or others had their numbers: "scan again"."""
    data = raw_tiff([Picture(8, 8)] * 4) if name.endswith("tif") else zipped(tmp_path / "z", "a.jpg").read_bytes()
    folder = a_job(tmp_path / "out", {name: data})
    with ThreadPoolExecutor(1) as pool:
        with whole_append(folder.manifest) as stream:
            looked = pool.submit(drop_failed_pages, folder)
            time.sleep(0.2)  # until it stands there, or has done it
            count = count_manifest(folder.manifest)
            write_lines(stream, [ManifestLine(count, "new.jpg", "file:///new.jpg", 0)])
        assert looked.result() == 1
    lines = list(read_manifest(folder.manifest))
    assert lines[count].image == "new.jpg" and len(lines) >= count + 1


@pytest.mark.parametrize("first", ["the record", "the retry"])
def test_pages_of_a_mended_file_are_listed_once(tmp_path: Path, ledger: Ledger, first: str) -> None:
    """Half there when it was listed: a record tells of its pages, and a retry counts them. Before: they were twice."""
    folder = a_job(tmp_path / "out", {"a.tif": raw_tiff([Picture(8, 8)] * 4), "b.tif": b""})
    ledger.create("j", 4, {})
    growth = Growth(folder.manifest, ledger, "j", 4)

    def tell() -> int:
        growth.note(Line(index=0, image="a.tif", page=0, status="ok", seconds=Seconds(), pages=4))
        return len(growth.write())

    growth.note(Line(index=1, image="a.tif", page=0, status="ok", seconds=Seconds(), pages=2))  # the list is open now
    if first == "the record":
        assert tell() == 3
    recount(folder.manifest, [1, 3], ())
    assert tell() == 0
    recount(folder.manifest, [1, 3], ())
    growth.close()
    lines = [line for line in read_manifest(folder.manifest) if line.image == "a.tif" and line.problem is None]
    assert sorted(line.page for line in lines) == [0, 1, 2, 3]
