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
from producer.job.begin_again import retry_on_broker
from producer.job.job_epoch import open_job
from producer.job.manifest import ManifestLine, write_lines
from producer.job.output_folder import JobRequest, OutputFolder
from tests.processes import command
from worker.ledger.ledger import JobReplacedError, Ledger
from worker.messages import ImageRecord, ImageTask, encode
from worker.redis_keys import JobKeys

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


def another_job_of_the_name(ledger: Ledger, folder: OutputFolder, job: str) -> None:
    """The folder's job was forgotten elsewhere; one of two pages has its name, and records that nobody collected."""
    folder.save_request(JobRequest(job=job, sources=["/a.jpg"]))
    with folder.manifest.open("wb") as stream:
        write_lines(stream, [ManifestLine(0, "a.jpg", "file:///a.jpg", 0)])
    open_job(folder, ledger, job, 1)
    ledger.forget(job)
    ledger.create(job, 2, {}, epoch="another")
    ledger.feed([ImageTask(job=job, index=index, image="b", uri="file:///b", epoch="another") for index in (0, 1)])
    for index, status in enumerate(("ok", "failed")):
        record = encode(ImageRecord(job=job, index=index, image="b", page=0, status=status))
        ledger.begin(job, index, redelivered=False, epoch="another")
        ledger.finish(job, index, ok=status == "ok", record=record, epoch="another")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["retry"], ["resume", "--adopt", "{}/out"]], ids=["retry", "adopt"])
def test_another_job_of_the_name_is_refused_before_it_is_changed(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path, arguments: list[str]
) -> None:
    """Before: its failed page was unfed for good, or all its records lay in this one's OUT; then came the refusal."""
    another_job_of_the_name(ledger, OutputFolder(Path(environment["XDG_STATE_HOME"]) / "ocrfleet/mine"), "mine")
    told = command(environment, "ocr-producer", *(text.format(tmp_path) for text in arguments), "mine", "--quiet")
    assert told.returncode == 2 and "is another one of that name" in told.stderr
    assert ledger.client.getrange(JobKeys.of("mine").state, 0, 9) == b"of"
    assert (status := ledger.status("mine")) is not None and status.uncollected == 2 and status.failed == 1
    assert not (tmp_path / "out").exists()


def test_a_retry_ends_where_its_job_became_another(ledger: Ledger, tmp_path: Path) -> None:
    """Files may be counted for minutes between the look at the job and the retry."""
    another_job_of_the_name(ledger, folder := OutputFolder(tmp_path / "mine"), "mine")
    with pytest.raises(JobReplacedError):
        retry_on_broker(ledger, "mine", folder.epoch)
    with pytest.raises(JobReplacedError):
        ledger.redo("mine", [0], epoch=folder.epoch)
    assert ledger.adopt("mine", [0, 1], ok=True, epoch=folder.epoch) == 0
    assert ledger.client.getrange(JobKeys.of("mine").state, 0, 9) == b"of"


def test_an_output_folder_can_be_named_where_jobs_are_kept_where_others_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: `retry out` was refused for a place where it reads nothing, and nothing said how it goes."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "shared" / "state"))
    monkeypatch.chdir(tmp_path)
    OutputFolder(tmp_path / "out").save_request(JobRequest(job="out", sources=["/in"]))
    with pytest.raises(UsageError, match=r"others can write into .*; or give \./out for the folder here"):
        _resume_or_retry("out", quiet=True, retry=True)
