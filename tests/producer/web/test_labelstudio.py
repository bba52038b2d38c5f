"""What Label Studio sends is a stranger's text: reading it takes a time that grows with its length, and no faster."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from detector.memory import peak_rss_mb
from producer.job.manifest import ManifestLine
from producer.web import labelstudio
from producer.web.bounds.answers import ReadPlaces
from producer.web.bounds.job_locks import JobLocks
from producer.web.bounds.makings import Makings
from producer.web.labelstudio import MOST_CONFIG, Control, _answer, control_of, predict, setup
from producer.web.problem import Problem, no_such_job
from producer.web.results import BLOCK, LentResponse
from producer.web.service import Service
from producer.web.store import Store, WebJob
from producer.web.visitors.json_body import json_places
from tests.producer.records import BOX, ok, write_results
from tests.producer.web.test_answers import until
from tests.producer.web.test_large_records import forget_the_peak
from worker.messages import encode


@pytest.mark.parametrize(
    "config",
    [
        "<PolygonLabels " + "a" * MOST_CONFIG,
        "<PolygonLabels " + "a" * MOST_CONFIG + ">",
        "<PolygonLabels " + "a " * (MOST_CONFIG // 2) + ">",
        "<PolygonLabels a" + " " * MOST_CONFIG + ">",
        "<PolygonLabels a=" + " " * MOST_CONFIG + ">",
        "<PolygonLabels " + 'a="' * (MOST_CONFIG // 3) + ">",
        "<PolygonLabels" * (MOST_CONFIG // 14),
        "<PolygonLabels a>" + "<Image" * (MOST_CONFIG // 6),
        "<PolygonLabels a>" + "<Label" * (MOST_CONFIG // 6),
        "<PolygonLabels a>" * (MOST_CONFIG // 17),
    ],
    ids=lambda text: text[:24],
)
def test_no_configuration_takes_long(config: str) -> None:
    """Before: 32 KB of one letter were 14 s in which the page answered nobody."""
    began = time.process_time()
    control_of(config)
    assert time.process_time() - began < 0.5


def test_a_configuration_is_read() -> None:
    config = """<View><Image name = "page" value="$scan" zoom="true"/>
    <PolygonLabels name="text" toName="page"><Label value="Line" background="red"/></PolygonLabels></View>"""
    assert control_of(config) == Control("text", "page", "Line", "scan")


@pytest.mark.parametrize(
    ("request_of", "body"),
    [
        (predict, {"tasks": [], "label_config": "a" * (MOST_CONFIG + 1)}),
        (setup, {"schema": "a" * (MOST_CONFIG + 1)}),
    ],
)
def test_a_longer_one_is_refused(request_of: object, body: dict[str, object]) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    service = SimpleNamespace(web=SimpleNamespace(idle_s=5.0), settings=SimpleNamespace(model="m"))
    state = SimpleNamespace(service=service, json_places=json_places())
    scope = {"type": "http", "app": SimpleNamespace(state=state)}
    with pytest.raises(Problem) as refused:
        asyncio.run(request_of(Request(scope, receive)))  # type: ignore[operator]
    assert refused.value.status == 413


def answered(tmp_path: Path, boxes: int, tasks: int) -> Response:
    """To tasks, all but the last of the same page of so many boxes."""
    store = Store(tmp_path)
    assert store.accept(store.new_upload(), "job", WebJob(created=1))
    folder = store.folder("job")
    folder.manifest.write_bytes(encode(ManifestLine(0, "a.jpg", "file:///roots/a.jpg", 0)) + b"\n")
    write_results(folder.root, [ok(0, boxes=[BOX] * boxes)])
    service = SimpleNamespace(store=store, settings=SimpleNamespace(model="m"))
    return _answer(service, "job", Control(), ["/roots/a.jpg"] * (tasks - 1) + [None])  # type: ignore[arg-type]


def test_the_same_picture_a_hundred_times_is_counted_each_time(tmp_path: Path) -> None:
    """Before: 39 MB for 7 KB, in memory as long as nobody read them; 30 such were 1,186 MB."""
    before = forget_the_peak()
    with pytest.raises(Problem) as refused:
        answered(tmp_path, 1500, 101)
    assert refused.value.status == 413 and "a.jpg" in refused.value.detail
    assert peak_rss_mb() - before < 16 and labelstudio._predicting._value == 1


@pytest.mark.slow
def test_a_long_answer_is_read_from_a_file_while_it_is_sent(tmp_path: Path) -> None:
    response = answered(tmp_path, 1500, 21)
    assert isinstance(response, LentResponse) and labelstudio._sending._free._value == 5
    before, sent = forget_the_peak(), list[bytes]()

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    asyncio.run(response({"type": "http", "asgi": {"spec_version": "2.4"}}, _nothing, send))
    assert max(map(len, sent)) <= BLOCK and len(b"".join(sent)) == int(response.headers["content-length"]) > 5 << 20
    assert peak_rss_mb() - before < 20 and labelstudio._sending._free._value == 6, "given back"
    told = json.loads(b"".join(sent))
    assert [len(result["result"]) for result in told["results"]] == [1500] * 20 + [0] and told["model_version"] == "m"


def test_a_short_answer_is_whole_and_what_is_refused_holds_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = json.loads(bytes(answered(tmp_path / "short", 2, 3).body))
    assert [len(result["result"]) for result in told["results"]] == [2, 2, 0]
    monkeypatch.setattr(labelstudio, "_sending", ReadPlaces(0))
    with pytest.raises(Problem) as refused:
        answered(tmp_path / "long", 1500, 21)
    assert refused.value.status == 429 and refused.value.retry_after_s


@pytest.mark.parametrize(
    "refusal",
    [no_such_job("job"), Problem(429, "many jobs are being changed"), redis.ConnectionError(), OSError(5, "")],
)
def test_predictions_are_answered_where_their_job_stays(
    refusal: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: the answer was dropped and its place lost for good; after six no Label Studio got a large one."""
    monkeypatch.setattr(labelstudio, "MOST_AT_ONCE", 100)
    monkeypatch.setattr(labelstudio, "_sending", ReadPlaces(1))
    service = Service.__new__(Service)  # its constructor wants a broker
    service.store, service.changing, service.makings = Store(tmp_path), JobLocks(), Makings()
    assert service.store.accept(service.store.new_upload(), "job", WebJob(created=1, sources=["/roots/a.jpg"]))
    folder, ended = service.store.folder("job"), Future[None]()
    folder.manifest.write_bytes(encode(ManifestLine(0, "a.jpg", "file:///roots/a.jpg", 0)) + b"\n")
    write_results(folder.root, [ok(0, boxes=[BOX] * 9)])
    ended.set_result(None)

    def leave(name: str) -> None:
        raise refusal

    service.runner = SimpleNamespace(start=lambda name: SimpleNamespace(ended=ended), left=leave)  # type: ignore[assignment]
    service.settings, service.web = SimpleNamespace(model="m"), SimpleNamespace(answer_s=5.0)  # type: ignore[assignment]

    async def begin(request: Request) -> labelstudio._Begun:
        return labelstudio._Begun("job", Control(), [0])

    monkeypatch.setattr(labelstudio, "_begin", begin)

    async def stays() -> Message:
        return await asyncio.Future[Message]()

    request = Request({"type": "http", "app": SimpleNamespace(state=SimpleNamespace(service=service))}, stays)

    async def dropped() -> None:  # before it was begun
        assert (await predict(request)).status_code == 200
        await until(lambda: labelstudio._sending._free._value == 1)

    for _ in range(2):
        asyncio.run(dropped())
        assert labelstudio._sending._free._value == 1


def test_a_label_is_short() -> None:
    """It is said of each box: one of 64 KB would be 640 MB for a page."""
    with pytest.raises(Problem):
        control_of('<PolygonLabels name="t" toName="i"><Label value="%s"/>' % ("a" * 1000))


async def _nothing() -> Message:
    raise AssertionError("nobody asks")
