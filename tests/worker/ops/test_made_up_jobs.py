"""Whoever looks at all jobs holds little of each, whatever a stranger made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.traced import assert_few_bytes
from worker.ledger import Ledger
from worker.ops.doctor import ask_broker
from worker.ops.exporter import take_sample
from worker.redis_keys import JOBS_KEY, JobKeys

WIDE = "\U0001f600" + "a" * 480_000  # 0.5 MB in Redis, 2 MB here


def examined(ledger: Ledger) -> str:
    return ask_broker(ledger).producers["made-up-0"]


def sampled(ledger: Ledger) -> str:
    return "1" * (take_sample(ledger, ledger.now()).jobs_open == 12)


@pytest.mark.slow
@pytest.mark.parametrize("look", [examined, sampled])
def test_jobs_that_somebody_made_up_take_little(look: Callable[[Ledger], str], ledger: Ledger) -> None:
    """Before: six of 4 MB had the exporter killed at each scrape, in its 96 MB, and 45 had `doctor` take 740."""
    for number in range(12):
        fields = dict.fromkeys(("f0", "f1", "request", "host", "manifest", "missed"), WIDE)
        name = f"made-up-{number}"
        ledger.client.hset(JobKeys.of(name).job, mapping={"total": 1, "state": "open", "version": "1", **fields})
        ledger.client.zadd(JOBS_KEY, {name: number + 1})
    assert_few_bytes(lambda _: look(ledger) == "1" or pytest.fail("wrong"), peak=20 << 20)
