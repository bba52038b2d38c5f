"""When a page is given up, and as what."""

from __future__ import annotations

import pytest

from detector.images.budget import SMALLEST_LIMIT_SIDE
from worker.broker.quarantine import REFUSED_COUNTER, quarantine
from worker.detection import degraded_limit_side
from worker.ledger import Ledger
from worker.ledger.dead_letters import (
    ABORTED,
    MACHINE_FAULT,
    dead_record,
    is_hopeless,
    latest_dead_letters,
    record_dead_letter,
    steps_down,
)
from worker.messages import ImageTask, failed_record
from worker.redis_keys import COUNTERS_KEY, DEAD_KEY, QUARANTINE_KEY

TASK = ImageTask(job="far", index=0, image="a.pdf", uri="file:///a.pdf")


def test_an_abort_at_the_hard_limit_is_tried_once_more() -> None:
    assert not is_hopeless((ABORTED,))
    assert is_hopeless((ABORTED, ABORTED)) and is_hopeless(("WorkerLost", ABORTED, "TimedOut", ABORTED))
    assert not is_hopeless(("OutOfMemory", "OutOfMemory")), "an OOM kill, or a MemoryError, has its whole ladder"


@pytest.mark.parametrize(
    ("losses", "side"),
    [((), 1280), (("OutOfMemory",), 896), ((ABORTED,), 640), ((MACHINE_FAULT,), 1280), ((MACHINE_FAULT, ABORTED), 640)],
)
def test_the_one_more_try_is_the_smallest(losses: tuple[str, ...], side: int) -> None:
    assert degraded_limit_side(1280, steps_down(losses)) == side >= SMALLEST_LIMIT_SIDE


def test_its_record_says_so() -> None:
    record = dead_record(TASK, 2, (ABORTED, ABORTED), "h:1")
    assert record.error is not None and record.error.type == "OutOfMemory" and record.attempts == 2
    assert "OCRFLEET_MEMORY_LIMIT_MB" in record.error.message and "after 2 tries" in record.error.message


@pytest.mark.parametrize("last", ["18446744073709551615-18446744073709551615", "18446744073709551615-0"])
def test_what_people_look_at_is_kept_behind_the_last_id_there_is(ledger: Ledger, last: str) -> None:
    """Before: one entry of a stranger's, and no page given up, and nothing refused, was ever shown again."""
    client = ledger.client
    tasks = [ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)]
    ledger.create("job", 2, {})
    ledger.feed(tasks)
    for key in (DEAD_KEY, QUARANTINE_KEY):
        client.xadd(key, {"record": "a stranger's"}, id=last)
    for task in tasks:
        assert record_dead_letter(ledger, failed_record(task, "Internal", "x"))
        quarantine(client, b"raw", "queue", f"reason {task.index}")
    assert len([raw for raw in latest_dead_letters(client) if b'"index"' in raw]) == 2
    kept = [fields.get(b"reason") for _, fields in client.xrange(QUARANTINE_KEY)]
    assert kept[-2:] == [b"reason 0", b"reason 1"] and client.ttl(QUARANTINE_KEY) > 0


@pytest.mark.parametrize("said", ["9223372036854775807", "9000000000000000000", "-7", "word", "1.5"])
def test_a_counter_that_cannot_be_counted_on_begins_anew(ledger: Ledger, said: str) -> None:
    """Before: it stood still for good, and Prometheus was told 0."""
    client = ledger.client
    ledger.create("job", 2, {})
    ledger.feed([ImageTask(job="job", index=index, image="a", uri="file:///a") for index in range(2)])
    client.hset(COUNTERS_KEY, mapping={"ok": said, REFUSED_COUNTER: said})
    for index in range(2):
        assert ledger.finish("job", index, ok=True, record=b"{}")
        quarantine(client, b"raw", "queue", "reason")
    assert client.hmget(COUNTERS_KEY, "ok", REFUSED_COUNTER) == [b"2", b"2"]
