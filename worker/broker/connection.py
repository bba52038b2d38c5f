"""Opens connections to Redis, and says in one line why Redis cannot be used or refuses."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from detector.errors import first_line
from detector.exit_codes import ExitCode
from worker.broker.short_replies import Bounds, short_replies
from worker.broker.wrong_types import MendingRedis
from worker.errors import WorkerError
from worker.messages import MOST_RECORD_BYTES
from worker.redis_url import redacted
from worker.settings import Settings

logger = logging.getLogger(__name__)
# What Redis says of itself, in its own words: redis-py has no class for the last two, and sees none of them where
# Redis 6.2 wraps what a script was told ("ERR Error running script ... -OOM command not allowed ...").
_MEMORY_FULL = "OOM command not allowed"
# A replica; the disk is full or broken; fewer replicas than there must be (redis.conf: min-replicas-to-write).
_DISK_BROKEN = "MISCONF"
_READ_ONLY, _TOO_FEW = "READONLY You can't write", "NOREPLICAS"
_NO_WRITES = (_MEMORY_FULL, _READ_ONLY, _DISK_BROKEN, _TOO_FEW)


class BrokerUnreachable(WorkerError, ConnectionError):
    """No answer from Redis, or it does not let us in. The message names the URL (without password) and the remedy."""

    exit_code = ExitCode.BROKER


ANSWER_S = 5.0
CONNECTIONS_OF_A_WORKER = 4  # worker/celery_ext/few_connections.py
MISREAD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""What Python raises over a reply of another kind than was asked for."""
# A broker that restarts is back within half a minute; every step of the ledger may be repeated without harm.
PATIENCE = Retry(ExponentialBackoff(cap=5.0, base=0.2), retries=10)


def client_of(url: str, bounds: Bounds, **options: Any) -> redis.Redis:
    """What every client of ours is made by; kombu's are by `SendingChannel`. It connects when it is first used.

    Args:
        url: of the server.
        bounds: of each reply.
        options: redis-py's.

    Raises:
        ValueError: no address of Redis.
    """
    client: redis.Redis = MendingRedis.from_url(url, **options)
    pool = client.connection_pool
    pool.connection_class = short_replies(pool.connection_class, bounds)
    return client


def connect(settings: Settings, *, patient: bool = False) -> redis.Redis:
    """A checked connection to the broker.

    Args:
        settings: where the broker is.
        patient: a worker's connection, which outlives a restart of the broker by retrying for about 40 s.

    Raises:
        BrokerUnreachable: nothing listens there, wrong password, TLS failure, not a Redis URL.
    """
    _asked.add(settings.redis_url)
    try:
        client = client_of(
            settings.redis_url,
            Bounds(value=MOST_RECORD_BYTES),
            socket_connect_timeout=5,  # a wrong address must not look like a hang
            socket_timeout=30,  # longer than any blocking read below, shorter than a user's patience
            health_check_interval=30,  # NAT boxes of cheap providers drop idle connections silently
            retry=PATIENCE if patient else None,
        )
        _ask(client)
    except (redis.RedisError, OSError, ValueError) as error:  # ValueError: redis-py cannot read the URL
        remedy = "is it running? set OCRFLEET_REDIS_URL=redis://:PASSWORD@HOST:6379/0"
        if "max number of clients" in str(error):
            remedy = f"raise its maxclients, or run fewer workers: each takes {CONNECTIONS_OF_A_WORKER} connections"
        # A ValueError's text may hold any part of the address, and of a password in it.
        said = "this address cannot be read" if isinstance(error, ValueError) else first_line(error)
        raise BrokerUnreachable(f"cannot use the broker at {redacted(settings.redis_url)}: {said} ({remedy})") from None
    return client


def connect_within(settings: Settings, seconds: float) -> redis.Redis:
    """:func:`connect`, tried again while nothing listens there.

    Args:
        settings: where the broker is.
        seconds: how long; 0 tries once.

    Raises:
        BrokerUnreachable: still not.
    """
    give_up = time.monotonic() + seconds
    said = False
    while True:
        try:
            return connect(settings)
        except BrokerUnreachable as error:
            if time.monotonic() >= give_up:
                raise
            if not said:
                said = True
                logger.warning("waiting %.0f s for the broker: %s", seconds, error)
            time.sleep(1.0)


@cache
def impatient(url: str) -> redis.Redis:
    """The one connection of Celery's main process for all it has to say; it has an event loop to keep.

    Unchecked: it connects when it is first used. A call waits ``ANSWER_S`` for an answer, more than a failover's pause,
    and as long again for the rest of it, but for a second more for each KB of it, until the process is told to end.
    """
    _asked.add(url)
    keepalive = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return client_of(
        url,
        Bounds(seconds=ANSWER_S),
        socket_connect_timeout=ANSWER_S,
        socket_timeout=ANSWER_S,
        health_check_interval=30,
        **keepalive,
    )


_asked: set[str] = set()  # addresses that this process talked to


