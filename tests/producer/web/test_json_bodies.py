"""Bodies of JSON: what is not asked for is no object, and a few large ones are held at a time, whoever sends them."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import json
import tracemalloc
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from producer.web import labelstudio
from producer.web.addresses import MOST_CHARACTERS, check_addresses
from producer.web.api import _Addresses, _create_from_addresses
from producer.web.problem import Problem
from producer.web.store import WebJob
from producer.web.visitors.json_body import MOST_AT_A_TIME, MOST_BYTES, SMALL_BYTES, json_body
from producer.web.visitors.longest import Places

DEEP = "[" * 400 + "]" * 400
FILLERS = {
    "lists in lists": "[" + ",".join([DEEP] * 250) + "]",
    "objects": "[" + ",".join(['{"a":{}}'] * 25_000) + "]",
    "numbers": "[" + ",".join(["1000"] * 45_000) + "]",
    "keys": "{" + ",".join(f'"{number}":[]' for number in range(20_000)) + "}",
}
WITHIN = {
    "predict, beside its tasks": (labelstudio._Tasks, '{"tasks":[{"data":{"image":"/a"}}],"x":%s}'),
    "predict, in a task": (labelstudio._Tasks, '{"tasks":[{"data":{"image":"/a","x":%s},"y":0}]}'),
    "predict, its configuration": (labelstudio._Tasks, '{"tasks":[{}],"label_config":%s}'),
    "setup": (labelstudio._Project, '{"schema":"<a/>","x":%s}'),
    "jobs": (_Addresses, '{"uris":["/a"],"limit_side":%s}'),
    "jobs, unknown": (_Addresses, '{"uris":["/a"],"x":%s}'),
    "jobs, no addresses": (_Addresses, '{"uris":%s}'),
}


class Visitor:
    """Whose request has a body that comes in pieces."""

    def __init__(self, *pieces: bytes, service: Any = None, places: Places | None = None, ends: bool = True) -> None:
        self._pieces, self._ends = list(pieces), ends
        state = SimpleNamespace(
            service=service or SimpleNamespace(web=SimpleNamespace(idle_s=5.0)), json_places=places or Places(1)
        )
        self.request = Request({"type": "http", "app": SimpleNamespace(state=state)}, self._receive)

    async def _receive(self) -> dict[str, Any]:
        if not self._pieces:
            await asyncio.sleep(60)
        piece = self._pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": not self._ends or bool(self._pieces)}


@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize("place", WITHIN)
def test_what_is_not_asked_for_is_no_object(place: str, filler: str) -> None:
    """Before: 12 MB for a body of 256 KiB, as long as its job took; 100 were 1.3 GB, 240 without a root 2.4."""
    kind, text = WITHIN[place]
    body = (text % FILLERS[filler]).encode()
    assert len(body) <= MOST_BYTES

    async def held() -> int:
        visitor = Visitor(body)
        gc.collect()
        tracemalloc.start()
        try:
            async with json_body(visitor.request, kind) as asked:
                if isinstance(asked, labelstudio._Tasks):
                    labelstudio._config(asked.label_config)
                    [labelstudio._address_of(task, "image") for task in asked.tasks]
                return tracemalloc.get_traced_memory()[0]
        except Problem as refused:
            assert refused.status == 400 and len(refused.detail) < 400
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    assert asyncio.run(held()) < 1 << 20


def test_who_sends_half_of_one_gives_way_and_small_ones_need_no_place() -> None:
    """Before: 250 who sent 255 of 256 KiB were 149 MB of the page's own process."""
    now = [0.0]
    places = Places(MOST_AT_A_TIME, 1.0, clock=lambda: now[0])
    large = json.dumps({"uris": ["/a"], "webhook": "x" * SMALL_BYTES}).encode()
    small = json.dumps({"uris": ["/a"]}).encode()

    async def read(visitor: Visitor) -> int:
        try:
            async with json_body(visitor.request, _Addresses):
                return 200
        except Problem as refused:
            return refused.status

    async def all_of_them() -> None:
        halves = [asyncio.create_task(read(Visitor(large, places=places, ends=False))) for _ in range(MOST_AT_A_TIME)]
        await asyncio.sleep(0)
        assert await read(Visitor(large, places=places)) == 429, "all have begun this second"
        assert await read(Visitor(small, places=places)) == 200
        now[0] = 1.5
        for _ in range(3):
            assert await read(Visitor(large, places=places)) == 200
            await asyncio.sleep(0.01)
            assert [half.done() for half in halves[:2]] == [True, False], "one has made room for all three"
        assert halves[0].result() == 429
        for half in halves[1:]:
            half.cancel()
        await asyncio.gather(*halves[1:], return_exceptions=True)
        assert places.lend() is not None and len(places._lent) == 1, "all are given back"

    asyncio.run(all_of_them())


