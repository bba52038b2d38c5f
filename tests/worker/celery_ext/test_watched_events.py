"""Events that Flower is given: Celery's own as they are, a stranger's short and without tags, or not at all."""

from __future__ import annotations

import base64
import json
import logging
import sys
from typing import Any

import pytest
import redis
from kombu import compression

from worker.app import DETECT_TASK, app_for
from worker.celery_ext.watched_events import TEXTS, shown
from worker.log_format import FewOfEach
from worker.settings import Settings

TAG = "<img src=x onerror=alert(1)>"
CLOCK = {"timestamp": 1.5e9, "clock": 7}
TASK = {
    "type": "task-received", "uuid": "j:0", "hostname": "w@h", "name": "ocrfleet.detect_image",
    "args": "('a & b.jpg',)", "kwargs": "{}", "retries": 0, "eta": None, "root_id": "j:0", "parent_id": None,
    "timestamp": 1.5e9, "utcoffset": 0, "clock": 7, "pid": 12, "expires": None,
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
    for field in ("args", "result", "uuid", "hostname", "exception"):
        plain = shown(TASK | {field: value})
        assert plain is not None and isinstance(plain[field], str)
        assert "<" not in json.dumps(plain) and "img src=x" in plain[field]
    beat = shown(HEARTBEAT | {"loadavg": value})
    assert beat is not None and "<" not in json.dumps(beat)


@pytest.mark.parametrize(
    "event",
    [
        HEARTBEAT | {"active": TAG}, HEARTBEAT | {"processed": [1]}, TASK | {"clock": 1e300}, TASK | {"retries": TAG},
        TASK | {"timestamp": float("inf")}, TASK | {"type": "x"}, TASK | {"type": "task-x"}, TASK | {"type": []}, [],
        TASK | {"name": TAG}, TASK | {"name": "tasks.add"}, TASK | {"name": []}, TASK | {"uuid": None},
        TASK | {"timestamp": None}, {**HEARTBEAT, "hostname": None},
        None, "x", TASK | {f"field{number}": 1 for number in range(60)},
    ],
)  # fmt: skip
def test_others_are_none(event: object) -> None:
    """Before: one heartbeat whose count was no number, and the page was answered 500 for an hour."""
    assert shown(event) is None


def test_what_is_packed_is_nothing(settings: Settings, client: redis.Redis) -> None:
    """Before: kombu unpacked it, 300 MB out of 400 KB, before anybody looked at it."""
    channel = app_for(settings).connection_for_read().channel()
    raw: dict[str, Any] = {"content-type": "application/json", "content-encoding": "utf-8"}
    raw["properties"] = {"delivery_tag": "t", "body_encoding": "base64", "delivery_info": {}}
    raw["body"], raw["headers"] = base64.b64encode(b'{"type": "x"}').decode(), {"clock": 1}
    assert channel.message_to_python(raw).decode() == {"type": "x"}
    for packing in (*compression.encoders(), "gzip", "bzip2", "nothing", ["x"]):
        known = compression._aliases.get(str(packing), packing) in compression.encoders()
        body = compression.get_encoder(packing)[0](b" " * (1 << 20)) if known else b"x"
        packed = {**raw, "body": base64.b64encode(body).decode(), "headers": {"compression": packing}}
        message = channel.message_to_python(packed)
        assert not message.errors and message.body == message.decode() == b"", packing
        assert shown(message.decode()) is None


def test_no_other_fields() -> None:
    """Before: 31 made-up ones were 130 KB a task, and 1.3 GB of the 10,000 that Flower keeps."""
    assert shown(TASK | {TAG: 1, "a" * 99: 1, "children": "x", "event": "x", "field": "x"}) == TASK


@pytest.mark.parametrize("letter", ["x", "é", "文", "😀"])
def test_memory_is_bounded(letter: str) -> None:
    """Before: 600 events of 0.6 MB were 2.4 GB. All that a task may ever have is counted here."""
    plain = shown(dict.fromkeys(TEXTS, letter * 600_000) | {"type": "task-received", "name": DETECT_TASK} | CLOCK)
    assert plain is not None and sum(map(sys.getsizeof, plain.values())) < 6 << 10


def test_a_page_is_shown_with_all_that_people_look_at() -> None:
    args = "({'job': 'scans', 'image': '" + "文" * 200 + ".jpg', 'page': 0},)"
    assert shown(TASK | {"args": args}) == TASK | {"args": args}


def test_of_dropped_events_a_few_are_told(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    few = FewOfEach(most=2, every_s=60, clock=lambda: now[0])
    logger = logging.getLogger("few")
    logger.addFilter(few)
    for second in range(100):
        now[0] = second
        logger.warning("junk from %s", "a")
        logger.warning("other")
    said = [line for line in caplog.messages if line.startswith("junk")]
    assert said == ["junk from a"] * 2 + ["junk from a (58 more like it in between)", "junk from a"]
