"""Celery signals that keep a worker's notes (worker_registry.py) and its signs of life (life_signs.py) up to date.

Imported by tasks.py.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import redis
from celery.signals import heartbeat_sent, worker_ready, worker_shutdown

from detector.memory import peak_rss_mb
from detector.record import worker_name
from worker.broker.clock import redis_now
from worker.broker.connection import impatient
from worker.messages import ModelRecord
from worker.ops import life_signs, worker_registry
from worker.ops.readers import readers_here
from worker.settings import settings
from worker.storage.files import spool_usage

logger = logging.getLogger(__name__)
_started = time.monotonic()
_last_beat = 0.0
_last_image = 0.0


def _client() -> redis.Redis:
    """The main process's own connection."""
    return impatient(settings().redis_url)


@worker_ready.connect
@heartbeat_sent.connect
def _beat(**_: Any) -> None:
    global _last_beat
    if time.monotonic() - _last_beat < worker_registry.BEAT_S:
        return
    if not _last_beat:
        life_signs.forget_gone()
        life_signs.tell(life_signs.WORKS)  # before its first page it has had no time for one
    life_signs.tell(life_signs.GOES_ON)
    _last_beat = time.monotonic()
    current = settings()
    try:
        now = redis_now(_client())
        note = worker_registry.WorkerNote(
            at=now,
            started=now - (time.monotonic() - _started),
            version=worker_registry.program_version(),
            profile=current.profile.name,
            temp_bytes=spool_usage(current.spool),
            readers=readers_here(),
        )
        worker_registry.note_worker(_client(), worker_name(), note)
    except redis.RedisError as error:
        logger.warning("could not report to the broker: %s", error)


@worker_shutdown.connect
def _leave(**_: Any) -> None:
    life_signs.leave()
    try:
        worker_registry.leave(_client(), worker_name())
    except redis.RedisError as error:
        logger.warning("could not sign off at the broker: %s", error)


def image_done(client: redis.Redis, model: ModelRecord | None) -> None:
    """In the child, after an image: note it in Redis, at most every few seconds.

    Args:
        client: the child's connection.
        model: what ran, if anything did.
    """
    global _last_image
    now = time.monotonic()
    if _last_image and now - _last_image < worker_registry.IMAGE_NOTE_S:
        return
    _last_image = now
    try:
        note = worker_registry.ImageNote(redis_now(client), round(peak_rss_mb(), 1), model.sha256 if model else "")
        worker_registry.note_image(client, worker_name(os.getppid()), note)
    except redis.RedisError as error:  # the image's record is safe; only doctor and Flower miss it
        logger.warning("could not report to the broker: %s", error)
