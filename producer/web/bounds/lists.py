"""The API's lists. Each is as long as was asked for, and as fits into one answer, and says how to go on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

import redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from producer.web.api import BASE, number_asked, service_of
from producer.web.bounds.few_readers import reading
from producer.web.bounds.listing import Placed, listing
from worker.ops import worker_registry

MOST_LISTED = 1000
MOST_OFFSET = 1 << 40
_failures = threading.Semaphore(1)  # a line of results may have 4 MiB, and twice that while it is read
_listing = threading.Semaphore(8)  # a list of jobs: of each its state is asked, and 512 KiB are made of them


def _offset(request: Request, name: str = "offset", default: int = 0) -> int:
    return number_asked(request, name, default, 0, MOST_OFFSET)


def _limit(request: Request, default: int) -> int:
    return number_asked(request, "limit", default, 1, MOST_LISTED)


def placed(entries: Iterator[Mapping[str, Any]], offset: int, limit: int) -> Placed:
    """Entries of a list from `offset` on, each with its place.

    Args:
        entries: those from there on.
        offset: of the first.
        limit: how many were asked for.
    """
    for number, entry in enumerate(entries):
        yield f"offset={offset + number}&limit={limit}", entry if number < limit else None


def placed_failures(entries: Iterator[Mapping[str, Any]], skipped: int, offset: int, limit: int) -> Placed:
    """The same of failures: uploads that were not taken have places of their own, and no index.

    Args:
        entries: the uploads from `skipped` on, and then the failed pages from `offset` on.
        skipped: of the first upload.
        offset: of the first failed page.
        limit: how many failed pages were asked for.
    """
    end = offset + limit
    for entry in entries:
        is_page = entry["index"] is not None
        yield f"offset={offset}&limit={limit}&skipped={skipped}", None if is_page and offset == end else entry
        offset, skipped = offset + is_page, skipped + (not is_page)


def list_jobs(request: Request) -> Response:
    """GET /jobs."""
    limit, offset = _limit(request, 100), _offset(request)
    with reading(_listing):
        return listing("jobs", placed(service_of(request).jobs(limit + 1, offset), offset, limit))


def job_pages(request: Request) -> Response:
    """GET /jobs/{job}/pages."""
    limit, offset = _limit(request, 200), _offset(request)
    with reading():
        pages = service_of(request).pages(request.path_params["job"], offset, limit + 1)
        return listing("pages", placed(iter(pages), offset, limit))


def job_failures(request: Request) -> Response:
    """GET /jobs/{job}/failures."""
    limit, offset = _limit(request, MOST_LISTED), _offset(request)
    skipped = _offset(request, "skipped", MOST_OFFSET if offset else 0)
    with reading(_failures):
        failures = service_of(request).failures(request.path_params["job"], limit + 1, offset, skipped)
        return listing("failures", placed_failures(iter(failures), skipped, offset, limit))


def workers(request: Request) -> Response:
    """GET /workers: who has reported lately."""
    offset = _offset(request)
    ledger = service_of(request).ledger
    alive = alive_workers(ledger.client, ledger.now())
    return listing("workers", placed(iter(alive[offset:]), offset, MOST_LISTED))


def alive_workers(client: redis.Redis, now: float) -> list[dict[str, Any]]:
    """Workers that are alive, with their memory and their last page."""
    images = worker_registry.images(client)
    return [
        {
            "worker": name, "profile": note.profile, "version": note.version,
            "peak_rss_mb": images[name].peak_rss_mb if name in images else None,
            "seconds_since_page": round(now - images[name].at, 1) if name in images else None,
        }
        for name, note in sorted(worker_registry.workers(client).items())
        if worker_registry.is_alive(note, now)
    ]  # fmt: skip


ROUTES = [
    Route(f"{BASE}/jobs", list_jobs, methods=["GET"]),
    Route(f"{BASE}/jobs/{{job}}/pages", job_pages, methods=["GET"]),
    Route(f"{BASE}/jobs/{{job}}/failures", job_failures, methods=["GET"]),
    Route(f"{BASE}/workers", workers, methods=["GET"]),
]
