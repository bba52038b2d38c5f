"""What strangers write where the ledger notes of one page: it has its record, and no other job waits for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import redis

from worker.app import app_for
from worker.celery_ext import self_care
from worker.celery_ext.self_care import SelfCare
from worker.ledger import reconcile
from worker.ledger.answers import MOST_LOSSES, losses_in
from worker.ledger.dead_letters import dead_record
from worker.ledger.ledger import Ledger
from worker.messages import ImageTask, encode_record
from worker.redis_keys import JobKeys
from worker.settings import Settings

# The last that msgspec can read, and kombu cannot write, are some 950 deep.
NESTED = ['1 {"job": "job", "index": 0, "x": %s}' % ("[" * depth + "]" * depth) for depth in (14, 200, 940, 980, 9999)]
TYPED = '1 {"job": "job", "index": 0, "x": [{"__type__": "decimal", "__value__": "x"}]}'


@pytest.mark.parametrize(
    "task",
    [
        "1",
        "1 ",
        "1 {",
        '1 {"job": "other", "index": 0}',
        "1 []",
        '1 {"job": "job", "index": false}',
        TYPED,
        *NESTED,
    ],
)
def test_a_damaged_task_is_met_once_and_its_page_fed_again(
    ledger: Ledger, client: redis.Redis, settings: Settings, caplog: pytest.LogCaptureFixture, task: str
) -> None:
    """Before: it ended the look at its job, or was met again at each, for ever, and renewed what a stranger made up."""
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    for index in range(2):
        ledger.begin("job", index, redelivered=False)
    client.hset(JobKeys.of("job").tasks, "0", task)
    assert reconcile.send_again(app_for(settings), ledger, "job", [0, 1]) == 0, "they are leased"
    ledger.expire_leases("job")
    assert reconcile.send_again(app_for(settings), ledger, "job", [0, 1]) == 1 and "is damaged" in caplog.text
    assert client.hkeys(JobKeys.of("job").tasks) == [b"1"]
    assert list(ledger.pages_in_state("job", b"\0")) == [0] and ledger.leased("job") == set()


@pytest.mark.parametrize(
    ("noted", "losses"),
    [
        (b"", ()),
        (b"WorkerLost,OutOfMemory", ("WorkerLost", "OutOfMemory")),
        (b"Aborted,CauseOfLater", ("Aborted", "CauseOfLater")),
        (b"\xff", ()),
        (b"\xed\xa0\x80,TimedOut", ("TimedOut",)),
        (b"a b,\x1b[31m,,\n,WorkerLost,9", ("WorkerLost",)),
        (b"x" * 65_000 + b",Internal", ("Internal",)),
        (b"A," * 32_000, ("A",) * (MOST_LOSSES - 1)),
    ],
)
def test_whatever_is_noted_of_lost_tries_the_page_has_its_record(
    ledger: Ledger, client: redis.Redis, noted: bytes, losses: tuple[str, ...]
) -> None:
    """Before: a byte that is no UTF-8 raised at each try, and where the failed record was to be written."""
    assert losses_in(noted) == losses
    task = ImageTask(job="job", index=0, image="a", uri="file:///a")
    ledger.create("job", 1, {})
    ledger.feed([task])
    for _ in range(ledger.max_attempts):
        ledger.begin("job", 0, redelivered=True)
    client.hset(JobKeys.of("job").losses, "0", noted)
    begun = ledger.begin("job", 0, redelivered=True)
    assert (begun.verdict, begun.losses) == ("exhausted", losses)
    _, data = encode_record(dead_record(task, begun.attempts, begun.losses, "w"))
    assert ledger.finish("job", 0, ok=False, record=data)


def test_a_look_that_raises_ends_no_worker(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: at a start, where it is done while Celery begins, it ended each worker of the machine."""

    def odd(*given: Any) -> int:
        raise RecursionError("of what nobody thought of")

    monkeypatch.setattr(self_care, "main_ledger", SimpleNamespace)
    monkeypatch.setattr(self_care, "reconcile", SimpleNamespace(hand_back=odd, take_turn=odd))
    SelfCare(app_for(settings), lambda seconds, step: None).begin()
    assert caplog.text.count("nobody thought of") >= 1
