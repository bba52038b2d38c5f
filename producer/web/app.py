"""The ASGI application: the API, the page, health and metrics, behind the guard."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import redis
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from producer.errors import ProducerError
from producer.web import labelstudio, models
from producer.web.api import MOST_WATCHERS, ROUTES, service_of
from producer.web.bounds import lists
from producer.web.bounds.answers import Answers
from producer.web.bounds.upload_places import UploadPlaces
from producer.web.guard import COOKIE, COOKIE_S, Guard, same_text, sign
from producer.web.problem import Problem, no_such_job
from producer.web.service import Service
from producer.web.visitors.json_body import json_places
from producer.web.visitors.leaving import while_there
from producer.web.visitors.longest import Places
from producer.web.visitors.readiness import Readiness
from worker.errors import WorkerError

STATIC = Path(__file__).parent / "static"
EXPIRE_EVERY_S = 600.0
WRONG_TOKEN_S = 1.0  # an answer to a wrong token takes so long: guessing does not pay
logger = logging.getLogger("ocrfleet.web")


def _file(name: str) -> Route:
    path = {"index.html": "/", "login.html": "/login", "docs.html": "/api/v1/docs"}[name]

    def page(request: Request) -> Response:
        return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})

    return Route(path, page, methods=["GET"], name=name)


async def login(request: Request) -> Response:
    """POST /login: a cookie for who knows the token."""
    web = service_of(request).web
    body = bytearray()
    try:
        async with asyncio.timeout(web.idle_s):
            async for chunk in request.stream():
                body += chunk
                if len(body) > 4096:
                    raise Problem(413, "too long", "send the token")
    except TimeoutError:
        raise Problem(408, "the request came too slowly", "send the token") from None
    from urllib.parse import parse_qs

    token = (parse_qs(body.decode("utf-8", "replace")).get("token") or [""])[0]
    if web.token and not same_text(token, web.token):
        await while_there(asyncio.sleep(WRONG_TOKEN_S), request.receive)
        return RedirectResponse("/login?wrong=1", 303)
    answer = RedirectResponse("/", 303)
    if web.token:
        schemes = (request.url.scheme, request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower())
        https = "https" in schemes  # of several proxies the first is the visitor's
        value = sign(web.token, int(time.time()) + COOKIE_S)
        answer.set_cookie(COOKIE, value, max_age=COOKIE_S, httponly=True, samesite="strict", secure=https)
    return answer


def logout(request: Request) -> Response:
    """POST /logout."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


async def healthz(request: Request) -> Response:
    """Whether this process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Whether it can take a job: the broker answers and has room."""
    readiness: Readiness = request.app.state.readiness
    problem = await while_there(readiness.problem(), request.receive)
    return JSONResponse({"status": "ready"}) if problem is None else problem.response()


def metrics(request: Request) -> Response:
    """Numbers of this service, as Prometheus reads them; those of the fleet come from `ocr-worker exporter`."""
    service = service_of(request)
    try:
        alive, up = service.workers_alive(), 1
    except (redis.RedisError, OSError):
        alive, up = 0, 0
    numbers = {
        "web_jobs_running": service.runner.count(),
        "web_folder_bytes": service.store.room.used(),
        "web_quota_bytes": service.web.quota_mb << 20,
        "workers_alive": alive,
        "broker_up": up,
        "web_resident_bytes": _resident_bytes(),
    }
    lines = [f"# TYPE ocrfleet_{name} gauge\nocrfleet_{name} {value}\n" for name, value in numbers.items()]
    return PlainTextResponse("".join(lines), media_type="text/plain; version=0.0.4; charset=utf-8")


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


async def on_problem(request: Request, error: Exception) -> Response:
    """RFC 9457. The connection ends if the body was not read to its end."""
    assert isinstance(error, Problem)
    return error.response(close=request.method == "POST")


async def on_http_error(request: Request, error: Exception) -> Response:
    """Starlette's own: no such path, or not this method."""
    assert isinstance(error, HTTPException)
    response = Problem(error.status_code, f"{request.method} {request.url.path[:200]}", "see /api/v1/docs").response()
    response.headers.update(error.headers or {})
    return response


async def on_gone(request: Request, error: Exception) -> Response:
    """Nobody is there to be told; without this each would be a traceback in the log."""
    return Problem(400, "the connection ended before the request did", "send it again").response(close=True)


async def on_our_error(request: Request, error: Exception) -> Response:
    """What ends a command with one line is, over HTTP, a conflict with the state of a job."""
    detail = str(error).replace(f"{service_of(request).store.root}/", "")  # where the page keeps its files is its own
    return Problem(409, detail, "see GET /api/v1/jobs").response(close=request.method == "POST")


async def on_broker_error(request: Request, error: Exception) -> Response:
    """The broker went away or refuses."""
    detail = "the broker does not answer, or refuses"
    return Problem(503, detail, "try again; see /readyz", retry_after_s=10).response(close=request.method == "POST")


async def on_os_error(request: Request, error: Exception) -> Response:
    """The disk is full; or somebody deleted the job meanwhile."""
    assert isinstance(error, OSError)
    job = request.path_params.get("job")
    if isinstance(error, FileNotFoundError) and job is not None and not service_of(request).store.has(job):
        return no_such_job(job).response()
    logger.error("%s", error)
    return Problem(
        507, f"the service's disk: {error.strerror or error}", "make room there, or delete jobs", retry_after_s=60
    ).response(close=True)


def make_app(service: Service, *, is_private: bool = False) -> ASGIApp:
    """The application.

    Args:
        service: what it serves.
        is_private: the broker is this process's own, and was started with it.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if is_private:
            await run_in_threadpool(service.recover_private)
        count = await run_in_threadpool(service.resume)
        if count:
            logger.info("going on with %d open jobs", count)
        expiring = asyncio.create_task(expire())
        try:
            yield
        finally:
            expiring.cancel()
            service.stopping = True
            await run_in_threadpool(service.stop)
            app.state.exporter.stop()

    async def expire() -> None:
        while True:
            await asyncio.sleep(EXPIRE_EVERY_S)
            try:
                await run_in_threadpool(service.expire, time.time())
            # Problem: a visitor deleted one of them meanwhile.
            except (redis.RedisError, OSError, Problem) as error:
                logger.warning("old jobs stay for now: %s", error)

    app = Starlette(
        routes=[
            *lists.ROUTES,
            *ROUTES,
            *models.ROUTES,
            *labelstudio.ROUTES,
            *(_file(name) for name in ("index.html", "login.html", "docs.html")),
            Route("/login", login, methods=["POST"]),
            Route("/logout", logout, methods=["POST"]),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/readyz", readyz, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        exception_handlers={
            Problem: on_problem,
            ClientDisconnect: on_gone,
            HTTPException: on_http_error,
            ProducerError: on_our_error,
            WorkerError: on_broker_error,
            redis.RedisError: on_broker_error,
            OSError: on_os_error,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a wrong address is told, not mended with the Host header that came
    app.state.service = service
    app.state.exporter = models.Exporter(service.store.models)
    app.state.upload_places = UploadPlaces(service.web.max_requests)
    app.state.json_places = json_places()
    app.state.readiness = Readiness(service.check_room)
    app.state.watchers = Places(MOST_WATCHERS)
    return Guard(Answers(app), service.web)
