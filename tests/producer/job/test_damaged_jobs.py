"""Whoever had a worker's password wrote one key or field of a job, once, and left: the job ends, with all its records.

Before: one wrong byte among the states held a job for ever; `ok` = 1000 ended it without a record.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import pytest
import redis

from producer.fleet_job import collect_job
from producer.job import feed, loop
from producer.job.collect import Collector
from producer.job.feed import Feeder
from producer.job.growth import Growth
from producer.job.job_epoch import open_job
from producer.job.loop import JobLoop
from producer.job.manifest import read_manifest, write_manifest
from producer.job.output_folder import JobRequest, OutputFolder, state_folder
from producer.job.results_file import read_lines
from producer.sources.found_page import FoundPage
from producer.web import runner
from producer.web.bounds.progress import Progress
from producer.web.runner import Runner
from producer.web.store import Store, WebJob
from tests.processes import wait_until
from worker.app import IMAGE_QUEUE, app_for
from worker.ledger import Ledger, reconcile
from worker.messages import ErrorRecord, ImageRecord, ImageTask, decode_task, encode
from worker.redis_keys import JobKeys
from worker.settings import Settings

PAGES = 4
HUGE = "9" * 14
LOOKS_S = 0.4  # in which each job looks for stranded pages, though no page of it is done
FIELDS = {
    **dict.fromkeys(("total", "ok", "failed", "state", "epoch", "created_ms"), (HUGE, "-1000", "3", "zz")),
    **dict.fromkeys(("progress_ms", "finished_ms", "fed_ms", "kept_ms"), (HUGE,)),
}
Damage = Callable[[redis.Redis, JobKeys], object]


def field(name: str, value: str | None) -> Damage:
    if value is None:
        return lambda client, keys: client.hdel(keys.job, name)
    return lambda client, keys: client.hset(keys.job, name, value)


def of_fields() -> Iterator[tuple[str, Damage]]:
    """Each field of a job's hash: deleted, huge, negative, plausible."""
    for name, values in FIELDS.items():
        yield f"{name} deleted", field(name, None)
        for value in values:
            yield f"{name} = {value}", field(name, value)


def deleted(part: str) -> Damage:
    return lambda client, keys: client.delete(getattr(keys, part))


def a_set(part: str) -> Damage:
    def write(client: redis.Redis, keys: JobKeys) -> None:
        with client.pipeline() as both:  # in between the job may have made it anew
            both.delete(getattr(keys, part)).sadd(getattr(keys, part), "x").execute()

    return write


def huge(part: str) -> Damage:
    return lambda client, keys: client.set(getattr(keys, part), "x" * 3_000_000)


def of_page_2(part: str) -> Damage:
    return lambda client, keys: client.hset(getattr(keys, part), "2", '99 {"job":"x"}')


def of_keys() -> Iterator[tuple[str, Damage]]:
    """Each key of a job: deleted, of another type, huge, and holding what it never holds."""
    for part in JobKeys._fields:
        yield f"key {part} deleted", deleted(part)
        yield f"key {part} a set", a_set(part)
        yield f"key {part} huge", huge(part)
    for part in ("tasks", "attempts", "losses", "blobs", "holders"):
        yield f"key {part} of page 2", of_page_2(part)
    yield "leases for ever", lambda client, keys: client.zadd(keys.leases, {str(page): 1e15 for page in range(PAGES)})
    yield "results: rubbish", lambda client, keys: client.xadd(keys.results, {"record": "x"})


def states(text: str, index: int | None = None) -> Damage:
    if index is None:
        return lambda client, keys: client.set(keys.state, text)
    return lambda client, keys: client.setrange(keys.state, index, text)


def all_counted(client: redis.Redis, keys: JobKeys) -> None:
    client.set(keys.state, "oooo")
    client.hset(keys.job, "ok", "4")


def of_states() -> Iterator[tuple[str, Damage]]:
    """States that a page does not have then: 0 is done, 1 has failed, the others are queued."""
    for index in range(3):
        for letter in "xofqr\0":
            yield f"state of {index} = {letter!r}", states(letter, index)
    yield "states of more", states("oooo", 100)
    yield "states of fewer", states("o")
    yield "all done", states("oooo")
    yield "all done, and counted", all_counted


def number(part: str, text: str) -> Damage:
    def write(client: redis.Redis, keys: JobKeys) -> None:
        key = getattr(keys, part)
        if part == "leases":
            client.zadd(key, {text: 1, f"{text}0": text, "2": text})
        elif part == "results":
            client.xadd(key, {text: text, "record": text}, id=f"{text}-1" if len(text) > 9 else "*")
        elif part in ("state", "manifest"):
            client.set(key, text)
        else:
            client.hset(key, mapping={text: f"{text} x", "2": text, "3": f"{text} x", **dict.fromkeys(FIELDS, text)})

    return write


