"""What visitors ask the broker: it has a few seconds, and while it says nothing one question at a time waits for it.

A job's own thread has half a minute for each answer, and time. Before, visitors waited as long, for each job of a list,
and those who asked meanwhile had all the page's threads: where Redis hung, or the network to it, nobody had the page
itself, nor what lies on its disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from worker.broker.connection import ANSWER_S, client_of
from worker.broker.short_replies import Bounds
from worker.ledger.ledger import Ledger
from worker.messages import MOST_RECORD_BYTES

AGAIN_S = 2.0
"""After a question that had no answer the next is asked; others are told at once that there is none."""


class Silence:
    """Whether the broker answers, as far as its last questions tell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """It does.

        Args:
            clock: seconds.
        """
        self._clock, self._lock = clock, threading.Lock()
        self._is_silent, self._again_at = False, 0.0

    def check(self) -> None:
        """Before a question. Who may ask while there is silence keeps others from it until he was not answered.

        Raises:
            redis.TimeoutError: it is not to be asked now.
        """
        with self._lock:
            if not self._is_silent:
                return
            if self._clock() < self._again_at:
                raise redis.TimeoutError("the broker did not answer")
            self._again_at = self._clock() + 2 * ANSWER_S + AGAIN_S  # its connection, and its answer

    def begin(self) -> None:
        """A question had no answer."""
        with self._lock:
            self._is_silent, self._again_at = True, self._clock() + AGAIN_S

    def end(self) -> None:
        """One had."""
        self._is_silent = False


def _noting(silence: Silence, connection_class: type[Any]) -> type[Any]:
    class Noting(connection_class):  # type: ignore[misc]
        def connect(self) -> None:
            """redis-py's, of a pool before each command."""
            silence.check()
            with _noted(silence):
                super().connect()

        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            with _noted(silence):
                reply = super().read_response(*args, **kwargs)
            silence.end()
            return reply

    return Noting


@contextmanager
def _noted(silence: Silence) -> Iterator[None]:
    try:
        yield
    except redis.TimeoutError:
        silence.begin()
        raise
    except redis.RedisError:  # it refuses, or nobody listens there: that is told at once
        silence.end()
        raise


def for_visitors(ledger: Ledger, url: str, silence: Silence | None = None) -> Ledger:
    """The same ledger over connections of its own, on which nobody waits for long. It connects when it is first used.

    Args:
        ledger: of the jobs' threads.
        url: of the broker.
        silence: of these connections.
    """
    bounds = Bounds(value=MOST_RECORD_BYTES, seconds=ANSWER_S)  # of a whole reply, however it comes
    client = client_of(
        url, bounds, socket_connect_timeout=ANSWER_S, socket_timeout=ANSWER_S, health_check_interval=30, retry=None
    )
    pool = client.connection_pool
    pool.connection_class = _noting(silence or Silence(), pool.connection_class)
    return Ledger(client, ttl_s=ledger.ttl_s, max_attempts=ledger.max_attempts, lease_s=ledger.lease_s)
