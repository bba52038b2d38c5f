"""Spoilt messages, records, results, manifests and annotations: a value, or an error of ours; soon, and in one line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import msgspec
import pytest
import redis

from detector.evaluation.annotations import AnnotationError, parse_annotations, read_annotations
from detector.record import UNREADABLE
from producer.job.collect import Collector
from producer.job.manifest import ManifestError, ManifestIndex, ManifestLine, read_manifest
from producer.job.results_file import drop_failed, iter_records, keep_last_records, read_lines, truncate_torn_line
from producer.job.results_owner import owner_of
from producer.job.status import StatusRow
from producer.output.totals import Totals
from tests.mutation.mutate import mutated, seconds_for
from worker.broker import queue
from worker.celery_ext.message_shape import wrong_shape
from worker.ledger import Ledger
from worker.messages import (
    ImageTask,
    MessageError,
    ModelRecord,
    Original,
    decode_task,
    encode,
    failed_record,
    page_named_in,
    split_task_id,
)
from worker.ops import worker_registry
from worker.ops.cleanup import REPORTS_KEY, clean_redis, last_reports
from worker.redis_keys import JOBS_KEY, JobKeys
from worker.settings import Settings

TASK = ImageTask(job="far", index=3, image="a/é.jpg", uri="file:///in/a.jpg", page=1, limit_side=640, epoch="e")
TASKS = [encode(TASK), encode(msgspec.structs.replace(TASK, original=Original(4000, 3000, ("downscaled",))))]
RECORDS = [
    encode(failed_record(TASK, "CorruptImage", "cut off", attempts=2, worker="h:1", peak_rss_mb=120.5)),
    encode(
        msgspec.structs.replace(
            failed_record(TASK, "CorruptImage", ""),
            status="ok",
            error=None,
            width=640,
            height=480,
            flags=["downscaled"],
            model=ModelRecord("dbnet-resnet18", "f" * 64, "onnxruntime-int8"),
        )
    ),
]
SLOWEST_S = 2.0
pytestmark = pytest.mark.slow


@contextmanager
def soon(data: bytes) -> Iterator[None]:
    """The block takes no time to speak of, whatever it is given."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SLOWEST_S, data[:200]


def test_task_messages() -> None:
    good = 0
    for data in mutated(TASKS, seconds_for("tasks")):
        with soon(data):
            try:
                task = decode_task(data)
                assert task.index >= 0 and task.limit_side >= 0 and "/" not in task.job
                good += 1
            except MessageError as error:
                assert "\n" not in str(error)
            try:
                plain = msgspec.json.decode(data)
            except UNREADABLE:
                continue
            page_named_in(plain)
            split_task_id(str(plain)[:100])
            try:
                decode_task(plain)
            except MessageError as error:
                assert "\n" not in str(error)
    assert good > 10, "spoilt a little, many are still messages"


def test_queue_messages(client: redis.Redis) -> None:
    """What lies in the queue's lists is read by commands (drop_job, reconciliation) as well as by workers."""
    sound = msgspec.json.encode(
        {
            "body": "W1t7fV0=",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "ocrfleet.detect_image", "id": "far:3", "retries": 0, "eta": None},
            "properties": {
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "ocrfleet.images"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": "8a5f",
            },
        }
    )
    batch: list[bytes] = []
    for data in mutated([sound], seconds_for("queue")):
        with soon(data):
            try:
                plain = msgspec.json.decode(data)
            except UNREADABLE:
                plain = None
            assert isinstance(wrong_shape(plain), str)
        batch.append(data)
    spoilt = batch[:500]
    client.lpush(queue.QUEUE_LISTS[0], *spoilt)
    client.hset(queue.UNACKED, mapping={str(number): data for number, data in enumerate(spoilt)})
    assert isinstance(queue.queued_ids(client), set) and isinstance(queue.unacked_ids(client), dict)
    queue.drop_job(client, "far")


