"""Lists are as long as was asked for, and as fits into an answer; who goes on where they end gets each entry once."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request

from producer.job.manifest import ManifestLine
from producer.web.bounds import lists
from producer.web.bounds.listing import MOST_BYTES
from producer.web.bounds.lists import job_failures, job_pages, list_jobs, workers
from producer.web.results import without
from producer.web.service import Service
from producer.web.store import Store, WebJob
from tests.producer.records import failed, write_results
from worker.messages import encode

WIDE = "漢" * 1500


@pytest.fixture
def service(tmp_path: Path) -> Service:
    made = Service.__new__(Service)  # its constructor wants a broker
    made.store = Store(tmp_path)
    skipped = {f"{number}-{WIDE[:250]}.txt": "not an image" for number in range(700)}
    assert made.store.accept(made.store.new_upload(), "job", WebJob(created=1, skipped=skipped))
    folder = made.store.folder("job")
    write_results(folder.root, (failed(index, WIDE, message=WIDE) for index in range(120)))
    pages = (ManifestLine(number, WIDE, "file:///a", 0) for number in range(150))
    folder.manifest.write_bytes(b"".join(encode(page) + b"\n" for page in pages))
    made.ledger = SimpleNamespace(client=SimpleNamespace(getrange=lambda *_: b""))  # type: ignore[assignment]
    return made


def told(ask: Any, service: object, query: str) -> dict[str, Any]:
    scope = {
        "type": "http", "method": "GET", "path_params": {"job": "job"}, "query_string": query.encode(), "headers": [],
        "app": SimpleNamespace(state=SimpleNamespace(service=service)),
    }  # fmt: skip
    body = ask(Request(scope)).body
    assert len(body) < MOST_BYTES + 20_000
    found: dict[str, Any] = json.loads(body)
    return found


def all_of(name: str, ask: Any, service: object, query: str) -> tuple[list[dict[str, Any]], int]:
    """The whole list, and how many answers it took."""
    entries, answers, following = list[dict[str, Any]](), 0, query
    while following is not None:
        found = told(ask, service, following)
        assert found[name], "each answer goes further"
        entries, answers, following = entries + found[name], answers + 1, found["next"]
    return entries, answers


@pytest.mark.parametrize("limit", [1000, 7])
def test_a_list_goes_on_where_an_answer_ends(service: Service, limit: int) -> None:
    """Before: a thousand wide names were 6 MB in one answer."""
    pages, answers = all_of("pages", job_pages, service, f"limit={limit}")
    assert [page["index"] for page in pages] == list(range(150)) and answers == (3 if limit == 1000 else 22)
    failures, answers = all_of("failures", job_failures, service, f"limit={limit}")
    assert len({failure["image"] for failure in failures[:700]}) == 700, "uploads that were not taken come first"
    assert [failure["index"] for failure in failures] == [None] * 700 + list(range(120)) and answers > 5
    assert told(job_pages, service, "offset=149") == {"pages": pages[149:], "next": None}
    assert told(job_failures, service, "offset=118") == {"failures": failures[-2:], "next": None}, "pages alone"


def test_jobs_and_workers_go_on_too(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"job-{number}" for number in range(600)]
    others = [f"other-{number}" for number in range(300)]
    service = Service.__new__(Service)
    service.store = SimpleNamespace(names=lambda: names)  # type: ignore[assignment]
    service.status = lambda name: {"job": name, "title": WIDE[:200]}  # type: ignore[method-assign]
    service.ledger = SimpleNamespace(jobs=lambda newest: [*reversed(others), *names][-newest:])  # type: ignore[assignment]
    monkeypatch.setattr(service, "_row", lambda name: None)
    jobs, answers = all_of("jobs", list_jobs, service, "limit=1000")
    assert [job["job"] for job in jobs] == names and answers == 2
    service.ledger = SimpleNamespace(client=None, now=time.time)  # type: ignore[assignment]
    notes = {f"{number:03}": SimpleNamespace(at=time.time(), profile="", version=WIDE) for number in range(100)}
    registry = SimpleNamespace(images=lambda _: {}, workers=lambda _: notes, is_alive=lambda *_: True)
    monkeypatch.setattr(lists, "worker_registry", registry)
    found, answers = all_of("workers", workers, service, "")
    assert [worker["worker"] for worker in found] == list(notes) and answers == 2
    assert lists.MOST_LISTED == 1000


def test_a_text_is_left_out_wherever_it_lies() -> None:
    """Also across blocks; before, whole lines were held for it, of up to 4 MB. Lines stay as long as they are."""
    chosen = random.Random(7)
    for hidden in (b"/aab/", b"/", b"aa", b"/a/a/"):
        for _ in range(300):
            data = bytes(chosen.choice(b"/ab/ab/ab\n") for _ in range(60)) + b"\n"
            blocks, place = [], 0
            while place < len(data):
                size = chosen.randint(1, 9)
                blocks.append(data[place : place + size])
                place += size
            lines = data.split(b"\n")
            shown = b"\n".join(line.replace(hidden, b"").ljust(len(line)) for line in lines)
            assert b"".join(without(iter(blocks), hidden)) == shown
