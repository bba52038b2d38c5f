"""Fields that should be numbers, and are none: whoever has a worker's password may write them."""

from __future__ import annotations

import pytest
import redis

from worker.broker import blobs
from worker.ledger import Ledger
from worker.messages import ImageTask
from worker.redis_keys import JobKeys

STRANGE = ["x", "9" * 5000, "-1", "1e5", "٣"]


@pytest.mark.parametrize("strange", STRANGE)
def test_one_such_field_stops_nobody(ledger: Ledger, client: redis.Redis, strange: str) -> None:
    """Before: int() raised in each worker's first look, at each start, and in every feeder of the page."""
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    ledger.begin("job", 1, redelivered=False)
    keys = JobKeys.of("job")
    client.hset(keys.tasks, strange, f"{strange} x")
    client.hset(keys.holders, strange, "somebody")
    client.zadd(keys.leases, {strange: 1})
    client.hset(keys.blobs, mapping={strange: strange, "0": "7"})
    client.hset(keys.job, mapping={"total": strange, "created_ms": strange})
    assert ledger.in_flight("job").keys() == {0, 1}
    assert ledger.holders("job").keys() <= {1}
    assert ledger.lapsed("job") == [] and ledger.leased("job") == {1}
    assert blobs.waiting_bytes(client, ["job"]) == 7
    assert ledger.status("job") is not None
    assert blobs.discard(client, "job") == 2
