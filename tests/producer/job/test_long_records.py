"""Records of any length in Redis: what is too long is put aside as it is read, and the rest of the job is collected."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import pytest
import redis

from detector.record import WordRecord
from producer.job.begin_again import LAST_ID, retry_on_broker
from producer.job.collect import Collector
from producer.job.collecting.few_at_first import BATCH
from producer.job.results_file import decode_whole
from tests.producer.records import BOX, failed, ok
from worker.broker import connect
from worker.ledger.ledger import Ledger
from worker.ledger.uncollected import Uncollected
from worker.messages import MOST_RECORD_BYTES, ImageTask, encode
from worker.redis_keys import JobKeys
from worker.settings import Settings

JOB = "long"
HUGE = 64 << 20
COLLECT = """
import atexit
from detector.memory import peak_rss_mb
from producer.cli.main import main
atexit.register(lambda: print(peak_rss_mb()))
main()
"""


def padded(index: int, size: int, status: str = "ok") -> bytes:
    """A record of this many bytes."""
    found = ok(index) if status == "ok" else failed(index)
    record = encode(msgspec.structs.replace(found, job=JOB))
    return record[:-1] + b',"padding":"' + b"x" * (size - len(record) - 13) + b'"}'


def write(ledger: Ledger, total: int, records: list[bytes]) -> None:
    ledger.create(JOB, total, {})
    ledger.feed([ImageTask(job=JOB, index=index, image="a", uri="file:///a") for index in range(total)])
    for index, record in enumerate(records):
        assert ledger.finish(JOB, index, ok=b'"ok"' in record, record=record)


def test_a_collector_does_not_grow_with_a_record(
    client: redis.Redis, ledger: Ledger, environment: dict[str, str], tmp_path: Path
) -> None:
    """Before: 666 MB for one of 200 MB that is no record (now 69), 1,800 for one that is."""
    write(ledger, 3, [padded(0, 400), padded(1, 400), padded(2, 400)])
    stream = JobKeys.of(JOB).results
    entries = client.xrange(stream)
    client.delete(stream, JobKeys.of(JOB).entries)
    # A stolen password's: between two that are good.
    first, second, third = (fields[b"record"] for _, fields in entries)
    client.xadd(stream, {"record": first})
    client.xadd(stream, {"record": b"x" * HUGE, "more": b"y" * 1000})
    client.xadd(stream, dict.fromkeys(map(str, range(100_000)), "z"))
    client.xadd(stream, {"record": second})
    client.xadd(stream, {"record": third})
    command = [sys.executable, "-P", "-c", COLLECT, "collect", JOB, "-o", str(tmp_path / "out"), "--quiet"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert told.returncode == 0 and "Traceback" not in told.stderr, told.stderr
    lines = (tmp_path / "out" / "results.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["index"] for line in lines] == [0, 1, 2] and client.xlen(stream) == 0
    kept = [json.loads(line) for line in (tmp_path / "out/.ocrfleet/quarantine.jsonl").read_text().splitlines()]
    assert [entry["reason"] for entry in kept] == [
        f"longer than a record may be ({HUGE >> 10} KiB)",
        "not a record (Input data was truncated)",
    ]
    assert float(told.stdout.split()[-1]) < 90


def test_records_that_are_long_together_all_come(ledger: Ledger, settings: Settings, tmp_path: Path) -> None:
    sizes = [400, *[1 << 20] * 12, MOST_RECORD_BYTES, MOST_RECORD_BYTES + 1, 400, 2 << 20, 400]
    write(ledger, len(sizes), [padded(index, size) for index, size in enumerate(sizes)])
    near = Ledger(connect(settings), ttl_s=3600)
    stream = JobKeys.of(JOB).results
    assert 0 < Uncollected(near.client, stream).mean_bytes() < 2 << 20  # of a sample; of all 1.0 MiB
    with Collector(near, JOB, tmp_path / "results.jsonl", len(sizes)) as collector:
        steps = 0
        while near.client.xlen(stream):
            collector.step(block_ms=0)
            steps += 1
        assert collector.count == len(sizes) - 1 and collector.aside.count == 1
        assert 5 <= steps <= 12 and collector._ask.count <= BATCH
    found = [json.loads(line)["index"] for line in (tmp_path / "results.jsonl").read_bytes().splitlines()]
    assert found == [index for index, size in enumerate(sizes) if size <= MOST_RECORD_BYTES]


def test_a_record_that_no_export_can_read_is_put_aside(ledger: Ledger, tmp_path: Path) -> None:
    """Before: the page was done, "ok", and in no export, without a word."""
    sound = padded(0, 600)
    odd = [
        sound.replace(b'"score":0.91', b'"score":"x"'),
        sound.replace(b'"score":0.91', b'"score":1e300'),
        sound.replace(b"[110.4,22.0]", b"[1e300,22.0]"),
        sound.replace(b'"status":"ok"', b'"status":"OK"'),
        sound.replace(b'"width":200', b'"width":-1'),
        sound.replace(b'"boxes":[', b'"boxes":[7,'),
    ]
    ledger.create(JOB, 1, {})
    ledger.adopt(JOB, [0], ok=True)
    for record in (*odd, sound):
        assert odd.count(record) < 2 and (record == sound) == (record not in odd)
        ledger.client.xadd(JobKeys.of(JOB).results, {"record": record})
    with Collector(ledger, JOB, tmp_path / "results.jsonl", 1) as collector:
        while ledger.client.xlen(JobKeys.of(JOB).results):
            collector.step(block_ms=0)
        assert collector.aside.count == len(odd) and collector.count == 1
    assert (tmp_path / "results.jsonl").read_bytes() == sound + b"\n"


@pytest.mark.slow
def test_a_record_is_checked_box_by_box() -> None:
    read = msgspec.structs.replace(BOX, text="a b", text_score=0.9, words=[WordRecord("a", BOX.points, 0.9)] * 11)
    record = encode(ok(0, boxes=[read] * 3000))
    assert len(record) > MOST_RECORD_BYTES / 2
    tracemalloc.start()
    try:
        assert decode_whole(record).index == 0
        assert tracemalloc.get_traced_memory()[1] < len(record) / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [400, pytest.param(1 << 20, marks=pytest.mark.slow)])
def test_a_retry_reads_a_few_records_at_a_time(size: int, ledger: Ledger, settings: Settings) -> None:
    """Before: all uncollected records at once, up to 40 MB of ours and any number of a stranger's. Then 256 at a time,
    of which four fitted and the others were sent once more: 20 of these were 63 MB."""
    count = 20 if size > 400 else 150
    write(ledger, count, [padded(index, size, "failed") for index in range(count)])
    near = Ledger(connect(settings), ttl_s=3600)
    before = near.client.info("stats")["total_net_output_bytes"]
    assert retry_on_broker(near, JOB) == count
    sent = near.client.info("stats")["total_net_output_bytes"] - before
    assert sent < 2.3 * count * size + (64 << 10)
    assert near.client.xlen(JobKeys.of(JOB).results) == 0


def test_an_entry_without_a_record_is_no_traceback(client: redis.Redis) -> None:
    client.xadd("stream", {"other": "x"})
    assert Uncollected(client, "stream").mean_bytes() == 0


def test_a_retry_ends_at_the_last_id_there_is(ledger: Ledger) -> None:
    """Before: refused, exit 3, until a `collect` took what a stranger had put there."""
    write(ledger, 3, [padded(index, 400, "failed") for index in range(3)])
    ledger.client.xadd(JobKeys.of(JOB).results, {"record": "{}"}, id=LAST_ID)
    assert retry_on_broker(ledger, JOB) == 3
