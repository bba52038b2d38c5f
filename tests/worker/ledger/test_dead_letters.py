"""When a page is given up, and as what."""

from __future__ import annotations

import pytest

from detector.images.budget import SMALLEST_LIMIT_SIDE
from worker.detection import degraded_limit_side
from worker.ledger.dead_letters import ABORTED, MACHINE_FAULT, dead_record, is_hopeless, steps_down
from worker.messages import ImageTask

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
