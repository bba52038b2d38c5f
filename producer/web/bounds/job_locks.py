"""What changes a job (cancel, retry, delete) is done one after the other: the second finds what the first has left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import redis

from producer.errors import ProducerError
from producer.web.problem import Problem
from worker.errors import WorkerError

logger = logging.getLogger("ocrfleet.web")
PATIENCE_S = 15.0
"""A deletion waits 10 s for a job's thread, and removes its files then."""

OWN_PATIENCE_S = 60.0
"""The page's own deletion waits for the two who came before it."""

AT_ONCE = 12
"""Changes of jobs, those that wait for another of the same job too: each has one of the 40 threads that answer all
requests. Others are told at once."""

OF_ONE_JOB = 2
"""Of these: one changes it, one waits. Before: twelve who waited for one job kept all others' from being changed."""


class _Held:
    """A job that is being changed."""

    __slots__ = ("alone", "count", "is_ending")

    def __init__(self) -> None:
        self.alone = threading.Lock()
        self.count = 0
        self.is_ending = False  # the page itself deletes it


class JobLocks:
    """A lock for each job that is being changed."""

    def __init__(self) -> None:
        """None is."""
        self._lock = threading.Lock()
        self._taken = 0
        self._held: dict[str, _Held] = {}
        self._deleted = set[str]()

    @contextmanager
    def deletion(self, name: str) -> Iterator[None]:
        """Inside, who asks is told that the job is being deleted. For who has its lock."""
        self._deleted.add(name)
        try:
            yield
        finally:
            self._deleted.discard(name)

    def is_deleted(self, name: str) -> bool:
        """Whether it is being deleted, and so may be gone in a moment. That takes no place, and nobody waits."""
        return name in self._deleted

    @contextmanager
    def of(self, name: str, *, is_own: bool = False) -> Iterator[None]:
        """Inside, nobody else changes this job.

        Args:
            name: the job's.
            is_own: the page itself deletes it. That takes no place, and who comes after it is told at once: visitors
                who change jobs without a pause would keep pictures that were to go with their answer.

        Raises:
            Problem: 429, somebody does, or too many change others.
        """
        held = self._enter(name, is_own)
        try:
            if not held.alone.acquire(timeout=OWN_PATIENCE_S if is_own else PATIENCE_S):
                raise _is_changed(name)
            try:
                yield
            finally:
                held.alone.release()
        finally:
            with self._lock:
                self._taken -= not is_own
                held.count -= 1
                if not held.count:
                    del self._held[name]

    def _enter(self, name: str, is_own: bool) -> _Held:
        with self._lock:
            held = self._held.get(name) or _Held()
            if not is_own:
                if held.is_ending or held.count >= OF_ONE_JOB:
                    raise _is_changed(name)
                if self._taken >= AT_ONCE:
                    raise Problem(429, "many jobs are being changed", "try again in a moment", retry_after_s=5)
                self._taken += 1
            held.count += 1
            held.is_ending |= is_own
            self._held[name] = held
            return held


def _is_changed(name: str) -> Problem:
    return Problem(429, f"job {name} is being changed", "try again in a moment", retry_after_s=5)


class _ChangesJobs(Protocol):
    changing: JobLocks


Changing = TypeVar("Changing", bound=_ChangesJobs)
Result = TypeVar("Result")
Given = ParamSpec("Given")


def one_after_the_other(change: Callable[[Changing, str], Result]) -> Callable[[Changing, str], Result]:
    """A method that changes the job of a name, so that it meets no other."""

    @wraps(change)
    def alone(service: Changing, name: str) -> Result:
        with service.changing.of(name):
            return change(service, name)

    return alone


def on_our_own(
    delete: Callable[Concatenate[Changing, str, Given], None],
) -> Callable[Concatenate[Changing, str, Given], bool]:
    """A method by which the page itself deletes a job. It takes no visitor's answer away: what fails is in the log.

    Returns:
        Whether others may be deleted next: the broker and the disk did what they were asked to.
    """

    @wraps(delete)
    def alone(service: Changing, name: str, /, *given: Given.args, **named: Given.kwargs) -> bool:
        try:
            with service.changing.of(name, is_own=True):
                delete(service, name, *given, **named)
        except Problem as problem:
            if problem.status != 404:  # a visitor was quicker
                logger.warning("%s: it stays for now: %s", name, problem.detail)
        except (redis.RedisError, OSError, ProducerError, WorkerError) as error:
            logger.warning("%s: it stays for now: %s", name, error)
            return False
        return True

    return alone
