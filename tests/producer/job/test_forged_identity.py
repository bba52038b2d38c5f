"""Who has a password of ours writes another epoch or another time into a job while nobody is at work on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.errors import OtherJobError
from producer.fleet_job import collect_job, forget_job
from producer.fleet_results import finish_collected
from producer.job.collect import Collector
from producer.job.job_epoch import created_here, open_job
from producer.job.output_folder import JobRequest, OutputFolder, state_folder
from producer.job.results_owner import owner_of
from producer.web.jobs.on_broker import forget_ours
from tests.producer.job.test_damaged_jobs import PAGES, do, enqueue
from tests.producer.records import ok, write_results
from worker.app import app_for
from worker.broker import blobs
from worker.ledger.comparison import Comparison
from worker.ledger.ledger import JobReplacedError, Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys
from worker.settings import Settings

FORGED = ({"epoch": "deadbeef"}, {"created_ms": "5"}, {"created_ms": "x"}, {"epoch": ""}, {"epoch": "e" * 6000})


@pytest.fixture
def job(ledger: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job that was enqueued on this machine, of whose pages all but two are done; two are collected."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    enqueue(ledger, settings, tmp_path, "job")
    collect_job(app_for(settings), ledger, "job", tmp_path / "results.jsonl", follow=False, quiet=True)
    do_pages(ledger)
    return "job"


def do_pages(ledger: Ledger) -> None:
    status = ledger.status("job")
    assert status
    for index in range(2, PAGES - 2):
        do(ledger, ImageTask(job="job", index=index, image=f"{index}.png", uri="file:///a", epoch=status.epoch))


@pytest.mark.parametrize("forged", FORGED, ids=str)
def test_resume_and_collect_go_on(
    ledger: Ledger, settings: Settings, tmp_path: Path, job: str, forged: dict[str, str]
) -> None:
    """Before: the job was another one of that name; of another time its results file was another job's."""
    true = ledger.status(job)
    ledger.client.hset(JobKeys.of(job).job, mapping=forged)
    assert true and open_job(state_folder(job), ledger, job, PAGES) == true.epoch
    ledger.client.hset(JobKeys.of(job).job, mapping=forged)
    done = collect_job(app_for(settings), ledger, job, tmp_path / "results.jsonl", follow=False, quiet=True)
    assert (done.total, done.count, done.refused) == (PAGES, PAGES - 2, 0)
    assert (done.status.epoch, done.status.created_s) == (true.epoch, true.created_s)