def of_numbers() -> Iterator[tuple[str, Damage]]:
    """No number of ours, wherever a key may hold one. Before: one ended each `collect`, and held a job of the page."""
    for part in JobKeys._fields:
        for value in (2**63, 10**19 - 1, 2**63 - 1, 50_000_001):
            yield f"key {part} with {value}", number(part, str(value))


DAMAGES = [dict(of_fields()), dict(of_keys()), dict(of_states()), dict(of_numbers())]


def task_of(message: bytes) -> ImageTask:
    task: ImageTask = decode_task(json.dumps(json.loads(base64.b64decode(json.loads(message)["body"]))[0][0]).encode())
    return task


def do(ledger: Ledger, task: ImageTask) -> None:
    """What a worker does with a message; page 1 fails."""
    with suppress(redis.ResponseError):  # the message is lost
        if ledger.begin(task.job, task.index, redelivered=False, epoch=task.epoch).verdict in ("run", "exhausted"):
            ok = task.index != 1
            error = None if ok else ErrorRecord("CorruptImage", "cut off")
            record = ImageRecord(
                job=task.job, index=task.index, image=task.image, page=0, status="ok" if ok else "failed", error=error
            )
            ledger.finish(task.job, task.index, ok=ok, record=encode(record), epoch=task.epoch)


def work(ledger: Ledger, ended: threading.Event, *, only: range = range(PAGES)) -> None:
    """Takes messages until the end; those of other pages stay."""
    kept = []
    while not ended.is_set():
        if (message := ledger.client.rpop(IMAGE_QUEUE)) is None:
            ended.wait(0.02)
        elif (task := task_of(message)).index in only:
            do(ledger, task)
        else:
            kept.append(message)
    if kept:
        ledger.client.rpush(IMAGE_QUEUE, *reversed(kept))


def indices(results: Path) -> list[int]:
    return sorted(line.index for _, line in read_lines(results) if line is not None) if results.exists() else []


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is waited for comes soon."""
    monkeypatch.setattr(loop, "COMPARE_AFTER_S", 0.5)
    monkeypatch.setattr(loop, "STATUS_EVERY_S", 0.1)
    monkeypatch.setattr(loop, "RECONCILE_EVERY_S", 0.05)
    monkeypatch.setattr(feed, "LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr(reconcile, "GAP_S", 0.05)
    monkeypatch.setattr(runner, "AGAIN_AFTER_S", 0.1)
    monkeypatch.setattr(runner, "QUICK_JOBS_AT_A_TIME", 60)


@pytest.fixture
def quick(client: redis.Redis) -> Ledger:
    """A ledger whose leases are short."""
    return Ledger(client, ttl_s=3600, lease_s=1.0)


def list_pages(folder: OutputFolder, tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.png" for index in range(PAGES)]
    write_manifest((FoundPage(file.name, file.as_uri(), 0) for file in files), folder.manifest)


@pytest.mark.parametrize(
    "damages",
    [*DAMAGES[:3], pytest.param(DAMAGES[3], marks=pytest.mark.slow)],
    ids=("fields", "keys", "states", "numbers"),
)
def test_the_page(
    soon: None,
    quick: Ledger,
    settings: Settings,
    tmp_path: Path,
    damages: dict[str, Damage],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """All of them at once."""
    store = Store(tmp_path / "web")
    pages = Runner(app_for(settings), quick, store, transfer="uri", roots=(tmp_path,), check=lambda more: None)
    names = {f"web-{number}": name for number, name in enumerate(damages)}
    for job in names:
        store.accept(store.new_upload(), job, WebJob(created=time.time(), sources=[str(tmp_path)], quick=True))
        list_pages(store.folder(job), tmp_path)
    try:
        with ThreadPoolExecutor() as pool:
            begun = threading.Event()
            half = pool.submit(work, quick, begun, only=range(2))
            turns = {job: pages.start(job) for job in names}
            wait_until(
                lambda: all(len(indices(store.folder(job).results)) == 2 for job in names),
                seconds=60,
                what="half of it",
            )
            begun.set()
            half.result()
            for job, name in names.items():
                damages[name](quick.client, JobKeys.of(job))
            time.sleep(LOOKS_S)
            ended = threading.Event()
            rest = pool.submit(work, quick, ended)
            with suppress(TimeoutError, AssertionError):
                wait_until(lambda: all(turn.is_over for turn in turns.values()), seconds=90, what="their ends")
            ended.set()
            rest.result()
        found = {name: (store.read(job).state, indices(store.folder(job).results)) for job, name in names.items()}
        assert {name: end for name, end in found.items() if end != ("done", list(range(PAGES)))} == {}
        assert "waiting for the broker" not in caplog.text, "it is well"
    finally:
        pages.stop()


def enqueue(ledger: Ledger, settings: Settings, tmp_path: Path, job: str) -> None:
    """A job of this machine whose first two pages are done."""
    folder = state_folder(job)
    list_pages(folder, tmp_path)
    folder.save_request(JobRequest(job=job, sources=[str(tmp_path)]))
    epoch = open_job(folder, ledger, job, PAGES)
    feeder = Feeder(app_for(settings), ledger, job, read_manifest(folder.manifest), epoch=epoch)
    assert feeder.step() == PAGES
    for index in (0, 1):
        do(ledger, ImageTask(job=job, index=index, image=f"{index}.png", uri="file:///a", epoch=epoch))


ALL = {name: damage for damages in DAMAGES for name, damage in damages.items()}
NUMBERS = ("ok = -1000", "failed = -1000", f"ok = {HUGE}", f"failed = {HUGE}", "epoch = zz", "state deleted")
HERE = (
    *NUMBERS,
    "key state deleted",
    "key state a set",
    "states of fewer",
    "all done",
    *(f"state of 2 = {letter!r}" for letter in "xof\0"),
    *(f"key {part} with {2**63}" for part in ("tasks", "leases", "holders", "blobs", "attempts")),
)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_collect(
    soon: None, quick: Ledger, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """Where the job's list of pages is, what was damaged is fed again; elsewhere its numbers are put right."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    app = app_for(settings)
    jobs = {f"job{number}": name for number, name in enumerate(NUMBERS if elsewhere else HERE)}
    for job in jobs:
        enqueue(quick, settings, tmp_path, job)
    results = {job: tmp_path / job / "results.jsonl" for job in jobs}
    if elsewhere:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    ended = threading.Event()
    with ThreadPoolExecutor(len(jobs) + 1) as pool:

        def collect(job: str) -> int:
            return collect_job(app, quick, job, results[job], follow=True, quiet=True).count

        futures = {name: pool.submit(collect, job) for job, name in jobs.items()}
        wait_until(lambda: all(len(indices(path)) == 2 for path in results.values()), seconds=60, what="half of it")
        for job, name in jobs.items():
            ALL[name](quick.client, JobKeys.of(job))
        time.sleep(LOOKS_S)
        worker = pool.submit(work, quick, ended)
        with suppress(AssertionError):
            wait_until(lambda: all(future.done() for future in futures.values()), seconds=90, what="their ends")
        late = [name for name, future in futures.items() if not future.done()]
        for job in jobs:
            quick.cancel(job)
        ended.set()
        worker.result()
    assert (late, {name: future.result() for name, future in futures.items() if future.result() != PAGES}) == ([], {})


