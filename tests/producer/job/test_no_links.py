"""Locks and logs are never written through a link, and nobody waits for a pipe: a stranger may have made OUT."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from detector.images.regular_file import NotRegularError
from producer.job.collect import Collector
from producer.job.collector_lock import FileLock
from producer.job.manifest import ManifestIndex, ManifestLine, count_manifest, read_manifest, write_lines
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.page_order import PageOrder
from producer.job.results_file import iter_records, read_lines
from producer.no_links import no_links
from producer.output.formats import export_results
from tests.producer.records import ok, write_results
from worker.ledger import Ledger


def linked(folder: Path, name: str) -> Path:
    """A file of ours, and a link to it where ours would be."""
    mine = folder / "key"
    mine.write_text("secret")
    (folder / "out/.ocrfleet").mkdir(parents=True)
    (folder / "out/.ocrfleet" / name).symlink_to(mine)
    return mine


def test_the_lock_of_a_folder_follows_no_link(tmp_path: Path) -> None:
    mine = linked(tmp_path, "lock")
    with pytest.raises(OSError, match="lock"), OutputFolder(tmp_path / "out").locked():
        pass
    assert mine.read_text() == "secret"


def test_the_lock_of_results_follows_no_link(tmp_path: Path) -> None:
    mine = linked(tmp_path, "results.jsonl.lock")
    with pytest.raises(OSError, match="results"):
        FileLock(tmp_path / "out/results.jsonl").take()
    assert mine.read_text() == "secret"


def test_records_are_appended_to_no_link(tmp_path: Path, ledger: Ledger) -> None:
    """Before: results.jsonl as a link to ~/.bashrc, in a folder that another user had made, took our records."""
    mine = tmp_path / "key"
    mine.write_text("secret")
    (tmp_path / "results.jsonl").symlink_to(mine)
    ledger.create("job", 1, {})
    with pytest.raises(OSError, match="results"), Collector(ledger, "job", tmp_path / "results.jsonl", 1):
        pass
    assert mine.read_text() == "secret"


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """A pipe that nobody writes to or reads from; who waits for that is told after five seconds."""

    def waited(*_: object) -> None:
        raise AssertionError("it waits for a pipe")

    before = signal.signal(signal.SIGALRM, waited)
    signal.alarm(5)
    (tmp_path / ".ocrfleet").mkdir()
    for name in ("pipe", ".ocrfleet/results.jsonl.lock"):
        os.mkfifo(tmp_path / name)
    yield tmp_path / "pipe"
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "use",
    [
        lambda pipe: no_links(str(pipe), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        lambda pipe: no_links(str(pipe), os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        lambda pipe: no_links(str(pipe), os.O_RDWR),
        lambda pipe: list(read_lines(pipe)),
        lambda pipe: list(iter_records(pipe)),
        lambda pipe: list(read_manifest(pipe)),
        lambda pipe: FileLock(pipe.with_name("results.jsonl")).take(),
    ],
    ids=["lock", "log", "results", "records read", "records exported", "manifest", "lock of results"],
)
def test_nobody_waits_for_a_pipe(pipe: Path, use: Callable[[Path], object]) -> None:
    """Before: `resume` of a folder of somebody hung where one lay in the place of a lock, a log or its results."""
    with pytest.raises(NotRegularError, match="not a regular file"):
        use(pipe)


READS: dict[str, Callable[[Path], object]] = {
    "in their order": lambda out: PageOrder(out / "results.jsonl"),
    "lines": lambda out: list(read_lines(out / "results.jsonl")),
    "records": lambda out: list(iter_records(out / "results.jsonl")),
    "export": lambda out: export_results(out, "csv", out.parent / "mine.csv"),
    "list": lambda out: list(read_manifest(out / "manifest.jsonl")),
    "places": lambda out: ManifestIndex(out / "manifest.jsonl"),
    "number": lambda out: count_manifest(out / "manifest.jsonl"),
}


@pytest.mark.parametrize("how", READS)
def test_results_of_another_job_are_read_through_no_link(tmp_path: Path, how: str) -> None:
    """Before: who may write into OUT linked to a job in a folder of 0700: its text was in his next export."""
    out, private = tmp_path / "out", tmp_path / "private"
    write_results(private, [ok(0, "salary.png")])
    with (private / "manifest.jsonl").open("wb") as stream:
        write_lines(stream, [ManifestLine(0, "salary.png", "file:///salary.png", 0)])
    out.mkdir(mode=0o755)
    for name in ("results.jsonl", "manifest.jsonl"):
        (out / name).symlink_to(private / name)
    READS[how](out)  # a link of one's own in a folder of one's own
    out.chmod(0o775)
    with pytest.raises(OSError, match=r"is a link, which is not followed here: remove it.*\.jsonl"):
        READS[how](out)
    if os.geteuid() == 0:
        out.chmod(0o755)  # by now
        for name in ("results.jsonl", "manifest.jsonl"):
            os.chown(out / name, 12345, -1, follow_symlinks=False)
        with pytest.raises(OSError, match=r"is a link, which is not followed here: remove it.*\.jsonl"):
            READS[how](out)


def test_a_request_is_no_link(tmp_path: Path) -> None:
    """Before: a link of the user's own, moved there, counted for what it led to: another's request, and no stamp."""
    folder = OutputFolder(tmp_path / "out")
    folder.save_request(JobRequest(job="j", sources=["/in"]))
    folder.request_file.rename(folder.private / "his")
    folder.request_file.symlink_to("his")
    with pytest.raises(
        OSError, match=r"is a link, which is not followed here: remove it.*out/\.ocrfleet/request\.json"
    ):
        folder.request()
