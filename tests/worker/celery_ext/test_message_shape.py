"""Messages that are none of ours do not end a worker, are not sent again, and are counted."""

from __future__ import annotations

import base64
import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.app import IMAGE_QUEUE, UNACKED, UNACKED_INDEX, app_for
from worker.broker import queue
from worker.broker.quarantine import QUARANTINE_KEY, REFUSED_COUNTER
from worker.celery_ext.message_shape import wrong_shape
from worker.messages import ImageTask
from worker.redis_keys import COUNTERS_KEY
from worker.settings import Settings, settings

ODD = [None, 7, -1, 1.5, True, "word", "", [], [1], {}, {"a": 1}]
# Fields of a message, and what each of them may well be.
FIELDS: dict[tuple[str, ...], list[Any]] = {
    ("body",): ["", "word"],
    ("content-type",): [],
    ("content-encoding",): [],
    ("headers",): [],
    ("properties",): [],
    ("headers", "id"): ["word"],
    ("headers", "task"): ["word"],
    ("headers", "timelimit"): [None],
    ("headers", "eta"): [None, ""],
    ("headers", "expires"): [None, ""],
    ("headers", "retries"): [None, 7, 1.5],
    ("headers", "stamps"): [None, {}, {"a": 1}],
    ("headers", "stamped_headers"): [None, []],
    ("properties", "delivery_tag"): ["word"],
    ("properties", "delivery_info"): [],
    ("properties", "body_encoding"): [None],
    ("properties", "priority"): [None, 7, 1.5],
    ("properties", "reply_to"): [None, "word", ""],
}


@pytest.fixture
def good(client: redis.Redis, settings: Settings) -> dict[str, Any]:
    """A message as the producer sends it."""
    queue.send(app_for(settings), ImageTask(job="job", index=0, image="a", uri="file:///a"))
    raw = client.rpop(IMAGE_QUEUE)
    message: dict[str, Any] = json.loads(raw)
    return message


def bodies() -> list[str]:
    """Bodies that are not base64 of [args, kwargs, embed]."""
    inside: list[Any] = [[], {}, "word", [1, 2], [[], {}, {}, {}], [{}, [], {}], [[], {}, {"callbacks": [{}]}], None]
    return ["@@@", "AAA", *(base64.b64encode(json.dumps(body).encode()).decode() for body in inside)]


def malformed(good: dict[str, Any]) -> list[Any]:
    """A hundred and more messages, each wrong in one place."""
    shapes: list[Any] = [None, 7, "word", [], [1], {}, {"body": ""}]
    for path, fine in FIELDS.items():
        for odd in ODD:
            if odd in fine and not isinstance(odd, bool):
                continue
            message = copy.deepcopy(good)
            place = message
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = odd
            shapes.append(message)
    for body in bodies():
        shapes.append({**good, "body": body})
    for limits in (["a", "b"], [1], [1, 2, 3], [[], {}], [-1, -1], [1e8, 1e8], [None, 1]):
        shapes.append({**good, "headers": {**good["headers"], "timelimit": limits}})
    # Before, a worker took 20,000 messages of the year 2030 from the queue, and held them in 180 MB.
    for header in ({"eta": "2030-01-01T00:00:00+00:00"}, {"task": "celery.chunks"}, {"task": "celery.starmap"}):
        shapes.append({**good, "headers": {**good["headers"], **header}})
    return shapes


def test_every_wrong_shape_is_told(good: dict[str, Any]) -> None:
    assert wrong_shape(good) == ""
    shapes = malformed(good)
    assert len(shapes) > 100
    assert [shape for shape in shapes if not wrong_shape(shape)] == []


def test_what_a_worker_of_0_1_0_sent_again_is_taken(good: dict[str, Any]) -> None:
    """Its own limits came with it; a page refused for them was lost until its lease ran out, and then again."""
    own = [settings().hard_timeout_s, settings().task_timeout_s]
    assert wrong_shape({**good, "headers": {**good["headers"], "timelimit": own}}) == ""
    longer = [limit + 1 for limit in own]
    assert wrong_shape({**good, "headers": {**good["headers"], "timelimit": longer}}) == "it sets time limits"


def test_a_worker_outlives_a_hundred_of_them(
    good: dict[str, Any], client: redis.Redis, environment: dict[str, str], tmp_path: Path
) -> None:
    """Before: 20 of 97 such messages ended the main process, 13 of these went back to the queue for the next one."""
    shapes = malformed(good)
    for raw in (b"\xff\xfe", b"{", b"[" * 100_000, b"NaN", *(json.dumps(shape).encode() for shape in shapes)):
        client.lpush(IMAGE_QUEUE, raw)
    sent = len(shapes) + 4
    client.hset(UNACKED, "x", b"garbage")
    client.hset(UNACKED, "y", b'[{"no": "message"}]')
    client.zadd(UNACKED_INDEX, {"x": 1.0, "y": 1.0})
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        wait_until(lambda: client.llen(IMAGE_QUEUE) == 0, seconds=60, what="the queue to be read")
        wait_until(lambda: not client.hlen(UNACKED), seconds=30, what="garbage in unacked to go")
        fed = command(environment, "ocr-producer", "enqueue", *write_images(tmp_path / "in", 2), "--job", "j", "-q")
        assert fed.returncode == 0, fed.stderr
        wait_until(lambda: client.hget("ocrfleet:job:j", "ok") == b"2", seconds=60, what="images among the rubbish")
        time.sleep(1)
        assert worker.alive
        assert client.llen(IMAGE_QUEUE) == client.hlen(UNACKED) == 0, "nothing of it goes back"
        assert int(client.hget(COUNTERS_KEY, REFUSED_COUNTER) or 0) == sent + 2
        assert client.xlen(QUARANTINE_KEY) > 100 and client.ttl(QUARANTINE_KEY) > 0
    finally:
        worker.stop()
        print((tmp_path / "worker.log").read_text(errors="replace")[-3000:])
