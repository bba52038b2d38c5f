"""Keys of all jobs that a stranger made another type, and locks without an end: the fleet goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from worker.broker import connect, locks, queue
from worker.broker.wrong_types import SHARED, drop_wrong_types
from worker.ledger import Ledger, reconcile
from worker.ops import cleanup
from worker.ops.foreign_keys import CLEANUP_LOCK
from worker.redis_keys import JOBS_KEY, JobKeys
from worker.settings import Settings

USERS = Path(__file__).parents[3] / "deploy" / "redis" / "users.acl"


@pytest.fixture
def as_user(client: redis.Redis, settings: Settings) -> Iterator[dict[str, redis.Redis]]:
    """Connections of the shipped users, as our programs make them."""
    users = {}
    for line in USERS.read_text().splitlines()[1:]:
        _, name, *rights = line.split()
        client.execute_command("ACL", "SETUSER", name, "reset", *(word for word in rights if word[0] != ">"), ">pw")
        url = settings.redis_url.replace("unix://", f"unix://{name}:pw@")
        users[name] = connect(replace(settings, redis_url=url))
    yield users
    for name, connection in users.items():
        connection.close()
        client.execute_command("ACL", "DELUSER", name)


@pytest.mark.parametrize("user", ["worker", "producer", "hub"])
def test_shared_keys_of_another_type_are_dropped(
    client: redis.Redis, as_user: dict[str, redis.Redis], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: each command over such a key was refused until somebody deleted it."""
    for key, kind in SHARED.items():
        client.delete(key)
        client.set(key, "x") if kind != "stream" else client.rpush(key, "x")
    client.hset("ocrfleet:job:sound", "total", 1)
    as_user[user].hset("ocrfleet:unacked", "tag", "y")
    assert client.exists(*SHARED) == 1, "all were dropped at once"
    assert all(caplog.text.count(f"{key!a} held") == 1 for key in SHARED)
    assert client.hget("ocrfleet:job:sound", "total") == b"1" and client.hlen("ocrfleet:unacked") == 1
    client.zadd("ocrfleet:unacked_index", {"tag": 1})
    assert drop_wrong_types(as_user[user]) == [] and queue.depth(as_user[user]) == (0, 1)


def test_what_is_right_stays(client: redis.Redis) -> None:
    writes = {
        "hash": lambda key: client.hset(key, "a", "b"),
        "zset": lambda key: client.zadd(key, {"a": 1}),
        "list": lambda key: client.rpush(key, "a"),
        "stream": lambda key: client.xadd(key, {"a": "b"}),
        "set": lambda key: client.sadd(key, "a"),
    }
    for key, kind in SHARED.items():
        writes[kind](key)
    assert drop_wrong_types(client) == [] and client.exists(*SHARED) == len(SHARED)


def test_several_commands_at_once_drop_such_keys_too(as_user: dict[str, redis.Redis], client: redis.Redis) -> None:
    for transaction in (False, True):
        client.delete(queue.UNACKED)
        client.set(queue.UNACKED, "x")
        assert queue.depth(as_user["producer"]) == (0, 0)
        client.set(queue.UNACKED, "x")
        pipe = as_user["producer"].pipeline(transaction=transaction)
        pipe.rpush("ocrfleet:x", 1).hset(queue.UNACKED, "tag", "y").hget("ocrfleet:x", "no hash")
        answers = pipe.execute(raise_on_error=False)
        assert answers[0] == 1 + transaction and answers[1] == 1 and isinstance(answers[2], redis.ResponseError)
        assert client.llen("ocrfleet:x") == 1 + transaction, "once each time"
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            pipe.hget("ocrfleet:x", "no hash").execute()
    client.delete(queue.UNACKED)
    client.set(queue.UNACKED, "x")
    with as_user["producer"].pipeline() as pipe:
        pipe.watch(queue.UNACKED)
        with pytest.raises(redis.ResponseError):
            pipe.hget(queue.UNACKED, "tag")
    assert not client.exists(queue.UNACKED)


def test_a_job_is_made_and_an_older_one_is_found_again(
    client: redis.Redis, as_user: dict[str, redis.Redis], caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(as_user["producer"], ttl_s=60)
    assert ledger.create("old", 1, {})
    client.set(JOBS_KEY, "x")
    assert ledger.create("new", 1, {}), "before: WRONGTYPE, and the next try said that there is such a job"
    assert ledger.jobs() == ["new"]
    client.delete(JOBS_KEY)
    client.set(JOBS_KEY, "x")
    assert ledger.jobs() == []
    assert ledger.touch("old") and ledger.touch("new")
    assert sorted(ledger.jobs()) == ["new", "old"] and 0 < client.ttl(JOBS_KEY) <= 60
    assert caplog.text.count("dropped") == 1


def test_another_error_drops_nothing(client: redis.Redis, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    key = JobKeys.of("job").job
    client.set(key, "x")
    with caplog.at_level(logging.ERROR), pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        connect(settings).hget(key, "total")
    assert client.exists(key) and not caplog.text


@pytest.mark.parametrize("held", [{}, {"ex": 10**9}])
@pytest.mark.parametrize("of_another_type", [False, True])
def test_a_lock_without_an_end_lapses(
    client: redis.Redis, as_user: dict[str, redis.Redis], held: dict[str, int], of_another_type: bool
) -> None:
    """Before: one SET of the lock kept the fleet from looking for stranded pages, for good."""
    ledger = Ledger(as_user["worker"], ttl_s=60)
    for key in (reconcile.LOCK_KEY, CLEANUP_LOCK):
        client.sadd(key, "x") if of_another_type else client.set(key, "1", **held)
    assert not reconcile.take_turn(ledger)
    assert 0 < client.ttl(reconcile.LOCK_KEY) <= reconcile.LOCK_S + 1
    assert not locks.take(as_user["worker"], CLEANUP_LOCK, "me", cleanup.LOCK_S)
    assert 0 < client.ttl(CLEANUP_LOCK) <= cleanup.LOCK_S + 1


def test_a_lock_is_for_one(client: redis.Redis) -> None:
    assert locks.take(client, "ocrfleet:lock:x", "me", 0.05) and not locks.take(client, "ocrfleet:lock:x", "you", 0.05)
    assert client.pttl("ocrfleet:lock:x") <= 50


@pytest.mark.parametrize("user", ["worker", "producer"])
def test_parts_of_a_job_of_another_type_are_dropped_where_they_are_met(
    client: redis.Redis, as_user: dict[str, redis.Redis], user: str
) -> None:
    """Before: nobody could collect such a job, or read how far it is, until it was forgotten."""
    ledger = Ledger(as_user[user], ttl_s=60)
    ledger.create("job", 1, {})
    keys = JobKeys.of("job")
    for key in (keys.tasks, keys.leases, keys.holders, keys.results, keys.blobs):
        client.delete(key)
        client.set(key, "x")
    assert ledger.in_flight("job") == {} and ledger.leased("job") == set() and ledger.holders("job") == {}
    assert as_user[user].pipeline(transaction=False).xlen(keys.results).hlen(keys.blobs).execute() == [0, 0]
    assert client.exists(keys.job, keys.state, keys.tasks, keys.leases, keys.holders, keys.results, keys.blobs) == 2
    client.delete(keys.state)
    client.sadd(keys.state, "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        next(ledger.pages_in_state("job", b"q"))
    assert client.exists(keys.state)
