"""Jobs on a broker: what the producer's own machine does to them."""

from __future__ import annotations

import random
import resource
import subprocess
import zipfile
from pathlib import Path

import pytest
from click import UsageError

from detector.exit_codes import ExitCode
from producer.cli.enqueue import say_fed
from producer.cli.resume import _resume_or_retry
from producer.fleet_job import Fed
from producer.job.output_folder import JobRequest, OutputFolder
from tests.processes import command
from tests.producer.job.test_damaged_jobs import PAGES, do, enqueue
from worker.ledger.ledger import JobReplacedError, Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys
from worker.settings import Settings

SMALL = 100_000  # bytes: no file may grow beyond, as on a full disk


def test_a_full_disk_of_the_producer_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    """It says nothing about the page, and is no failed image (exit 1): the same command goes on when there is room."""
    with zipfile.ZipFile(tmp_path / "pages.zip", "w") as bundle:
        bundle.writestr("page.jpg", b"\xff\xd8\xff" + random.Random(0).randbytes(4 * SMALL))
    arguments = (
        "ocr-producer",
        "enqueue",
        tmp_path / "pages.zip",
        "--job",
        "full",
        "--transfer",
        "redis",
        "--quiet",
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, SMALL))

    told = command(environment, *arguments, "--no-shrink", preexec_fn=limit)
    assert told.returncode == 130, told.stderr
    assert told.stderr.startswith("Error: ") and "File too large" in told.stderr and told.stderr.count("\n") == 1
    told = command(environment, *arguments, "--no-shrink")
    assert told.returncode == 0 and "1 images, 1 sent now, 0 done, 0 failed" in told.stderr


def test_a_watched_job_that_was_cancelled_is_no_success(ledger: Ledger) -> None:
    """Before: `enqueue --watch && next` went on with half a job."""
    ledger.create("half", 2, {})
    ledger.cancel("half")
    status = ledger.status("half")
    assert status is not None
    assert say_fed(Fed(status, 0), watching=True) == ExitCode.FAILED
    assert say_fed(Fed(status, 0), watching=False) == ExitCode.OK, "it was to feed, and did"


def test_forget_without_a_yes_keeps_the_results(environment: dict[str, str], ledger: Ledger) -> None:
    ledger.create("kept", 1, {})
    ledger.feed([ImageTask(job="kept", index=0, image="a", uri="file:///a")])
    ledger.begin("kept", 0, redelivered=False)
    ledger.finish("kept", 0, ok=True, record=b"{}")
    told = command(environment, "ocr-producer", "forget", "kept", stdin=subprocess.DEVNULL)
    assert told.returncode == 1 and "1 results of kept were never collected" in told.stderr
    assert (status := ledger.status("kept")) is not None and status.uncollected == 1
    assert command(environment, "ocr-producer", "forget", "kept", "--yes").returncode == 0
    assert ledger.status("kept") is None


def test_forget_removes_no_folder_that_others_moved_there(environment: dict[str, str], ledger: Ledger) -> None:
    """Before, of nine commands this one asked nobody whose folder it was, and a user's album went with the list."""
    ledger.create("kept", 1, {})
    album = Path(environment["XDG_STATE_HOME"]) / "ocrfleet/kept/album"
    album.mkdir(parents=True)
    (album / "wedding.raw").touch()
    album.parent.chmod(0o777)
    told = command(environment, "ocr-producer", "forget", "kept", "--yes")
    assert told.returncode == 2 and told.stderr.count("\n") == 1 and ledger.status("kept") is None
    assert "keys removed), but" in told.stderr and "kept is left, as others can write there: look" in told.stderr
    assert (album / "wedding.raw").is_file()


@pytest.mark.parametrize("retry", [True, False])
def test_another_job_of_that_name_is_left_as_it_is(
    ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retry: bool
) -> None:
    """Before: `retry` took its failed record, `resume --adopt` all that waited; then they were refused."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OCRFLEET_REDIS_URL", settings.redis_url)
    enqueue(ledger, settings, tmp_path, "job")
    ledger.forget("job")
    ledger.create("job", PAGES, {}, epoch="b2")
    tasks = [ImageTask(job="job", index=index, image="a", uri="file:///a", epoch="b2") for index in range(PAGES)]
    ledger.feed(tasks)
    for task in tasks:
        do(ledger, task)
    with pytest.raises(JobReplacedError):
        _resume_or_retry("job", quiet=True, retry=retry, adopted=None if retry else tmp_path / "out")
    assert not (tmp_path / "out").exists() and ledger.client.xlen(JobKeys.of("job").results) == PAGES
    assert (status := ledger.status("job")) and (status.done, status.failed) == (PAGES, 1)


def test_an_output_folder_can_be_named_where_jobs_are_kept_where_others_write(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: `retry out` was refused for a place where it reads nothing, and nothing said how it goes."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "shared" / "state"))
    monkeypatch.chdir(tmp_path)
    OutputFolder(tmp_path / "out").save_request(JobRequest(job="out", sources=["/in"]))
    with pytest.raises(UsageError, match=r"others can write into .*; or give \./out for the folder here"):
        _resume_or_retry("out", quiet=True, retry=True)
