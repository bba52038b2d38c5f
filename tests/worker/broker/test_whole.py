"""What honest programs read whole is looked at before: a copy of a stranger's 188 MB is made by nobody.

Before, each reader made Redis hold one (366 MB with one, 718 with three; it is killed at 512), each script two.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
import redis

from producer.job.collector_lock import JobLock
from worker.app import IMAGE_QUEUE, UNACKED, UNACKED_INDEX, app_for
from worker.broker import blobs, in_turn, queue, urgent, whole
from worker.broker.whole import MOST_FIELDS, MOST_STORED
from worker.ledger import Ledger, job_names
from worker.ledger.reconcile import open_jobs
from worker.ledger.share import Share
from worker.messages import ImageTask
from worker.ops import cleanup, exporter, worker_registry
from worker.redis_keys import COUNTERS_KEY, IMAGES_KEY, JOBS_KEY, REPORTS_KEY, WORKERS_KEY, JobKeys
from worker.settings import Settings

KEYS = JobKeys.of("job")
TASK = ImageTask(job="job", index=0, image="a", uri="file:///a")
FILL = {  # by the server itself: nothing of that size is sent
    "hash": "redis.call('HSET', KEYS[1], 'x', string.rep('x', ARGV[1]))",
    "zset": "redis.call('ZADD', KEYS[1], 1, string.rep('x', ARGV[1]))",
    "list": "for i = 1, 8 do redis.call('LPUSH', KEYS[1], string.rep('x', ARGV[1] / 8)) end",
    "stream": "redis.call('XADD', KEYS[1], '*', 'record', string.rep('x', ARGV[1]))",
    "string": "redis.call('SET', KEYS[1], string.rep('x', ARGV[1]))",
}


def fill(client: redis.Redis, key: str, kind: str, size: int) -> None:
    client.eval(FILL[kind], 1, key, size)
    client.config_resetstat()


def calls(client: redis.Redis, *commands: str) -> int:
    """How often the server ran these since the key was filled, scripts' own calls too."""
    stats = client.info("commandstats")
    return sum(stats.get(f"cmdstat_{command}", {}).get("calls", 0) for command in commands)


READERS: list[tuple[str, str, Callable[[Ledger], object]]] = [
    (WORKERS_KEY, "hash", lambda ledger: worker_registry.workers(ledger.client)),
    (IMAGES_KEY, "hash", lambda ledger: worker_registry.images(ledger.client)),
    (REPORTS_KEY, "hash", lambda ledger: cleanup.last_reports(ledger.client)),
    (COUNTERS_KEY, "hash", lambda ledger: exporter.take_sample(ledger, 0).counters),
    (UNACKED, "hash", lambda ledger: queue.unacked_ids(ledger.client)),
    (UNACKED, "hash", lambda ledger: queue.in_hand(ledger.client)),
    (UNACKED, "hash", lambda ledger: queue.drop_in_hand(ledger.client, "job")),
    (UNACKED_INDEX, "zset", lambda ledger: queue.unacked_ids(ledger.client)),
    (KEYS.tasks, "hash", lambda ledger: ledger.in_flight("job")),
    (KEYS.holders, "hash", lambda ledger: ledger.holders("job")),
    (KEYS.leases, "zset", lambda ledger: ledger.leased("job")),
    (KEYS.leases, "zset", lambda ledger: ledger.lapsed("job")),
    (KEYS.blobs, "hash", lambda ledger: blobs.waiting_bytes(ledger.client, ["job"])),
    (KEYS.blobs, "hash", lambda ledger: blobs.discard(ledger.client, "job")),
]


@pytest.mark.parametrize(("key", "kind", "read"), READERS)
def test_what_is_larger_than_any_of_ours_is_dropped_and_not_read(
    ledger: Ledger, client: redis.Redis, key: str, kind: str, read: Callable[[Ledger], object]
) -> None:
    fill(client, key, kind, MOST_STORED)
    assert not read(ledger) and not client.exists(key)
    command = ("hgetall", "hkeys", "hvals") if kind == "hash" else ("zrange",)
    others = 2 if key == COUNTERS_KEY else 0  # the notes of workers, of which there are none
    assert calls(client, *command) == others


def test_neither_are_very_many_small_ones(ledger: Ledger, client: redis.Redis) -> None:
    lua = "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], i, 1) end"
    client.eval(lua, 1, KEYS.tasks, MOST_FIELDS)
    assert len(ledger.in_flight("job")) == MOST_FIELDS
    client.hset(KEYS.tasks, "one more", 1)
    assert ledger.in_flight("job") == {} and not client.exists(KEYS.tasks)


def test_a_job_is_not_lost_over_what_somebody_wrote_into_its_hash(ledger: Ledger, client: redis.Redis) -> None:
    ledger.create("job", 3, {"host": "here", "request": "x"}, epoch="e")
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a", epoch="e")])
    fill(client, KEYS.job, "hash", MOST_STORED)
    status = ledger.status("job")
    assert status is not None and (status.total, status.in_flight, status.epoch) == (3, 1, "e")
    assert status.extra == {"host": "here"} and not calls(client, "hgetall")