def is_no_redis(error: BaseException) -> bool:
    """Whether an exception comes of a server whose replies are well formed, and none of Redis'; else it is our fault.

    Asks it what it can only answer in one way. Where redis-py could not read a reply that is proof enough.

    Args:
        error: what ended a command.
    """
    if not _asked or not isinstance(error, MISREAD):
        return False
    return _is_in_redis_py(error.__traceback__) or not all(map(_answers_as_redis, tuple(_asked)))


def _is_in_redis_py(trace: TracebackType | None) -> bool:
    """Whether it was raised where redis-py reads replies, or takes messages of subscriptions apart."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    *_, above, folder, file = ("", "", *Path(trace.tb_frame.f_code.co_filename).parts)
    return (above, folder) == ("redis", "_parsers") or (folder, file) == ("redis", "client.py")


def _answers_as_redis(url: str) -> bool:
    """Whether it does, as far as it answers at all."""
    nobodys, word = f"ocrfleet:{secrets.token_hex(8)}", secrets.token_bytes(8)
    known: tuple[tuple[Callable[[redis.Redis], object], object], ...] = (
        (lambda client: client.exists(nobodys), 0),
        (lambda client: client.unlink(nobodys), 0),
        (lambda client: client.delete(nobodys), 0),
        (lambda client: client.ttl(nobodys), -2),
        (lambda client: client.memory_usage(nobodys), None),
        (lambda client: client.hlen(nobodys), 0),
        (lambda client: client.hget(nobodys, "field"), None),
        (lambda client: client.xrange(nobodys), []),
        (lambda client: client.eval("return {ARGV[1], 1, {}}", 0, word), [word, 1, []]),
        (lambda client: min(client.time()) >= 0, True),
    )
    for ask, answer in known:
        try:
            if ask(impatient(url)) != answer:
                return False
        except redis.ResponseError:  # a refusal is an answer
            continue
        except (redis.RedisError, OSError):
            return True
        except MISREAD:
            return False
    return True


def _ask(client: redis.Redis) -> None:
    """Raises what keeps a client out. A server with a broken disk refuses even PING: it is there all the same."""
    try:
        client.ping()
    except redis.ResponseError as error:
        if not takes_no_writes(error):
            raise


def _of_redis(error: Exception) -> BaseException | None:
    """What redis-py raised, also where Celery has wrapped it (kombu.exceptions.OperationalError)."""
    return error if isinstance(error, redis.RedisError) else error.__cause__


def is_full(error: Exception) -> bool:
    """Whether redis-py's error, or Celery's around it, means that Redis has reached its ``maxmemory``."""
    cause = _of_redis(error)
    return isinstance(cause, redis.exceptions.OutOfMemoryError) or _says(cause, _MEMORY_FULL)


def takes_no_writes(error: Exception) -> bool:
    """Whether Redis answers, but takes no writes at the moment: memory or disk full, a replica, too few replicas."""
    cause = _of_redis(error)
    refusals = redis.exceptions.OutOfMemoryError | redis.exceptions.ReadOnlyError
    return isinstance(cause, refusals) or _says(cause, *_NO_WRITES)


def is_failing_over(error: Exception) -> bool:
    """Whether Redis answers, but takes no writes until its servers have agreed again: a replica, or too few of them."""
    cause = _of_redis(error)
    return isinstance(cause, redis.exceptions.ReadOnlyError) or _says(cause, _READ_ONLY, _TOO_FEW)


def _says(error: BaseException | None, *phrases: str) -> bool:
    return isinstance(error, redis.ResponseError) and any(phrase in str(error) for phrase in phrases)


def why_waiting(error: Exception) -> str:
    """What a worker's log says about a broker that refuses."""
    if is_full(error):
        return "the broker's memory is full: waiting until results are collected or a job is forgotten"
    what = "takes no writes" if takes_no_writes(error) else "refuses a step"
    return f"the broker {what}: waiting until it does ({first_line(error)})"


def refusal(error: Exception) -> str:
    """What a command says, in one line, about a broker that answers but refuses, or that went away in the middle.

    Args:
        error: what redis-py raised, or Celery, which wraps it (kombu.exceptions.OperationalError); or what
            :func:`is_no_redis` knows.
    """
    text = first_line(error)
    if isinstance(error, MISREAD):
        return (
            f"lost the broker: it does not answer as Redis does ({type(error).__name__}: {text}); is the address right?"
        )
    cause = _of_redis(error)
    if is_full(error):
        return (
            "the broker's memory is full: free some with `ocr-producer collect JOB -o OUT` or `ocr-producer forget "
            "JOB` (see `ocr-producer jobs`), or raise its maxmemory"
        )
    if _DISK_BROKEN in text:
        return f"the broker cannot write to its disk ({text}); make room there, then give the same command again"
    if isinstance(cause, redis.exceptions.NoPermissionError):
        return f"the broker does not let this user do that: {text}"
    if isinstance(cause, redis.ResponseError):
        return f"the broker refused a step: {text}"
    return f"lost the broker: {text}; the job is safe, resume it when it is back"