@pytest.mark.parametrize("forged", FORGED[:3], ids=str)
def test_collected_elsewhere_it_is_refused_and_nothing_lost(
    job: str,
    forged: dict[str, str],
    ledger: Ledger,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the job before's word or time alone its results were the new one's, whose records were thrown away."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    true = {name: ledger.client.hget(JobKeys.of(job).job, name) for name in forged}
    ledger.client.hset(JobKeys.of(job).job, mapping=forged)
    with pytest.raises(OtherJobError, match="an earlier job"):
        collect_job(app_for(settings), ledger, job, tmp_path / "results.jsonl", follow=False, quiet=True)
    ledger.client.hset(JobKeys.of(job).job, mapping=true)
    done = collect_job(app_for(settings), ledger, job, tmp_path / "results.jsonl", follow=False, quiet=True)
    assert (done.count, done.refused) == (PAGES - 2, 0)


def test_another_machines_job_is_not_put_right(ledger: Ledger, job: str) -> None:
    """By the time alone, which its workers saw, who had the job before shut the new one's machine out for good."""
    old, key = ledger.status(job), JobKeys.of(job).job
    assert old
    ledger.forget(job)
    assert ledger.create(job, PAGES, {"manifest": "/elsewhere", "host": "another"}, epoch="another")
    ledger.client.hset(key, "created_ms", round(old.created_s * 1000))
    with pytest.raises(JobReplacedError):
        open_job(state_folder(job), ledger, job, PAGES)
    assert ledger.client.hget(key, "epoch") == b"another"


def test_another_job_of_that_name_stays_another(ledger: Ledger, settings: Settings, tmp_path: Path, job: str) -> None:
    ledger.forget(job)
    assert ledger.create(job, PAGES, {}, epoch="another")
    ledger.client.hset(JobKeys.of(job).job, "created_ms", "5")  # not within the same millisecond
    with pytest.raises(JobReplacedError):
        open_job(state_folder(job), ledger, job, PAGES)
    with pytest.raises(OtherJobError, match="an earlier job"):
        collect_job(app_for(settings), ledger, job, tmp_path / "results.jsonl", follow=False, quiet=True)
    status = ledger.status(job)
    assert status and (status.epoch, status.created_s) == ("another", 0.005)


def test_a_job_of_a_version_that_kept_no_time_has_it_from_now_on(ledger: Ledger, job: str) -> None:
    folder = state_folder(job)
    file = folder.private / "created_ms"
    kept = file.read_bytes()
    file.unlink()
    open_job(folder, ledger, job, PAGES)
    assert file.read_bytes() == kept
    folder.epoch_file.write_bytes(b"a job that a version before began anew")
    assert created_here(folder) == 0
    folder.epoch_file.write_bytes(kept.split()[0])
    file.write_bytes(b"no time")
    assert open_job(folder, ledger, job, PAGES) == folder.epoch
    assert file.read_bytes() == kept


def test_the_time_of_the_job_before_is_not_the_new_ones(
    ledger: Ledger, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed once the broker had the new job: by the old time its results were the new one's, whose records went."""
    folder, create = state_folder(job), ledger.create
    ledger.forget(job)

    def killed(*words: str, **named: str) -> int:
        create(*words, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ledger, "create", killed)
        open_job(folder, ledger, job, PAGES)
    new = ledger.status(job)
    assert new and open_job(folder, ledger, job, PAGES) == new.epoch
    now = ledger.status(job)
    assert now and now.created_s == new.created_s
    assert (folder.private / "created_ms").read_bytes() == b"%s %d" % (new.epoch.encode(), round(new.created_s * 1000))


def test_a_list_of_an_older_job_of_that_name_is_not_the_new_ones(ledger: Ledger, job: str, tmp_path: Path) -> None:
    """Before, as long as it had as many pages: exports, overlays and the report were drawn from other pictures."""
    kept = state_folder(job)
    out, request = OutputFolder(tmp_path / "out"), JobRequest(job=job, sources=[])
    write_results(out.root, [ok(index) for index in range(PAGES)])
    status = ledger.status(job)
    assert status and "file://" in kept.manifest.read_text()
    for epoch, known in ((kept.epoch, True), ("another", False)):
        finish_collected(out, request, status._replace(epoch=epoch), count=PAGES, failed=0, quiet=True)
        assert ("file://" in out.manifest.read_text()) is known


def test_who_follows_elsewhere_writes_no_epoch_over_that_of_the_tasks(ledger: Ledger, job: str) -> None:
    """It began while the wrong one stood there, took that for the right one, and wrote it back over each `resume`."""
    true = ledger.status(job)
    assert true
    comparison = Comparison(ledger, job, true._replace(epoch="deadbeef"))
    assert comparison.tasks_tell(true.epoch) and not comparison.tasks_tell("deadbeef")


def test_a_job_begun_anew_behind_a_collectors_question_is_not_collected(
    ledger: Ledger, job: str, tmp_path: Path
) -> None:
    """Between its first question and its lock: the new job's records were taken for the old one's, and dropped."""
    old = ledger.status(job)
    assert old
    ledger.forget(job)
    assert ledger.create(job, PAGES, {}, epoch="another")
    ledger.client.hset(JobKeys.of(job).job, "created_ms", 5)
    task = ImageTask(job=job, index=0, image="0.png", uri="file:///a", epoch="another")
    ledger.feed([task])
    do(ledger, task)
    with (
        pytest.raises(JobReplacedError),
        Collector(ledger, job, tmp_path / "results.jsonl", PAGES, owner=owner_of(old)) as collector,
    ):
        collector.step(block_ms=0)
    assert ledger.client.xlen(JobKeys.of(job).results) == 1


@pytest.mark.parametrize("said", [{"epoch": "f" * 16}, None])
def test_no_bytes_of_a_forgotten_job_stay(said: dict[str, str] | None, job: str, ledger: Ledger) -> None:
    """Before: those under the epoch that was written over, a visitor's deleted pictures, for RESULT_TTL_H."""
    folder, client, key = state_folder(job), ledger.client, JobKeys.of(job).job
    assert folder.epoch

    def upload() -> None:
        blobs.put(client, job, {0: b"x", 1: b"y"}, 3600, folder.epoch)
        if said is None:
            client.delete(key)
        else:
            client.hset(key, mapping=said)

    upload()
    assert forget_ours(folder, ledger, job)
    assert not client.keys("ocrfleet:blob:*")
    upload()
    forget_job(ledger, job)
    assert not client.keys("ocrfleet:blob:*")
