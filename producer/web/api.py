"""The API's requests, /api/v1. What each takes and gives is in openapi.py."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from detector.thresholds import SHAPES
from producer.output.documents import NEED_IMAGES
from producer.web.addresses import check_count
from producer.web.bounds.makings import Making, ended_with_its_client
from producer.web.bounds.upload_places import UploadPlaces
from producer.web.jobs.entries import MOST_SHOWN
from producer.web.openapi import document
from producer.web.problem import Problem
from producer.web.results import ALL_FORMATS, JSONL, LentResponse, converted_response, lines_response, record_blocks
from producer.web.service import Service
from producer.web.store import WebJob, few
from producer.web.upload import Intake
from producer.web.visitors.json_body import json_body
from producer.web.visitors.leaving import while_there
from producer.web.visitors.longest import Places
from producer.web.visitors.questions import of_visitors
from worker.page_options import PageOptions

BASE = "/api/v1"
EVENT_S = 0.5
HEARTBEAT_S = 15.0
MOST_WATCHERS = 64
GIVEN_UP_S = 2.0
OPTIONS = ("box_threshold", "unclip_ratio", "binarize", "tiled", "shape")
_Value = bool | int | float | str | None | msgspec.UnsetType


def service_of(request: Request) -> Service:
    """The one service of this process."""
    service: Service = request.app.state.service
    return service


def number_asked(request: Request, name: str, default: int, least: int, most: int) -> int:
    """A parameter of a request, or what it is by default."""
    text = request.query_params.get(name, str(default))
    return whole_number(name, text, least, most)


def whole_number(name: str, text: str, least: int, most: int) -> int:
    """A parameter of an address.

    Raises:
        Problem: 400.
    """
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise Problem(400, f"{name} is not a whole number from {least} to {most}", f"leave {name} out, or mend it")
    return int(text)


def _limit_side(text: str) -> int:
    return whole_number("limit_side", text, 32, 8192) if text.strip() else 0


def _options(asked: Mapping[str, str]) -> PageOptions:
    """Thresholds among the fields of a form or of an address."""
    given = {name: asked[name].strip() for name in OPTIONS if asked.get(name, "").strip()}
    try:
        return msgspec.convert(given, PageOptions, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(
            400,
            f"{', '.join(given)}: {error}",
            f"box_threshold and binarize: 0 to 1; unclip_ratio: 0 to 10; shape: {', '.join(SHAPES)}",
        ) from None


async def _receive(
    request: Request, *, archives: bool, most_files: int, name: str, quick: bool
) -> tuple[dict[str, str], bool]:
    """Take an upload and make a job of it. Returns which files have other names now, and whether it is new."""
    service = service_of(request)
    places: UploadPlaces = request.app.state.upload_places
    if (place := await places.wait()) is None:
        raise Problem(429, "too many uploads at a time", "try again in a moment", retry_after_s=2)
    with place:
        await run_in_threadpool(service.check_room)
        folder = await run_in_threadpool(service.store.new_upload)
        accepted = False
        try:
            limits = service.web, service.store.room
            intake = Intake(folder / "upload", *limits, archives=archives, most_files=most_files, place=place)
            received = await intake.read(request)
            if not received.files:
                reasons = "; ".join(received.skipped.values())
                raise Problem(415, reasons[:500], "send JPEG, PNG, TIFF, WebP, GIF, BMP, PPM, JPEG 2000, AVIF or PDF")
            asked = {**request.query_params, **received.fields}
            job = WebJob(
                created=time.time(),
                files=len(received.files),
                title=str(received.files[0]),
                skipped=received.skipped,
                limit_side=_limit_side(asked.get("limit_side", "")),
                options=_options(asked),
                quick=quick,
                fingerprint=received.fingerprint(asked),
                webhook=service.check_webhook(asked.get("webhook", "").strip()),
            )
            accepted = True  # from here on the folder is the service's, whatever comes of it
            return few(received.renamed), await run_in_threadpool(service.accept, folder, name, job)
        finally:
            if not accepted:
                await run_in_threadpool(service.store.drop, folder)


async def detect(request: Request) -> Response:
    """POST /detect: one image; its record, or 202 if that takes longer than 30 s."""
    service = service_of(request)
    name = service.new_name(quick=True)
    await _receive(request, archives=False, most_files=1, name=name, quick=True)
    future = asyncio.wrap_future(service.runner.start(name).ended)
    try:
        await while_there(asyncio.wait([future], timeout=service.web.answer_s), request.receive)
    except ClientDisconnect:  # nobody was told its name
        await run_in_threadpool(service.delete_own, name)
        raise
    job = await run_in_threadpool(service.store.read, name)
    if job.state == "refused":
        raise Problem(422, job.reason, "send another file")
    if job.state != "done":
        return _accepted(request, name, await run_in_threadpool(service.status, name))

    record = await run_in_threadpool(record_blocks, service.store.folder(name).results)
    if record is None:  # a PDF or TIFF of several pages
        return _accepted(request, name, await run_in_threadpool(service.status, name))
    size, blocks = record
    done, headers = partial(service.delete_own, name), {"Content-Length": str(size)}
    return LentResponse(blocks, done, media_type="application/json", headers=headers)


def _accepted(request: Request, name: str, status: dict[str, Any], code: int = 202) -> Response:
    return JSONResponse(status, code, headers={"Location": f"{BASE}/jobs/{name}"})


async def create_job(request: Request) -> Response:
    """POST /jobs: files, a zip, a PDF, or addresses under OCRFLEET_ROOTS."""
    service = service_of(request)
    name = service.new_name(request.headers.get("idempotency-key", ""))
    renamed: dict[str, str] = {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        new = await _create_from_addresses(request, name)
    else:
        most = service.web.max_files
        renamed, new = await _receive(request, archives=True, most_files=most, name=name, quick=False)
    status = await run_in_threadpool(service.status, name)
    return _accepted(request, name, {**status, "renamed": renamed}, 202 if new else 200)


class _Addresses(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON of ``POST /jobs``. Values may be texts too: so has a form them."""

    uris: list[str]
    limit_side: _Value = msgspec.UNSET
    webhook: _Value = msgspec.UNSET
    box_threshold: _Value = msgspec.UNSET
    unclip_ratio: _Value = msgspec.UNSET
    binarize: _Value = msgspec.UNSET
    tiled: _Value = msgspec.UNSET
    shape: _Value = msgspec.UNSET


