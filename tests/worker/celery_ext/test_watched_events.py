"""Events that Flower is given: Celery's own as they are, a stranger's short and without tags, or not at all."""

from __future__ import annotations

import json

import pytest

from worker.celery_ext.watched_events import MOST_TEXT, shown

TAG = "<img src=x onerror=alert(1)>"
TASK = {
    "type": "task-received", "uuid": "j:0", "hostname": "w@h", "name": "ocrfleet.detect_image",
    "args": "('a & b.jpg',)", "kwargs": "{}", "retries": 0, "eta": None, "root_id": "j:0", "parent_id": None,
    "timestamp": 1.5e9, "utcoffset": 0, "clock": 7, "pid": 12,
}  # fmt: skip
HEARTBEAT = {
    "type": "worker-heartbeat", "hostname": "w@h", "freq": 2.0, "active": 1, "processed": 9, "loadavg": [0.1, 0.2, 0.3],
    "sw_ident": "py-celery", "timestamp": 1.5e9, "clock": 8, "pid": 12, "utcoffset": 0,
}  # fmt: skip


def test_celerys_own_are_as_they_were() -> None:
    assert shown(TASK) == TASK and shown(HEARTBEAT) == HEARTBEAT


@pytest.mark.parametrize("value", [[TAG], {"a": TAG}, TAG, [[TAG]]])
def test_what_is_no_text_becomes_text_and_no_tag(value: object) -> None:
    """Before: Flower wrote it into its page as it came."""
    for field in ("args", "result", "name", "uuid", "hostname", "exception"):
        plain = shown(TASK | {field: value})
        assert plain is not None and isinstance(plain[field], str)
        assert "<" not in json.dumps(plain) and "img src=x" in plain[field]
    beat = shown(HEARTBEAT | {"loadavg": value})
    assert beat is not None and "<" not in json.dumps(beat)


@pytest.mark.parametrize(
    "event",
    [
        HEARTBEAT | {"active": TAG}, HEARTBEAT | {"processed": [1]}, TASK | {"clock": 1e300}, TASK | {"retries": TAG},
        TASK | {"timestamp": float("inf")}, TASK | {TAG: 1}, TASK | {"a" * 99: 1}, TASK | {"type": "x"}, [],
        None, "x", TASK | {f"field{number}": 1 for number in range(60)},
    ],
)  # fmt: skip
def test_others_are_none(event: object) -> None:
    """Before: one heartbeat whose count was no number, and the page was answered 500 for an hour."""
    assert shown(event) is None


def test_memory_is_bounded() -> None:
    """Before: 600 events of 0.6 MB were 2.4 GB."""
    plain = shown(TASK | {"args": "x" * 600_000, "kwargs": ["y" * 600_000]})
    assert plain is not None and len(json.dumps(plain)) < 2 * MOST_TEXT + 1000
