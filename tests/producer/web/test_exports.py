"""Results in another format are files on our disk: few at a time, none over the quota, gone when their answer is."""

from __future__ import annotations

import asyncio
import random
import time
import zipfile
from pathlib import Path
from threading import Semaphore
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from producer.web import api
from producer.web.bounds import upload_places
from producer.web.bounds.answers import ReadPlaces
from producer.web.bounds.makings import Makings
from producer.web.bounds.zip_file import pack
from producer.web.problem import Problem, quota_is_used
from producer.web.results import BLOCK, file_blocks
from producer.web.service import EXPORTS_AT_ONCE, OPENING_AT_ONCE
from producer.web.store import Store, WebJob
from tests.producer.records import ok, write_results
from tests.producer.web.test_answers import until


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setattr(upload_places, "WAIT_S", 0.0)
    store = Store(tmp_path)
    assert store.accept(store.new_upload(), "job", WebJob(created=time.time()))
    write_results(store.folder("job").root, [ok(0)])
    return SimpleNamespace(
        store=store,
        opening=Semaphore(0),
        exporting=ReadPlaces(1),
        makings=Makings(),
        check_quota=lambda: None,
        check_taken=lambda: None,
        settings=SimpleNamespace(roots=()),
    )


def scope(service: SimpleNamespace, wanted: str) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path_params": {"job": "job"},
        "query_string": f"format={wanted}".encode(),
        "app": SimpleNamespace(state=SimpleNamespace(service=service)),
        "asgi": {"spec_version": "2.3"},
    }


def job_results(request: Request) -> Response:
    """The answer to a client that waits for it."""

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    return asyncio.run(api.job_results(Request(request.scope, receive)))  # type: ignore[arg-type]


def exports(service: SimpleNamespace) -> list[Path]:
    return list((service.store.root / "exports").iterdir())


@pytest.mark.parametrize("wanted", ["pdf", "crops"])
def test_a_third_that_opens_pictures_is_told_to_come_again(wanted: str, service: SimpleNamespace) -> None:
    """Before: forty requests for crops were forty processes, of up to 800 MiB each."""
    with pytest.raises(Problem) as refused:
        job_results(Request(scope(service, wanted)))
    assert refused.value.status == 429 and refused.value.retry_after_s
    assert exports(service) == []
    assert job_results(Request(scope(service, "csv"))).status_code == 200, "opens no picture"
    assert 1 <= OPENING_AT_ONCE <= 4


@pytest.mark.parametrize("wanted", ["csv", "icdar"])
@pytest.mark.parametrize("when", ["at once", "before the first byte", "at the first byte"])
def test_nothing_is_left_of_what_nobody_took(wanted: str, when: str, service: SimpleNamespace) -> None:
    """Before: a client that left before the answer began left its file until the next start, and the quota full."""
    response = job_results(Request(scope(service, wanted)))
    assert len(exports(service)) == 1
    with pytest.raises(Problem) as refused:
        job_results(Request(scope(service, "coco")))
    assert refused.value.status == 429, "it has the one place until it ends"
    assert job_results(Request(scope(service, "jsonl"))).status_code == 200, "needs no place"

    async def receive() -> dict[str, object]:
        if when != "at once":
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        if when == "at once":
            await asyncio.Event().wait()
        if when == "before the first byte" or message["type"] == "http.response.body":
            raise ConnectionResetError

    async def answer() -> None:
        try:
            await response(scope(service, wanted), receive, send)  # type: ignore[arg-type]
        except* ConnectionResetError:
            pass

    asyncio.run(answer())
    assert exports(service) == []
    assert job_results(Request(scope(service, "coco"))).status_code == 200
    assert 1 <= EXPORTS_AT_ONCE <= 10


def test_a_place_is_given_back_whatever_goes_wrong(service: SimpleNamespace) -> None:
    """Before: six requests while the disk was full, and no format but JSON lines until the next start."""
    folder = service.store.root / "exports"
    folder.rmdir()
    folder.write_bytes(b"")  # nothing can be made in it, as on a full disk
    for _ in range(2):
        with pytest.raises(OSError, match="exports"):
            job_results(Request(scope(service, "csv")))
    folder.unlink()
    folder.mkdir()

    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def dropped() -> None:  # something fails between its making and its beginning
        response = await api.job_results(Request(scope(service, "csv"), receive))  # type: ignore[arg-type]
        assert response.status_code == 200 and len(exports(service)) == 1
        del response
        await until(lambda: exports(service) == [])

    asyncio.run(dropped())
    assert exports(service) == [] and job_results(Request(scope(service, "csv"))).status_code == 200


def test_none_is_made_over_the_quota(service: SimpleNamespace) -> None:
    def full() -> None:
        raise quota_is_used(1)

    service.check_quota = full
    with pytest.raises(Problem) as refused:
        job_results(Request(scope(service, "coco")))
    assert refused.value.status == 413 and exports(service) == []
    assert job_results(Request(scope(service, "jsonl"))).status_code == 200


def test_a_job_without_results_takes_no_place(service: SimpleNamespace) -> None:
    service.store.folder("job").results.unlink()
    with pytest.raises(Problem) as refused:
        job_results(Request(scope(service, "coco")))
    assert refused.value.status == 404 and exports(service) == []
    assert service.exporting.take()


def test_a_folder_is_one_file_and_comes_in_blocks(service: SimpleNamespace, tmp_path: Path) -> None:
    """Before: a zip was made while it was sent, its names held by the page: 36 MB for each download of 50,000 files."""
    response = job_results(Request(scope(service, "icdar")))
    [folder] = exports(service)
    assert [path.name for path in folder.iterdir()] == ["icdar.zip"], "the files are on the disk once"
    assert response.headers["content-length"] == str((folder / "icdar.zip").stat().st_size)
    with zipfile.ZipFile(folder / "icdar.zip") as bundle:
        assert sorted(bundle.namelist()) == ["a.txt", "names.csv"] and bundle.testzip() is None

    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    data = random.Random(7).randbytes(3 << 20)
    (made / "sub" / "a.jpg").write_bytes(data)
    (made / "b.txt").write_bytes(bytes(9000))
    with zipfile.ZipFile(pack(made)) as bundle:
        assert bundle.read("sub/a.jpg") == data and bundle.testzip() is None
        assert sorted(bundle.namelist()) == ["b.txt", "sub/a.jpg"]
        assert bundle.getinfo("b.txt").compress_size < 100
        assert bundle.getinfo("sub/a.jpg").compress_type == zipfile.ZIP_STORED
    assert not made.exists()
    assert max(map(len, file_blocks(tmp_path / "made.zip", 0, 3 << 20))) <= BLOCK