def service_with(sources: Callable[[list[str]], list[str]], accepted: list[WebJob]) -> Any:
    """What a request for a job asks of the service."""

    def accept(folder: Path, name: str, job: WebJob) -> bool:
        accepted.append(msgspec.json.decode(msgspec.json.encode(job), type=WebJob))
        return True

    return SimpleNamespace(
        web=SimpleNamespace(idle_s=5.0), settings=SimpleNamespace(roots=()), check_sources=sources, accept=accept,
        check_room=lambda: None, check_webhook=lambda url: url, new_name=lambda quick: "detect-1",
        store=SimpleNamespace(new_upload=lambda: Path("x")),
    )  # fmt: skip


def test_what_is_kept_while_boxes_are_waited_for_is_small() -> None:
    addresses = [f"https://a.example/{number}/" + "x" * 2400 for number in range(97)]
    tasks = [{"data": {"image": address}, "id": 7} for address in [*addresses, addresses[3]]]
    body = json.dumps({"tasks": [*tasks, {"data": {"image": 5}}, 3], "project": "1.2", "params": {}}).encode()
    accepted = list[WebJob]()
    service = service_with(lambda asked: asked, accepted)
    begun = asyncio.run(labelstudio._begin(Visitor(body, service=service).request))
    assert begun is not None and len(msgspec.json.encode(begun)) < 1000
    found = [None if place is None else accepted[0].sources[place] for place in begun.places]
    assert found == [*addresses, addresses[3], None, None]


@pytest.mark.parametrize(
    "given",
    [
        {"uris": ["/a", "/\u00e9"]},
        {"uris": ["/a"], "limit_side": 960, "webhook": None, "box_threshold": 0.30, "tiled": True},
        {"limit_side": "960", "uris": ["/b", "/a"], "shape": "quad", "binarize": 1.0, "unclip_ratio": 1e-3},
    ],
)
def test_the_same_key_is_the_same_job_after_an_update(given: dict[str, Any]) -> None:
    """Its fingerprint is that of the versions that kept all of the body."""
    before = hashlib.sha256(msgspec.json.encode(given, order="deterministic")).hexdigest()
    accepted = list[WebJob]()
    service = service_with(lambda asked: asked, accepted)
    assert asyncio.run(_create_from_addresses(Visitor(json.dumps(given).encode(), service=service).request, "job"))
    assert accepted[0].fingerprint == before and accepted[0].sources == given["uris"]
    assert (accepted[0].limit_side, accepted[0].options.tiled) == (int(given.get("limit_side", 0)), given.get("tiled"))


def test_addresses_are_few_and_short_and_a_title_is_too() -> None:
    """Before: 250,000 characters were told in each list and status, twice a second to who watched."""
    roots = ("https://a.example/",)
    accepted = list[WebJob]()
    service = service_with(lambda asked: check_addresses(asked, (), roots), accepted)

    def create(*uris: str) -> Coroutine[Any, Any, bool]:
        return _create_from_addresses(Visitor(json.dumps({"uris": uris}).encode(), service=service).request, "job")

    longest = "https://a.example/" + "%61" * 4096
    assert asyncio.run(create(longest)) and len(accepted[0].title) == 2048 and accepted[0].sources == [longest]
    for uris in (["https://a.example/" + "x" * MOST_CHARACTERS], ["/"] * 1001):
        with pytest.raises(Problem) as refused:
            asyncio.run(create(*uris))
        assert refused.value.status == 413 and len(refused.value.detail) < 300
