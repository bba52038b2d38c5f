"""What Label Studio sends is a stranger's text: reading it takes a time that grows with its length, and no faster."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from producer.web.labelstudio import MOST_CONFIG, Control, control_of, predict, setup
from producer.web.problem import Problem


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
    scope = {"type": "http", "app": SimpleNamespace(state=SimpleNamespace(service=service))}
    with pytest.raises(Problem) as refused:
        asyncio.run(request_of(Request(scope, receive)))  # type: ignore[operator]
    assert refused.value.status == 413
