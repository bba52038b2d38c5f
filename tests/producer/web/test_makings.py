"""What is made for a client in a process of its own ends with who asked for it, with its job, and with the page."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Semaphore
from types import SimpleNamespace

import psutil
import pytest
from starlette.requests import Request

from producer.sources.scan import file_uri
from producer.web import api
from producer.web.bounds import makings
from producer.web.bounds.answers import ReadPlaces
from producer.web.bounds.makings import Making, Makings
from producer.web.problem import Problem
from producer.web.store import Store, WebJob
from tests.pictures import write_images
from tests.processes import wait_until
from tests.producer.records import ok, write_results

STUB = "tests.producer.web.stub_maker"
ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


def numbers_in(file: Path) -> list[int]:
    wait_until(file.exists, seconds=20, what="it to begin")
    return list(map(int, file.read_text().split()))


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE  # its parent here was killed: init's to reap
    except psutil.NoSuchProcess:
        return True


def cutters(folder: Path) -> Iterator[int]:
    """Processes that cut pages out, and whose temporary files lie below a folder."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "crop_process" in " ".join(process.cmdline()) and str(folder) in process.environ().get("TMPDIR", ""):
                yield process.pid


@pytest.mark.parametrize("kind", ["orderly", "stubborn", "slow", "quick"])
def test_nothing_is_left_of_it(kind: str, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of what it has started, nor on the disk; ended by another, over its time, or done."""
    monkeypatch.setattr(makings, "END_S", 0.3)
    making, file = Making(), environment / "numbers"
    with ThreadPoolExecutor(1) as pool:
        # Its time counts from its start: 0.5 s were over, on a busy machine, before it had begun.
        asked = pool.submit(making.ask, STUB, f"{file} {kind}".encode(), 6 if kind == "slow" else 60)
        numbers = numbers_in(file)
        if kind in ("orderly", "stubborn"):
            making.end(Problem(404, "is deleted"))
        assert asked.result(30) == (b"made\n" if kind == "quick" else b"")
    wait_until(lambda: all(map(is_gone, numbers)), seconds=20, what="both to end")
    assert list((environment / "temporary").iterdir()) == []
    if kind in ("orderly", "stubborn"):
        with pytest.raises(Problem, match="is deleted"):
            making.check()
    else:
        making.check()


def test_it_ends_with_a_page_that_is_killed(environment: Path) -> None:
    file = environment / "numbers"
    program = f"from producer.web.bounds.makings import Making; Making().ask({STUB!r}, b'{file} orderly', 60)"
    page = subprocess.Popen([sys.executable, "-c", program])
    numbers = numbers_in(file)
    page.kill()
    page.wait()
    wait_until(lambda: all(map(is_gone, numbers)), seconds=20, what="both to end")


def test_a_deletion_ends_those_of_its_job_and_a_stop_all() -> None:
    those = Makings()
    with those.of("a") as one, those.of("b") as other:
        those.end("a")
        with pytest.raises(Problem) as refused:
            one.check()
        assert refused.value.status == 404
        other.check()
        those.stop()
        with pytest.raises(Problem) as refused:
            other.check()
        assert refused.value.status == 503
    with those.of("c") as late, pytest.raises(Problem):
        late.check()


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["client", "job"])
def test_crops_end_with_who_asked_for_them(ends: str, environment: Path) -> None:
    """Before: they were made by a thread of the page, for hours, whoever had left; all others' were refused."""
    store = Store(environment / "web")
    assert store.accept(store.new_upload(), "job", WebJob(created=time.time()))
    folder, [picture] = store.folder("job"), write_images(environment / "in", 1)
    write_results(folder.root, (ok(index) for index in range(20_000)))
    line = {"image": "a.jpg", "uri": file_uri(picture), "page": 0}
    folder.manifest.write_text("".join(json.dumps(line | {"index": index}) + "\n" for index in range(20_000)))
    service = SimpleNamespace(
        store=store, opening=Semaphore(1), exporting=ReadPlaces(1), makings=Makings(),
        check_quota=lambda: None, check_taken=lambda: None,
        settings=SimpleNamespace(roots=(environment,)),
    )  # fmt: skip
    scope = {
        "type": "http", "method": "GET", "path_params": {"job": "job"}, "query_string": b"format=crops",
        "app": SimpleNamespace(state=SimpleNamespace(service=service)),
    }  # fmt: skip
    begun = threading.Event()

    def look() -> None:
        """Until crops lie there."""
        wait_until(lambda: [*(store.root / "exports").rglob("*.jpg")], seconds=30, what="the first crops")
        assert list(cutters(environment)) != []
        begun.set()

    async def receive() -> dict[str, object]:
        await asyncio.to_thread(begun.wait, 60)
        if ends == "client":
            return {"type": "http.disconnect"}
        service.makings.end("job")
        await asyncio.Event().wait()
        return {}

    looking = threading.Thread(target=look)
    looking.start()
    with pytest.raises(Problem) as refused:
        asyncio.run(api.job_results(Request(scope, receive)))  # type: ignore[arg-type]
    looking.join()
    assert refused.value.status == (400 if ends == "client" else 404)
    assert service.opening.acquire(blocking=False) and service.exporting.take()
    assert [*(store.root / "exports").iterdir()] == [*(environment / "temporary").iterdir()] == []
    wait_until(lambda: list(cutters(environment)) == [], seconds=5, what="what cuts to end")
