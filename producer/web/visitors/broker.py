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

LATE_S = 1.0
"""So long nobody who listens takes to refuse: a resolver without a network does, or a proxy that finds no broker."""


class Silence:
    """Whether the broker answers, as far as its last questions tell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """It does.

        Args:
            clock: seconds.
        """
        self._clock, self._lock = clock, threading.Lock()
        self._is_silent, self._again_at = False, 0.0
        self._asked: dict[object, float] = {}  # questions without an answer yet, and when they were begun

    def check(self) -> None:
        """Before a question. Who may ask while there is silence keeps others from it until he was not answered.

        Raises:
            redis.TimeoutError: it is not to be asked now.
        """
        with self._lock:
            now = self._clock()
            # No timeout of ours bounds the look for its address, which may take 40 s.
            is_late = any(now - began > ANSWER_S for began in self._asked.values())
            if not self._is_silent and not is_late:
                return
            if now < self._again_at:
                raise redis.TimeoutError("the broker did not answer")
            self._again_at = now + 2 * ANSWER_S + AGAIN_S  # its connection, and its answer

    @contextmanager
    def asked(self) -> Iterator[None]:
        """Inside, a question waits for its answer. What ends it late is no answer, whatever it is."""
        question, began = object(), self._clock()
        with self._lock:
            self._asked[question] = began
        try:
            yield
        except redis.ResponseError:  # it refuses
            self.end()
            raise
        except redis.RedisError as error:  # nobody listens there: that is told at once
            is_late = isinstance(error, redis.TimeoutError) or self._clock() - began >= LATE_S
            (self.begin if is_late else self.end)()
            raise
        finally:
            with self._lock:
                del self._asked[question]

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
            with silence.asked():
                super().connect()

        def read_response(self, *args: Any, **kwargs: Any) -> Any:
            with silence.asked():
                reply = super().read_response(*args, **kwargs)
            silence.end()
            return reply

    return Noting


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
