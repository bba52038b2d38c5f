"""What a job asks of its pages: in the message, on the detector, and not after it."""

from __future__ import annotations

import json
import re
import resource

import pytest

from detector.models import SUFFIXES, is_file_name
from detector.predictor import TextDetector
from detector.public.models import public_names
from worker.messages import ImageTask, MessageError, decode_task, encode
from worker.page_options import READER_NAME, PageOptions, adjusted


def test_options_travel_and_cost_nothing_where_there_are_none() -> None:
    options = PageOptions(box_threshold=0.7, tiled=False, memory_limit_mb=200)
    task = ImageTask(job="j", index=0, image="a", uri="file:///a", options=options)
    assert decode_task(encode(task)).options == options
    assert json.loads(encode(task))["options"] == {"box_threshold": 0.7, "tiled": False, "memory_limit_mb": 200}
    assert b"options" not in encode(ImageTask(job="j", index=0, image="a", uri="file:///a"))


@pytest.mark.parametrize(
    "options",
    [
        '{"box_threshold":2}',
        '{"unclip_ratio":-1}',
        '{"binarize":"x"}',
        '{"memory_limit_mb":0}',
        '{"tiled":1}',
        '{"shape":"circle"}',
    ],
)
def test_unusable_options_are_refused(options: str) -> None:
    with pytest.raises(MessageError):
        decode_task(f'{{"job":"j","index":0,"image":"a","uri":"u","options":{options}}}'.encode())


@pytest.mark.parametrize(
    "name", [f"there{ending}" for ending in SUFFIXES] + [".pt", "a/b", "/etc/passwd", "..", "a\\0"]
)
def test_a_message_names_no_file(name: str) -> None:
    """Before: there.pt and there.safetensors of the worker's current folder were loaded."""
    with pytest.raises(MessageError):
        decode_task(json.dumps({"job": "j", "index": 0, "image": "a", "uri": "u", "options": {"read": name}}).encode())
    assert not re.match(READER_NAME, name)
    for fine in (*public_names("recogniser"), "mine.pt.v2", "onnx", "pt", "a.PT"):
        assert re.match(READER_NAME, fine) and not is_file_name(fine)


@pytest.mark.parametrize(
    ("own", "asked", "mb"), [(256, 100, 100), (256, 1024, 256), (None, 100, 100), (256, None, 256)]
)
def test_a_message_can_only_lower_a_workers_limit(own: int | None, asked: int | None, mb: int) -> None:
    assert PageOptions(memory_limit_mb=asked).memory_limit(own) == mb << 20
    assert PageOptions().memory_limit(None) is None


def test_the_detector_is_as_before_after_the_page() -> None:
    detector = TextDetector("dbnet-mobilenet-v3-small")
    before = detector.thresholds, detector.tiled, detector.shape, detector.memory_limit, detector.max_bytes
    rlimit = resource.getrlimit(resource.RLIMIT_DATA)
    options = PageOptions(binarize=0.4, unclip_ratio=2, tiled=True, shape="polygon", memory_limit_mb=500)
    with adjusted(detector, options, None):
        assert (detector.thresholds.binarize, detector.thresholds.unclip_ratio) == (0.4, 2)
        assert detector.thresholds.box_threshold == before[0].box_threshold
        assert detector.shape == "polygon"
        assert detector.tiled and detector.memory_limit == 500 << 20 and detector.max_bytes <= 500 << 20
        assert resource.getrlimit(resource.RLIMIT_DATA) != rlimit
    assert (
        detector.thresholds,
        detector.tiled,
        detector.shape,
        detector.memory_limit,
        detector.max_bytes,
    ) == before
    assert resource.getrlimit(resource.RLIMIT_DATA) == rlimit
