"""Results that need the pictures again take a process with up to 800 MiB each: only so many at a time."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Semaphore
from types import SimpleNamespace

import pytest
from starlette.requests import Request

from producer.web.api import job_results
from producer.web.problem import Problem
from producer.web.service import OPENING_AT_ONCE
from producer.web.store import Store, WebJob
from tests.producer.records import ok, write_results


@pytest.mark.parametrize("wanted", ["pdf", "crops"])
def test_a_third_is_told_to_come_again(wanted: str, tmp_path: Path) -> None:
    """Before: forty requests for crops were forty processes."""
    store = Store(tmp_path)
    assert store.accept(store.new_upload(), "job", WebJob(created=time.time()))
    write_results(store.folder("job").root, [ok(0)])
    service = SimpleNamespace(store=store, opening=Semaphore(0))
    scope = {
        "type": "http",
        "path_params": {"job": "job"},
        "query_string": f"format={wanted}".encode(),
        "app": SimpleNamespace(state=SimpleNamespace(service=service)),
    }
    with pytest.raises(Problem) as refused:
        job_results(Request(scope))
    assert refused.value.status == 429 and refused.value.retry_after_s
    scope["query_string"] = b"format=csv"
    assert job_results(Request(scope)).status_code == 200, "opens no picture"
    assert 1 <= OPENING_AT_ONCE <= 4