@pytest.mark.parametrize("field", ["state", "epoch", "total", "ok", "kept_ms"])
def test_no_script_reads_a_long_field_of_a_job(ledger: Ledger, client: redis.Redis, field: str) -> None:
    """Before: 190 MB in a made-up job's state were 570 in each worker's look for stranded pages, after each restart."""
    ledger.create("job", 1, {})
    ledger.feed([TASK])
    ledger.begin("job", 0, redelivered=False)
    client.eval("redis.call('HSET', KEYS[1], ARGV[1], string.rep('9', 5000))", 1, KEYS.job, field)
    client.zadd(KEYS.leases, {"0": 1})
    ledger.reclaim("job", 0)
    ledger.finish("job", 0, ok=True, record=b"{}")
    assert client.hstrlen(KEYS.job, field) < 100
    assert client.getrange(KEYS.state, 0, 0) in (b"o", b"q")


def test_the_index_of_jobs_keeps_names_of_jobs(
    ledger: Ledger, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 2,560 names of 4 KB filled the reply, and the look for stranded pages saw no real job in it."""
    ledger.create("real", 1, {})
    lua = "for i = 1, 2560 do redis.call('ZADD', KEYS[1], i, i .. string.rep('x', 4000)) end"
    client.eval(lua, 1, JOBS_KEY)
    client.zadd(JOBS_KEY, {"real": 0, "../x": 9e9, "no:name": 9e9, "ö": 9e9, "": 9e9})
    assert list(open_jobs(ledger)) == ledger.jobs() == ["real"] and client.zcard(JOBS_KEY) == 1
    ledger.feed([ImageTask(job="real", index=0, image="a", uri="file:///a")])
    assert Share(ledger, "other").others() == 1
    monkeypatch.setattr(job_names, "MOST_INDEX", 1 << 20)
    fill(client, JOBS_KEY, "zset", 1 << 20)
    assert ledger.jobs() == [] and not calls(client, "zrange")
    client.hdel(JobKeys.of("real").job, "kept_ms")
    ledger.touch("real")
    assert ledger.jobs() == ["real"], "its next step writes it again"


@pytest.mark.parametrize("kwargs", [{"urgent": True}, {"in_turn": True}])
def test_a_queue_of_long_messages_is_not_moved(
    client: redis.Redis, settings: Settings, kwargs: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: 31 messages of 6 MB, and one honest message that takes its turn took Redis from 202 to 550 MB."""
    for module in (urgent, in_turn, whole):
        monkeypatch.setattr(module, "MOST_QUEUED", 2 << 20)  # of 64: the server's disk is slow
    fill(client, IMAGE_QUEUE, "list", 1 << 20)
    queue.send(app_for(settings), TASK, **kwargs)
    assert client.llen(IMAGE_QUEUE) == 9 and calls(client, "lrange") == 1 and not calls(client, "lrem")
    fill(client, IMAGE_QUEUE, "list", 2 << 20)
    queue.send(app_for(settings), TASK, **kwargs)
    assert client.llen(IMAGE_QUEUE) == 1, "the ledger sends again what of it was ours"
    fill(client, IMAGE_QUEUE, "list", 2 << 20)
    assert queue.queued_ids(client) == set() and not client.exists(IMAGE_QUEUE)


def test_a_lock_of_any_length_is_looked_at_in_part(client: redis.Redis) -> None:
    """Before: 190 MB where a collector has its lock were 570 at each of its looks."""
    fill(client, "lock", "string", 1 << 20)
    lock = JobLock(client, "lock", "job")
    with pytest.raises(Exception, match="being collected by xxx"):
        lock.take()
    lock.release()
    assert client.strlen("lock") == 1 << 20 and not calls(client, "get") and client.ttl("lock") > 0


def test_a_stream_too_large_to_look_at_begins_anew(ledger: Ledger, client: redis.Redis) -> None:
    """At its last id: what waits is written again, but for what is three times as much in a script."""
    ledger.create("job", 1, {})
    ledger.feed([TASK])
    fill(client, KEYS.results, "stream", 49 << 20)
    client.xadd(KEYS.results, {"record": "x"}, id="18446744073709551615-18446744073709551615")
    client.config_resetstat()
    assert ledger.finish("job", 0, ok=True, record=b"{}")
    assert client.xlen(KEYS.results) == 1 and not calls(client, "xrange")


def test_what_is_no_note_goes_with_the_cleanup(client: redis.Redis) -> None:
    """Before: what cannot be read was never old, and each look read it again."""
    note = worker_registry.WorkerNote(at=1000, started=1, version="", profile="", temp_bytes=0)
    for name, at in (("old:1", 10), ("new:1", 10 + worker_registry.FORGET_S)):
        worker_registry.note_worker(client, name, worker_registry.WorkerNote(at, 1, "", "", 0))
        worker_registry.note_image(client, name, worker_registry.ImageNote(at, 1, ""))
    strange = {b"x": b"{", b"\xff": b"{}", b"n" * 400: b"1", b"long:1": msgspec.json.encode(note).ljust(5000)}
    for name, at in (("ahead:1", 1e300), ("ahead:2", 1000.0 + 2 * worker_registry.FORGET_S)):
        strange[name.encode()] = msgspec.json.encode(msgspec.structs.replace(note, at=at))
    strange[b"digits:1"] = strange[b"ahead:2"].replace(b'"temp_bytes":0', b'"temp_bytes":1' + b"0" * 3000)
    for key in (WORKERS_KEY, IMAGES_KEY):
        client.hset(key, mapping=strange)
    assert worker_registry.alive(client, 10 + worker_registry.FORGET_S) == 1, "what comes from later is none"
    assert worker_registry.forget_gone(client, 20 + worker_registry.FORGET_S) == 16
    assert client.hkeys(WORKERS_KEY) == client.hkeys(IMAGES_KEY) == [b"new:1"]
