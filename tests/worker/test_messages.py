"""The wire format: what is refused, and that names of any kind survive."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies

from worker.messages import (
    ImageRecord,
    ImageTask,
    MessageError,
    decode_task,
    encode,
    failed_record,
    split_task_id,
)


@given(
    image=strategies.text(strategies.characters(exclude_categories=["Cs"])), index=strategies.integers(0, 49_999_999)
)
def test_tasks_survive_json(image: str, index: int) -> None:
    task = ImageTask(job="j", index=index, image=image, uri="file:///a", page=3)
    assert decode_task(encode(task)) == task
    assert decode_task(msgspec.to_builtins(task)) == task
    assert split_task_id(task.task_id) == ("j", index)


@pytest.mark.parametrize(
    "message",
    [
        b"not json",
        b'{"job":"\xff","index":0,"image":"a","uri":"u"}',
        b"{}",
        b'{"job":"j","index":"one","image":"a","uri":"u"}',
        b'{"schema":2,"job":"j","index":0,"image":"a","uri":"u"}',
        b'{"job":"../../etc","index":0,"image":"a","uri":"u"}',
        b'{"job":"j","index":-1,"image":"a","uri":"u"}',
        *(
            b'{"job":"j","index":%d,"image":"a","uri":"u","page":%d,"limit_side":%d,"blob_page":%d,'
            b'"original":{"width":%d,"height":9}}' % numbers
            for place in range(5)
            for number in (2**31, 2**63 - 1, 2**63, 10**19 - 1, 10**300)
            for numbers in [tuple(number if place == other else 9 for other in range(5))]
        ),
        b'{"job":"j","index":50000000,"image":"a","uri":"u"}',
        b'{"job":"j","index":0,"image":"a","uri":"u","options":{"read":"/tmp/evil.onnx"}}',
        b'{"job":"j","index":0,"image":"a","uri":"u","options":{"read":"evil.onnx"}}',
    ],
)
def test_strangers_are_refused(message: bytes) -> None:
    """Before: a page of 2^63 and more left a traceback of redis-py in the log."""
    with pytest.raises(MessageError):
        decode_task(message)


@pytest.mark.parametrize(
    "identifier",
    ["", "j", "j:", "j:x", ":1", "a b:1", "celery-uuid-like:1:2", f"j:{2**31}", f"j:{2**63}", "j:" + "9" * 5000],
    ids=lambda identifier: identifier[:20],
)
def test_foreign_task_ids(identifier: str) -> None:
    assert split_task_id(identifier) is None


def test_a_failed_record_has_the_contracts_keys() -> None:
    task = ImageTask(job="j", index=1, image="a.jpg", uri="file:///a.jpg", page=2)
    record = msgspec.json.decode(encode(failed_record(task, "CorruptImage", "broken")))
    assert set(record) == {
        "schema", "job", "index", "image", "page", "status", "width", "height", "boxes", "input_size", "flags",
        "seconds", "peak_rss_mb", "attempts", "worker", "model", "error",
    }  # fmt: skip
    assert set(record["seconds"]) == {"fetch", "open", "infer", "post", "total"}
    assert record["status"] == "failed" and record["boxes"] == []
    assert record["error"] == {"type": "CorruptImage", "message": "broken"}


def test_unknown_error_types_cannot_be_recorded() -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(
            b'{"job":"j","index":0,"image":"a","page":0,"status":"failed","error":{"type":"Oops","message":""}}',
            type=ImageRecord,
        )