async def _create_from_addresses(request: Request, name: str) -> bool:
    service = service_of(request)
    async with json_body(request, _Addresses) as asked:
        check_count(asked.uris)  # before anything is waited for: 256 KiB of short texts are 4 MB
        sources = await of_visitors.answer(partial(service.check_sources, asked.uris))
        await run_in_threadpool(service.check_room)
        side = _limit_side(str(asked.limit_side or ""))
        given = {name: getattr(asked, name) for name in OPTIONS}
        options = _options({name: str(value) for name, value in given.items() if value not in (None, msgspec.UNSET)})
        webhook = service.check_webhook(str(asked.webhook or ""))
        folder = await run_in_threadpool(service.store.new_upload)
        job = WebJob(
            created=time.time(),
            title=sources[0][:MOST_SHOWN],
            sources=sources,
            limit_side=side,
            options=options,
            # Its fields by their names, as the dict of the versions before: a key may come again after an update.
            fingerprint=hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest(),
            webhook=webhook,
        )
        return await run_in_threadpool(service.accept, folder, name, job)


def show_job(request: Request) -> Response:
    """GET /jobs/{job}."""
    return JSONResponse(service_of(request).status(request.path_params["job"]))


async def job_results(request: Request) -> Response:
    """GET /jobs/{job}/results. What is made for it ends when the client is gone, or the job."""
    service, name = service_of(request), request.path_params["job"]
    wanted = request.query_params.get("format", JSONL)
    if wanted not in ALL_FORMATS:
        raise Problem(400, f"there is no format {wanted[:40]!r}", f"use one of {', '.join(ALL_FORMATS)}")
    start = number_asked(request, "from", 0, 0, 1 << 50)
    folder = await run_in_threadpool(service.store.folder, name)
    if wanted == JSONL:
        return await run_in_threadpool(lines_response, name, folder, start)
    # Six converted results had no bound.
    with service.makings.of(name, service.check_taken) as making, ExitStack() as held:
        async with ended_with_its_client(making, request.receive):
            await run_in_threadpool(service.check_quota)
            if (place := await service.exporting.wait()) is None:
                raise Problem(429, "too many results are being fetched", "try again in a moment", retry_after_s=5)
            held.enter_context(place)
            making.check()  # while it waited
            return await run_in_threadpool(_results, service, name, wanted, held, making)


