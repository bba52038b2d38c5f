"""Messages that are none of ours do not end a worker, are not sent again, and are counted."""

from __future__ import annotations

import base64
import copy
import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.app import CLEANUP_TASK, IMAGE_QUEUE, UNACKED, UNACKED_INDEX, app_for
from worker.broker import queue
from worker.broker.quarantine import QUARANTINE_KEY, REFUSED_COUNTER
from worker.celery_ext.message_shape import wrong_image, wrong_shape
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
    inside.append([[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]], {}, {}])
    inside.append([[{"x": {"__type__": "decimal", "__value__": "x"}}], {}, {}])  # kombu's reader raises
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
    for name in ("id", "root_id", "parent_id", "shadow", "origin", "argsrepr", "expires", "anything"):
        shapes.append({**good, "headers": {**good["headers"], name: "x" * 200_000}})
    for name in ("delivery_tag", "correlation_id", "reply_to", "anything"):
        shapes.append({**good, "properties": {**good["properties"], name: "x" * 200_000}})
    # Before, each tag of half a pair took 15 KB of the main process for its life, though its message was refused.
    for tag in ("\ud83d", "\ud83d" + "x" * 60, "é", "x" * 65, "x" * 3000 + "😀"):
        shapes.append({**good, "properties": {**good["properties"], "delivery_tag": tag}})
    shapes.append({**good, "headers": {**good["headers"], "deep": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}})
    return shapes


def no_pages(good: dict[str, Any]) -> list[dict[str, Any]]:
    """Sound messages of Celery's that are no page's."""
    ids: list[dict[str, Any]] = [
        {"id": name} for name in ("word", "a:", ":1", "a:-1", "a:1e3", "a b:1", "j" * 65 + ":1", "é:1", f"a:{2**63}")
    ]
    changes = [*ids, {"task": "some.task"}, {"task": CLEANUP_TASK}, {"expires": "2020-01-01T00:00:00+00:00"}]
    shapes = [{**good, "headers": {**good["headers"], **change}} for change in changes]
    page = json.loads(base64.b64decode(good["body"]))[0]
    for body in ([[], {}, {}], [page * 2, {}, {}], [page, {"x": 1}, {}], [[1, 2, 3], {}, {}]):
        shapes.append({**good, "body": base64.b64encode(json.dumps(body).encode()).decode()})
    return shapes


def test_every_wrong_shape_is_told(good: dict[str, Any]) -> None:
    assert wrong_shape(good) == ""
    shapes = malformed(good)
    assert len(shapes) > 100
    assert [shape for shape in shapes if not wrong_shape(shape)] == []
    assert wrong_image(good) == "" and all(map(wrong_image, shapes))
    assert [shape for shape in no_pages(good) if wrong_shape(shape) or not wrong_image(shape)] == []


@pytest.mark.parametrize("letter", ["x", "é", "文", "😀", "\x7f", "\\"])
def test_pages_of_any_name_and_number_are_taken(letter: str, client: redis.Redis, settings: Settings) -> None:
    """What a producer sends, of this version and of those that wrote the whole name into a header."""
    image = letter * (12_000 // len(letter.encode()))
    task = ImageTask(job="j" * 64, index=49_999_999, image=image, uri=f"file:///{image}")
    queue.send(app_for(settings), task)
    raw = client.rpop(IMAGE_QUEUE)
    assert isinstance(raw, bytes)
    sent = json.loads(raw)
    assert wrong_image(sent) == "" and len(sent["headers"]["argsrepr"]) < 1000
    assert (
        wrong_image({**sent, "headers": {**sent["headers"], "argsrepr": f"{image!a} page 0 of job {task.job}"}}) == ""
    )


def test_what_a_worker_of_0_1_0_sent_again_is_taken(good: dict[str, Any]) -> None:
    """Its own limits came with it; a page refused for them was lost until its lease ran out, and then again."""
    own = [settings().hard_timeout_s, settings().task_timeout_s]
    assert wrong_shape({**good, "headers": {**good["headers"], "timelimit": own}}) == ""
    longer = [limit + 1 for limit in own]
    assert wrong_shape({**good, "headers": {**good["headers"], "timelimit": longer}}) == "it sets time limits"


def test_a_worker_outlives_a_hundred_of_them(
    good: dict[str, Any], client: redis.Redis, environment: dict[str, str], tmp_path: Path
) -> None:
    """Before: 20 of 97 such messages ended the main process, 13 of these went back to the queue for the next one. Ids
    of 1 MB were remembered, up to 7.6 MB each, and what Celery does not know was logged, each with all its headers."""
    shapes = malformed(good) + 5 * no_pages(good)
    long_ids = [
        {"id": f"{number}😀{'j' * 1_000_000}:1", "expires": "2020-01-01T00:00:00+00:00"} for number in range(20)
    ]
    shapes += [{**good, "headers": {**good["headers"], **header}} for header in long_ids]
    junk = [b"\xff\xfe", b"{", b"[" * 100_000, b"NaN"]
    # One of these Python can read, and not write again.
    deep = [b'{"headers": {"x": %b}}' % (b"[" * depth + b"]" * depth) for depth in range(880, 1000)]
    for raw in (
        *junk,
        *deep,
        *(json.dumps(shape, ensure_ascii=False).encode(errors="backslashreplace") for shape in shapes),
    ):
        client.lpush(IMAGE_QUEUE, raw)
    sent = len(shapes) + len(junk) + len(deep)
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
        assert psutil.Process(worker.process.pid).memory_info().rss < 180 << 20  # 120 at its start
        assert len((tmp_path / "worker.log").read_text(errors="replace")) < 50_000
        assert client.llen(IMAGE_QUEUE) == client.hlen(UNACKED) == 0, "nothing of it goes back"
        assert int(client.hget(COUNTERS_KEY, REFUSED_COUNTER) or 0) == sent + 2
        assert client.xlen(QUARANTINE_KEY) > 100 and client.ttl(QUARANTINE_KEY) > 0
    finally:
        worker.stop()
        print((tmp_path / "worker.log").read_text(errors="replace")[-3000:])
