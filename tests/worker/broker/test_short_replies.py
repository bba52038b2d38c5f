"""What a stolen password can write into Redis costs whoever reads it no memory, and what follows is read rightly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from worker.app import IMAGE_QUEUE, app_for
from worker.broker import connect, queue
from worker.broker.short_replies import MOST_ENTRIES, Bounds, TooLong, short_replies, that_fit
from worker.ledger.dead_letters import DEAD_KEY, latest_dead_letters
from worker.messages import MOST_RECORD_BYTES, BoxRecord, ImageRecord, ImageTask, encode_record
from worker.ops import worker_registry
from worker.settings import Settings

SMALL = Bounds(value=20_000, reply=50_000, entries=10)
PEAK = """
import sys
from detector.memory import peak_rss_mb
from worker.broker.connection import connect
from worker.settings import read_settings
client = connect(read_settings({"OCRFLEET_REDIS_URL": sys.argv[1]}))
before = peak_rss_mb()
for command in sys.argv[2:]:
    client.execute_command(*command.split())
client.ping()
print(peak_rss_mb() - before)
"""


@pytest.fixture(params=[2, 3])
def short(client: redis.Redis, request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    url = f"unix://{client.connection_pool.connection_kwargs['path']}"
    connection = redis.Redis.from_url(url, protocol=request.param)
    connection.connection_pool.connection_class = short_replies(connection.connection_pool.connection_class, SMALL)
    yield connection
    connection.close()


def test_long_lists_are_cut_and_what_follows_is_read_rightly(client: redis.Redis, short: redis.Redis) -> None:
    client.hset("hash", mapping={f"{n}": "v" * n for n in range(400)})
    client.rpush("list", *(b"x" * (n * 700) for n in range(40)))
    client.sadd("set", *range(100))
    client.zadd("zset", {f"{n}": n for n in range(100)})
    for _ in range(2):
        found = short.hgetall("hash")
        assert len(found) in (5, 10) and all(len(value) == int(key) for key, value in found.items())
        assert [len(value) for value in short.lrange("list", 0, -1)] == [700 * n for n in range(10)]
        assert len(short.smembers("set")) == 10 and len(short.zrange("zset", 0, -1, withscores=True)) in (5, 10)
        assert short.get("none") is None and short.hget("hash", "3") == b"vvv"


def test_entries_of_a_stream_are_cut_too(client: redis.Redis, short: redis.Redis) -> None:
    client.xadd("stream", {f"{n}": n for n in range(5000)})
    client.xadd("stream", {"record": "b"})
    [(_, many), (_, one)] = short.xrange("stream")
    assert len(many) == 5 and one == {b"record": b"b"}
    pipe = short.pipeline(transaction=False)
    pipe.xrange("stream")
    pipe.get("none")
    assert len(pipe.execute()[0]) == 2


def test_a_reply_has_a_bound_of_its_own(client: redis.Redis, short: redis.Redis) -> None:
    for letter in "abcde":
        client.xadd("stream", {"record": letter * 15_000})
    client.xadd("stream", {"record": "f" * 90_000})
    entries = short.xrange("stream")
    assert [entry[1][b"record"][:1] for entry in that_fit(entries)] == [b"a", b"b", b"c"]
    assert all(isinstance(fields[b"record"], TooLong) for _, fields in entries[3:])
    last = short.xrevrange("stream", count=1)
    assert that_fit(last) == last and last[0][1][b"record"].size == 90_000
    assert short.xrange("stream", count=1)[0][1][b"record"] == b"a" * 15_000


def test_an_entry_whose_name_had_no_room_is_asked_for_again(client: redis.Redis, short: redis.Redis) -> None:
    """Its id would be empty, and XDEL of that an error."""
    client.xadd("stream", {"a": "x" * 19_990, "b": "x" * 19_990, "c": "x" * 10_005}, id="1-1")
    client.xadd("stream", {"a": "b"}, id="1234567890123-1")
    assert short.xrange("stream")[1][1] == {b"a": b"b"}
    assert [name for name, _ in that_fit(short.xrange("stream"))] == [b"1-1"]


def test_a_reply_given_up_in_the_middle_ends_the_connection(client: redis.Redis, short: redis.Redis) -> None:
    client.rpush("list", b"a" * 90_000, b"b")
    connection = short.connection_pool.get_connection()
    connection.send_command("LRANGE", "list", 0, -1)
    buffer = connection._parser._buffer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buffer, "_drop", lambda left: (buffer._forget(), 1 / 0))
        with pytest.raises(ZeroDivisionError):
            connection._parser.read_response()
    with pytest.raises(redis.ConnectionError, match="in the middle"):
        connection._parser.read_response()
    connection.disconnect()


def test_what_is_huge_in_redis_is_not_huge_here(client: redis.Redis, settings: Settings) -> None:
    """Before: 127 MB for the value alone, and and 30 MB for the hash."""
    client.set("value", bytes(100 << 20))
    client.eval("for i = 1, 150000 do redis.call('HSET', KEYS[1], i, i) end", 1, "hash")
    commands = ["GET value", "HGETALL hash", "HKEYS hash"]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, settings.redis_url, *commands], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 16


def test_who_sends_a_page_asks_no_set_in_redis_where_to(client: redis.Redis, settings: Settings) -> None:
    """Before: a member that is no binding ended the producer with a traceback, one of 200 MB was read whole."""
    client.sadd(f"_kombu.binding.{IMAGE_QUEUE}", "no binding", "x\x06\x16\x06\x16another")
    app = app_for(replace(settings, redis_url=settings.redis_url))
    for urgent in (False, True):
        queue.send(app, ImageTask(job="job", index=int(urgent), image="a", uri="file:///a"), urgent=urgent)
    assert queue.queued_ids(client) == {"job:0", "job:1"} and not client.exists("another")


def test_all_of_a_long_queue_is_seen(client: redis.Redis, settings: Settings) -> None:
    app = app_for(settings)
    for index in range(700):
        queue.send(app, ImageTask(job=f"job{index % 2}", index=index, image="a", uri="file:///a"))
    client.lpush(IMAGE_QUEUE, '{"headers": {"id": "%s"}}' % ("x" * 500))
    assert len(queue.queued_ids(client)) == 700
    assert queue.drop_job(client, "job1") == 350
    assert len(queue.queued_ids(client)) == 350 == client.llen(IMAGE_QUEUE) - 1


def test_a_hash_full_of_strangers_workers_hides_no_more_than_it_must(client: redis.Redis, settings: Settings) -> None:
    """Before: 300,000 hid each real one from doctor, the page and the exporter, until somebody removed them."""
    client.eval("for i = 1, 100000 do redis.call('HSET', KEYS[1], i, 'x') end", 1, worker_registry.WORKERS_KEY)
    assert len(connect(settings).hkeys(worker_registry.WORKERS_KEY)) == MOST_ENTRIES
    assert worker_registry.workers(connect(settings)) == {}
    note = worker_registry.WorkerNote(at=1, started=1, version="", profile="", temp_bytes=0)
    worker_registry.note_worker(client, "host:1", note)  # as each worker does every 15 s
    assert worker_registry.workers(connect(settings)) == {"host:1": note}


def test_a_dead_letter_of_a_stranger_is_none(client: redis.Redis) -> None:
    client.xadd(DEAD_KEY, {"other": "x"})
    assert latest_dead_letters(client) == [b""]


def test_a_record_longer_than_is_read_becomes_a_failed_one() -> None:
    box = BoxRecord(points=[(0, 0), (1, 0), (1, 1), (0, 1)], score=0.9)
    record = ImageRecord(job="j", index=0, image="a", page=0, status="ok", boxes=[box] * 100_000, pages=3)
    failed, data = encode_record(record)
    assert failed.error and failed.error.type == "TooLarge" and "100,000 boxes" in failed.error.message
    assert failed.pages == 3 and len(data) < 1000
    assert len(encode_record(msg := record.__class__(job="j", index=0, image="a", page=0, status="ok"))[1]) < 500
    assert encode_record(msg)[0] is msg and Bounds().reply >= MOST_RECORD_BYTES


def test_lists_within_lists_are_bounded_together(client: redis.Redis, short: redis.Redis) -> None:
    """Before: 64 of 256 entries with 65,536 fields each took a collector 277 MB and 71 s."""
    for number in range(6):
        client.xadd("stream", {f"{number}-{field}": "v" for field in range(400)}, id=f"{number + 1}-0")
    seen, ask = [], 6
    while len(seen) < 6:
        found = that_fit(short.xrange("stream", min=f"({seen[-1]}" if seen else "-", count=ask))
        assert sum(len(fields) for _, fields in found) <= 10
        seen += [name.decode() for name, _ in found]
        ask = len(found)
        assert short.ping()
    assert seen == [f"{number + 1}-0" for number in range(6)]
