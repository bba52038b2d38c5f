"""What a stranger wrote may be large: no step asks Redis for all of it at once, nor takes it for a job."""

from __future__ import annotations

import pytest
import redis

from worker.broker import blobs
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask
from worker.redis_keys import JOBS_KEY, JobKeys


def test_such_a_stream_is_not_copied_whole(ledger: Ledger, client: redis.Redis) -> None:
    """Before: 188 MB in it, and each record took Redis to 684 MB, where it was killed, for ever."""
    ledger.create("job", 1, {})
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a")])
    ledger.begin("job", 0, redelivered=False)
    results = JobKeys.of("job").results
    client.xadd(results, {"record": b"waits"})
    for _ in range(10):
        client.xadd(results, {"x": b"x" * 1_000_000})
    client.xadd(results, {"x": "y"}, id="18446744073709551615-18446744073709551615")
    assert ledger.finish("job", 0, ok=True, record=b"0")
    assert [fields.get(b"record") for _, fields in client.xrange(results)] == [b"waits", None, b"0"]


def test_names_in_a_jobs_blobs_are_not_asked_for(ledger: Ledger, client: redis.Redis) -> None:
    """Before: 188 MB of them, and each step that renews a job's keys took Redis to where it is killed."""
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    client.hset(JobKeys.of("job").blobs, mapping={"x" * 1000: "1", "1": "4"})
    client.set(blobs.blob_key("job", 1), "data", ex=5)
    client.hset(JobKeys.of("job").job, "kept_ms", "0")  # long ago
    client.config_resetstat()
    ledger.touch("job")
    asked = client.info("commandstats")
    assert "cmdstat_hkeys" not in asked and "cmdstat_hgetall" not in asked
    assert client.ttl(blobs.blob_key("job", 1)) > 60, "that of a page that waits lives on"


def test_a_forged_name_is_no_job(ledger: Ledger, client: redis.Redis) -> None:
    """Before: a hundred of 40 KB, and each look at the list of jobs took the page a hundred MB."""
    ledger.create("job", 1, {})
    for name in ("j" * 40_000, "of two words"):
        client.hset(f"ocrfleet:job:{name}", "state", "open")
        client.zadd(JOBS_KEY, {name: 1e12})
    assert ledger.jobs() == ["job"]


def test_a_task_of_a_strangers_size_is_not_sent(ledger: Ledger, client: redis.Redis) -> None:
    """Before: one of 90 MB, and each honest look took Redis to 656 MB, where it is killed, again and again."""
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    client.hset(JobKeys.of("job").tasks, "0", b"x" * 100_000)
    assert ledger.reclaim("job", 0) is None
    assert ledger.reclaim("job", 1) is not None
    assert not client.hexists(JobKeys.of("job").tasks, "0")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["job", "attempts", "losses", "blobs", "entries", "manifest"])
def test_no_key_of_a_living_job_holds_what_is_not_its_own(ledger: Ledger, client: redis.Redis, part: str) -> None:
    """Before: 275 MB in one, once, stayed as long as the job; a watched one's for ever, and nobody else was fed."""
    ledger.create("job", 2, {"manifest": "m", "request": "r" * 100_000, "heir": "h"}, epoch="e")
    keys = JobKeys.of("job")
    key = getattr(keys, part)
    if part == "manifest":
        client.setrange(key, 40 << 20, "x")
    else:
        for number in range(40):
            client.hset(key, f"x{number}", "x" * (1 << 20))
    client.hset(keys.job, "kept_ms", "0")  # else once a minute
    before = client.hgetall(keys.job)
    ledger.feed([ImageTask(job="job", index=0, image="a", uri="file:///a", epoch="e")])
    assert (client.memory_usage(key, samples=0) or 0) < 1 << 20
    after = client.hgetall(keys.job)
    for name in (b"manifest", b"request", b"heir", b"total", b"state", b"created_ms", b"epoch"):
        assert after[name] == before[name]
    ledger.begin("job", 0, redelivered=False, epoch="e")
    assert ledger.finish("job", 0, ok=True, record=b"{}", epoch="e")
    status = ledger.status("job")
    assert status is not None and (status.ok, status.total) == (1, 2)


@pytest.mark.slow
def test_what_is_kept_of_pages_on_their_way_goes_with_no_strangers(ledger: Ledger, client: redis.Redis) -> None:
    """Before: a page that each of its processes was lost over was tried three times more."""
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    ledger.begin("job", 1, redelivered=False)
    ledger.lose("job", 1, "WorkerLost")
    keys = JobKeys.of("job")
    for key in (keys.attempts, keys.losses):
        client.hset(key, mapping={f"x{number}": "x" * (1 << 20) for number in range(9)})
    client.hset(keys.job, "kept_ms", "0")
    ledger.touch("job")
    assert client.hgetall(keys.attempts) == {b"1": b"1"} and client.hgetall(keys.losses) == {b"1": b"WorkerLost"}
    assert client.ttl(keys.losses) > 0


@pytest.mark.slow
def test_a_server_that_such_a_key_filled_is_emptied_by_who_looks_after_the_job(
    ledger: Ledger, client: redis.Redis
) -> None:
    ledger.create("job", 2, {}, epoch="e")
    keys = JobKeys.of("job")
    for number in range(20):
        client.hset(keys.attempts, f"x{number}", "x" * (1 << 20))
    client.hset(keys.job, "kept_ms", "0")
    client.config_set("maxmemory", int(client.info("memory")["used_memory"]) - (4 << 20))
    try:
        with pytest.raises(redis.ResponseError, match="used memory"):
            client.set("ocrfleet:x", "x")
        assert ledger.touch("job") and not client.exists(keys.attempts)
    finally:
        client.config_set("maxmemory", "0")
