"""What a worker process looks at before it takes its first image: its pool, its memory, its broker."""

from __future__ import annotations

import billiard
import redis

from worker.broker.connection import impatient
from worker.broker.fitness import why_unfit
from worker.settings import settings

# Pages of one process share ONNX Runtime's and OpenCV's state: with threads 31 of 500 pages had other pages' boxes.
_POOLS = ("celery.concurrency.prefork", "celery.concurrency.solo", "worker.celery_ext.prefork")
_POOL_NAMES = ("prefork", "processes", "solo", "worker.celery_ext.prefork:FleetPool")


def unusable_pool(pool: object) -> str:
    """Why images cannot run in this kind of pool; empty if they can.

    Args:
        pool: Celery's class for it, or its name; None for the default.
    """
    if pool is None or (isinstance(pool, str) and pool in _POOL_NAMES):
        return ""
    if isinstance(pool, type) and pool.__module__ in _POOLS:
        return ""
    name = pool if isinstance(pool, str) else getattr(pool, "__module__", str(pool)).rpartition(".")[2]
    return f"pool {name}: images need a process each; leave -P out (prefork), or use -P solo"


def no_semaphores(pool: object) -> str:
    """Why this machine cannot run a pool of processes; empty if it can. Celery would end with thirty lines.

    Args:
        pool: Celery's class for it, or its name.
    """
    if "solo" in (pool if isinstance(pool, str) else getattr(pool, "__module__", "")):
        return ""
    try:
        billiard.Lock()
    except OSError as error:
        return (
            f"no semaphores can be made here, for want of a writable /dev/shm ({error.strerror}): mount a tmpfs there "
            "(docker run --tmpfs /dev/shm), or start the worker with `celery -A worker.app worker -P solo`"
        )
    return ""


def shared_memory(concurrency: object, autoscale: object) -> str:
    """What to say of several images at once in one worker; empty for one.

    Args:
        concurrency: Celery's ``-c``.
        autoscale: Celery's ``--autoscale``, "most,least" or a pair.
    """
    most = autoscale.split(",")[0] if isinstance(autoscale, str) else autoscale[0] if autoscale else concurrency  # type: ignore[index]
    count = int(most) if isinstance(most, int | str) and str(most).isdigit() else 1
    limit = settings().memory_limit_mb
    if count <= 1:
        return ""
    together = f"together {count * limit} MB" if limit else "and nothing limits them"
    return (
        f"{count} images at once, each child within {limit or 'any'} MB, {together}: set OCRFLEET_MEMORY_LIMIT_MB to a "
        "share each, or start several workers with -c 1"
    )


def unfit_broker() -> str:
    """Why this broker cannot hold jobs; empty if it can, or does not answer (the worker then waits for it)."""
    try:
        reason = why_unfit(impatient(settings().redis_url).info())
    except (redis.RedisError, OSError, ValueError):
        return ""
    return f"the broker cannot be used: {reason}" if reason else ""
