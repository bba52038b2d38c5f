"""What reads a job's files from their beginning at each request: few at a time, so that the page has time for all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from producer.web.problem import Problem

AT_ONCE, PATIENCE_S = 4, 5.0
_places = threading.Semaphore(AT_ONCE)

WAITING = 12
"""Requests that wait for such a place; others are told at once. Before: 200 at a time had all threads for 20 s."""

_waiting = threading.Semaphore(WAITING)


@contextmanager
def reading(places: threading.Semaphore | None = None) -> Iterator[None]:
    """Inside, a long file may be read: a list of ten million pages takes seconds, and 40 threads answer all requests.

    Args:
        places: default: those of a job's pages.

    Raises:
        Problem: 429, others read theirs.
    """
    places = places or _places
    if not (places.acquire(blocking=False) or _waited_for(places)):
        raise Problem(429, "long lists are being read for others", "try again in a moment", retry_after_s=5)
    try:
        yield
    finally:
        places.release()


def _waited_for(places: threading.Semaphore) -> bool:
    if not _waiting.acquire(blocking=False):
        return False
    try:
        return places.acquire(timeout=PATIENCE_S)
    finally:
        _waiting.release()
