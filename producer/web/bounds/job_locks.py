"""What changes a job (cancel, retry, delete) is done one after the other: the second finds what the first has left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Protocol, TypeVar

from producer.web.problem import Problem

PATIENCE_S = 15.0
"""A deletion waits 10 s for a job's thread, and removes its files then."""

AT_ONCE = 12
"""Changes of jobs, those that wait for another of the same job too: each has one of the 40 threads that answer all
requests. Others are told at once."""


class JobLocks:
    """A lock for each job that is being changed."""

    def __init__(self) -> None:
        """None is."""
        self._lock = threading.Lock()
        self._places = threading.Semaphore(AT_ONCE)
        self._held: dict[str, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Inside, nobody else changes this job.

        Raises:
            Problem: 429, somebody does, or too many change others.
        """
        if not self._places.acquire(blocking=False):
            raise Problem(429, "many jobs are being changed", "try again in a moment", retry_after_s=5)
        try:
            with self._alone(name):
                yield
        finally:
            self._places.release()

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        with self._lock:
            lock, count = self._held.get(name, (threading.Lock(), 0))
            self._held[name] = lock, count + 1
        try:
            if not lock.acquire(timeout=PATIENCE_S):
                raise Problem(429, f"job {name} is being changed", "try again in a moment", retry_after_s=5)
            try:
                yield
            finally:
                lock.release()
        finally:
            with self._lock:
                lock, count = self._held.pop(name)
                if count > 1:
                    self._held[name] = lock, count - 1


class _ChangesJobs(Protocol):
    changing: JobLocks


Changing = TypeVar("Changing", bound=_ChangesJobs)
Result = TypeVar("Result")


def one_after_the_other(change: Callable[[Changing, str], Result]) -> Callable[[Changing, str], Result]:
    """A method that changes the job of a name, so that it meets no other."""

    @wraps(change)
    def alone(service: Changing, name: str) -> Result:
        with service.changing.of(name):
            return change(service, name)

    return alone
