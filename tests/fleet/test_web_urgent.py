"""What somebody waits for goes first if it is one picture; a file of many pages takes its turn."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from types import SimpleNamespace

import redis

from producer.job.feed import Feeder
from producer.job.manifest import ManifestLine
from producer.web.runner import PoliteFeeder
from tests.pictures import text_image
from tests.processes import wait_until
from tests.web_service import Served
from worker.app import IMAGE_QUEUE, app_for
from worker.broker.queue import depth
from worker.ledger import Ledger
from worker.messages import split_task_id
from worker.settings import Settings


def job_of(raw: bytes) -> str:
    """The job that a waiting message belongs to."""
    page = split_task_id(json.loads(raw)["headers"]["id"])
    assert page is not None
    return page[0]


def test_pages_of_one_file_do_not_keep_all_others_waiting(
    environment: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    """Before: a PDF of 283 KB with 3,000 pages at /detect, and no other job's page was begun until its last."""
    served = Served(environment, tmp_path / "web", TRANSFER="redis", ANSWER_S="1")
    buffer = io.BytesIO()
    text_image(300, 200).save(buffer, "PDF", save_all=True, append_images=[text_image(300, 200)] * 2)
    try:
        assert served.ask("POST", "/api/v1/detect", buffer.getvalue(), {"Content-Type": "application/pdf"})[0] == 202
        wait_until(lambda: sum(depth(client)) == 3, seconds=20, what="three pages to be fed")
        first = {job_of(raw) for raw in client.lrange(IMAGE_QUEUE, 0, -1)}
        buffer = io.BytesIO()
        text_image(300, 200).save(buffer, "JPEG")
        assert served.ask("POST", "/api/v1/detect", buffer.getvalue(), {"Content-Type": "image/jpeg"})[0] == 202
        wait_until(lambda: sum(depth(client)) == 4, seconds=20, what="the picture to be fed")
        waiting = [job_of(raw) in first for raw in client.lrange(IMAGE_QUEUE, 0, -1)]
        assert waiting == [True, True, True, False], "workers take from the end"
    finally:
        assert served.stop() == 0


def test_pages_found_later_are_not_urgent_either(settings: Settings, ledger: Ledger) -> None:
    """Before: a PDF that could not be counted in time was one page, which was urgent, and so were its other 2,999."""
    app, growth = app_for(settings), SimpleNamespace(total=1)
    for name, pages in (("quick", 3), ("others", 5)):
        ledger.create(name, pages, {})
    lines = [ManifestLine(index, f"{index}.jpg", "file:///a.jpg", 0) for index in range(5)]
    quick = PoliteFeeder(app, ledger, "quick", lines[:1], urgent=True)
    quick.turn, quick.growth = threading.Lock(), growth  # type: ignore[assignment]
    assert quick.step() == 1
    assert Feeder(app, ledger, "others", lines).step() == 5
    growth.total = 3
    quick.go_on(lines[1:3])
    assert quick.step() == 2
    order = [job_of(raw) for raw in reversed(ledger.client.lrange(IMAGE_QUEUE, 0, -1))]
    assert order[:2] == ["quick", "others"] and order.count("quick") == 3, order