def test_a_page_whose_record_is_always_lost_fails(
    soon: None, quick: Ledger, settings: Settings, tmp_path: Path
) -> None:
    """A record that no collector takes, of a version to come, say: the job ends all the same, and says so."""
    folder = OutputFolder(tmp_path / "out")
    list_pages(folder, tmp_path)
    quick.create("job", PAGES, {}, epoch="e")
    tries = 0

    def worker() -> None:
        nonlocal tries
        while message := quick.client.rpop(IMAGE_QUEUE):
            task = task_of(message)
            if task.index != 2:
                do(quick, task)
                continue
            tries += 1
            quick.begin("job", 2, redelivered=False, epoch="e")
            quick.finish("job", 2, ok=True, record=b"{}", epoch="e")

    again = partial(read_manifest, folder.manifest)
    feeder = Feeder(app_for(settings), quick, "job", again(), epoch="e", again=again)
    with (
        closing(Growth(folder.manifest, quick, "job", PAGES)) as growth,
        Collector(quick, "job", folder.results, PAGES, growth=growth) as collector,
    ):
        end = JobLoop(app_for(settings), quick, "job", Progress(), feeder, collector, on_tick=worker, growth=growth)
        assert (end.run().failed, collector.count, tries) == (2, PAGES, 4)
    errors = {line.index: line.error.type for _, line in read_lines(folder.results) if line and line.error}
    assert errors == {1: "CorruptImage", 2: "Internal"}


def test_a_job_whose_hash_is_none_can_be_cancelled_and_forgotten(ledger: Ledger) -> None:
    """Before: WRONGTYPE, and the page answered DELETE with 503."""
    ledger.create("job", 1, {})
    ledger.client.set(JobKeys.of("job").job, "x")
    assert not ledger.cancel("job")
    ledger.client.set(JobKeys.of("job").job, "x")
    assert ledger.forget("job") == 2 and not ledger.client.keys("ocrfleet:job:*")