def test_records_in_the_results_stream(ledger: Ledger, tmp_path: Path) -> None:
    """The collector passes over what is no record, writes what is, and goes on."""
    ledger.create("far", 8, {})
    ledger.adopt("far", range(8), ok=True)
    keys = JobKeys.of("far")
    for data in islice(mutated(RECORDS, seconds_for("stream")), 1500):
        ledger.client.xadd(keys.results, {"record": data})
    ledger.client.xadd(keys.results, {"something": b"else"})
    good = msgspec.structs.replace(
        msgspec.json.decode(RECORDS[1], type=type(failed_record(TASK, "Internal", ""))), index=7
    )
    ledger.client.xadd(keys.results, {"record": encode(good)})
    status = ledger.status("far")
    assert status is not None
    out = tmp_path / "results.jsonl"
    with Collector(ledger, "far", out, 8, owner=owner_of(status)) as collector:
        for _ in range(100):
            collector.step(block_ms=0)
    assert ledger.client.xlen(keys.results) == 0, "nothing is left to be met again"
    written = [line.index for _, line in read_lines(out) if line]
    assert 7 in written and set(written) <= set(range(8))


def test_what_commands_read(ledger: Ledger) -> None:
    """Dead letters, cleanup reports and workers' notes: whatever a stranger writes there, the others are shown."""
    notes = [b'{"at":1.5,"started":1.0,"version":"1","profile":"low","temp_bytes":0}', b'{"files":1,"bytes":2,"at":3}']
    for number, data in enumerate(islice(mutated(notes, seconds_for("notes")), 500)):
        ledger.client.hset(REPORTS_KEY, b"h\xff%d" % number, data)
        ledger.client.hset(worker_registry.WORKERS_KEY, b"w%d" % number, data)
    ledger.client.hset(REPORTS_KEY, "sound", notes[1])
    ledger.client.hset(worker_registry.WORKERS_KEY, "sound:1", notes[0])
    assert "sound" in last_reports(ledger.client) and "sound:1" in worker_registry.workers(ledger.client)


@pytest.mark.parametrize("value", [b"nan", b"inf", b"-1e999", b"9" * 400, b"", b"x", b"\xff", b"1e17"])
def test_a_forged_job_is_shown(ledger: Ledger, settings: Settings, value: bytes) -> None:
    ledger.create("far", 2, {})
    fields = (
        "total",
        "ok",
        "failed",
        "state",
        "created_ms",
        "progress_ms",
        "finished_ms",
        "fed_ms",
        "kept_ms",
        "version",
    )
    for field in fields:
        ledger.client.hset(JobKeys.of("far").job, field, value)
    ledger.client.zadd(JOBS_KEY, {b"\xff\x1b[2J": 1.0})
    for job in ledger.jobs():
        status = ledger.status(job)
        assert status is not None and "far" in str(StatusRow.of(status))
    clean_redis(ledger, settings)


def test_results_files(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    for data in mutated([b"\n".join([*RECORDS, *RECORDS]) + b"\n"], seconds_for("results")):
        path.write_bytes(data)
        with soon(data):
            truncate_torn_line(path)
            totals = Totals()
            for record in iter_records(path):
                totals.add(record)
            drop_failed(path)
            keep_last_records(path)
            assert all(line is not None for _, line in read_lines(path))


def test_manifests(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    lines = [
        msgspec.json.encode(ManifestLine(number, "é.pdf", "file:///%C3%A9.pdf", number)) + b"\n" for number in range(4)
    ]
    for data in mutated([b"".join(lines)], seconds_for("manifest")):
        path.write_bytes(data)
        with soon(data):
            try:
                list(read_manifest(path))
            except ManifestError as error:
                assert "\n" not in str(error) and str(path) in str(error)
            try:
                with ManifestIndex(path) as index:
                    for number in range(-1, 6):
                        index.is_paged(number, "é.pdf", 0)
                        index.line(number)
            except ManifestError as error:
                assert str(path) in str(error)


@pytest.mark.parametrize(
    "sound", [b"1,2,30,2,30,40,1,40,text\n5,5,9,5,9,9,5,9,###\n", "377,117,463,117,465,130,378,130,é\n".encode()]
)
def test_annotation_files(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "gt_a.txt"
    for data in mutated([sound], seconds_for("annotations") / 2):
        path.write_bytes(data)
        with soon(data):
            try:
                regions = read_annotations(path)
                assert all(
                    abs(value) < float("inf") for region in regions for point in region.points for value in point
                )
            except AnnotationError as error:
                assert "\n" not in str(error)
            parse_annotations(data.decode("utf-8", "replace"), "a")