def _results(service: Service, name: str, wanted: str, place: ExitStack, making: Making) -> Response:
    with place.pop_all() as held:  # in the order of its end: the answer has it, or nobody
        exports = service.store.new_export()
        held.callback(service.store.drop, exports)
        return _converted(service, name, wanted, exports, held, making)


def _converted(service: Service, name: str, wanted: str, exports: Path, held: ExitStack, making: Making) -> Response:
    folder, readers = service.store.folder(name), service.exporting.readers
    if wanted not in NEED_IMAGES:
        return converted_response(name, folder, wanted, exports, held, making=making, readers=readers)
    if not service.opening.acquire(blocking=False):
        raise Problem(429, f"{wanted} is being made for somebody else", "try again in a moment", retry_after_s=5)
    try:
        roots = (*service.settings.roots, service.store.uploads(name).resolve())
        return converted_response(name, folder, wanted, exports, held, roots, making, readers)
    finally:
        service.opening.release()


async def job_events(request: Request) -> Response:
    """GET /jobs/{job}/events: server-sent events until the job ends."""
    service, name = service_of(request), request.path_params["job"]
    await run_in_threadpool(service.store.read, name)

    async def events() -> AsyncIterator[str]:
        last, said = 0, time.monotonic()
        while not service.stopping:
            try:
                status = await run_in_threadpool(service.status, name)
            except Problem:
                yield "event: gone\ndata: {}\n\n"
                return
            line = json.dumps(status, ensure_ascii=False)
            if hash(line) != last:  # not the line: 64 may watch, each of whom may read nothing
                last, said = hash(line), time.monotonic()
                yield f"data: {line}\n\n"
            elif time.monotonic() - said > HEARTBEAT_S:  # proxies close a connection that is still
                said = time.monotonic()
                yield ": still here\n\n"
            if status["state"] not in ("open", "preparing"):
                yield "event: end\ndata: {}\n\n"
                return
            if response.is_given_up:  # he may ask again at once, and each who asks is told once
                return
            await asyncio.sleep(EVENT_S)

    response = _Events(events(), request.app.state.watchers)
    return response


class _Events(StreamingResponse):
    """Server-sent events, from one of the places for who watches.

    Attributes:
        is_given_up: somebody else has it; `GIVEN_UP_S` later the events are cut off, should their client take none.
    """

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str], watchers: Places) -> None:
        super().__init__(events, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.is_given_up = False
        self._watchers = watchers
        self._cut = anyio.CancelScope()

    def _give_up(self) -> None:
        self.is_given_up = True
        asyncio.get_running_loop().call_later(GIVEN_UP_S, self._cut.cancel)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        with self._cut, self._watchers.lend(self._give_up) or nullcontext():
            await super().__call__(scope, receive, send)


def retry_job(request: Request) -> Response:
    """POST /jobs/{job}/retry."""
    service, name = service_of(request), request.path_params["job"]
    service.store.folder(name)
    service.check_room()
    count = service.retry(name)
    return JSONResponse({"retried": count, **service.status(name)}, 202)


def cancel_job(request: Request) -> Response:
    """POST /jobs/{job}/cancel."""
    service, name = service_of(request), request.path_params["job"]
    dropped = service.cancel(name)
    return JSONResponse({"dropped": dropped, **service.status(name)}, 202)


def delete_job(request: Request) -> Response:
    """DELETE /jobs/{job}."""
    service_of(request).delete(request.path_params["job"])
    return Response(status_code=204)


def openapi(request: Request) -> Response:
    """GET /openapi.json."""
    return JSONResponse(document())


ROUTES = [
    Route(f"{BASE}/detect", detect, methods=["POST"]),
    Route(f"{BASE}/jobs", create_job, methods=["POST"]),
    Route(f"{BASE}/jobs/{{job}}", show_job, methods=["GET"]),
    Route(f"{BASE}/jobs/{{job}}", delete_job, methods=["DELETE"]),
    Route(f"{BASE}/jobs/{{job}}/events", job_events, methods=["GET"]),
    Route(f"{BASE}/jobs/{{job}}/results", job_results, methods=["GET"]),
    Route(f"{BASE}/jobs/{{job}}/retry", retry_job, methods=["POST"]),
    Route(f"{BASE}/jobs/{{job}}/cancel", cancel_job, methods=["POST"]),
    Route(f"{BASE}/openapi.json", openapi, methods=["GET"]),
]
