"""What a stranger wrote may be large: no step asks Redis for all of it at once, nor takes it for a job."""

from __future__ import annotations

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
