"""What every worker tells about itself, for the exporter, for `ocr-worker doctor` and for liveness probes.

``ocrfleet:workers``         hash  host:pid -> WorkerNote: said by Celery's main process every ``BEAT_S`` seconds
``ocrfleet:workers:images``  hash  host:pid -> ImageNote: said by its child after an image, at most every few seconds

Liveness is progress: a worker whose main process still beats while images wait and none gets done is not alive. Of a
worker that tells its own machine (life_signs.py) that counts, and not what Redis says of it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from typing import TypeVar

import msgspec
import redis

from detector.record import UNREADABLE, Amount, Count
from worker.broker.clock import redis_now
from worker.broker.whole import read_hash
from worker.ledger.ledger import chunked
from worker.ops.life_signs import Signs
from worker.process_identity import is_main, running_processes
from worker.redis_keys import IMAGES_KEY, WORKERS_KEY

logger = logging.getLogger(__name__)
BEAT_S = 15
IMAGE_NOTE_S = 5
# A machine that vanished is shown as gone for this long, then forgotten.
FORGET_S = 24 * 3600
GONE_S = 4 * BEAT_S
MOST_NAME, MOST_NOTE = 300, 4096  # bytes: a host's name has 253, a note 200 and the names of recognisers


AHEAD_S = 60.0
"""What says that it comes from later is no worker's: it would count as alive, and be kept, for ever."""


class WorkerNote(msgspec.Struct, frozen=True):
    """A worker's main process.

    Attributes:
        at: when it said so, Unix time by the broker's clock.
        started: likewise.
        version: of ocrfleet.
        profile: name of the profile in force.
        temp_bytes: temporary files in its machine's spool.
        readers: recognisers that are there for `--read`.
    """

    at: Amount
    started: Amount
    version: str
    profile: str
    temp_bytes: Count
    readers: tuple[str, ...] = ()


class ImageNote(msgspec.Struct, frozen=True):
    """A worker's last image.

    Attributes:
        at: when its message was done with, Unix time by the broker's clock.
        peak_rss_mb: of the child over that image.
        model: sha256 of the network, "" while none was loaded.
    """

    at: Amount
    peak_rss_mb: Amount
    model: str


def program_version() -> str:
    """The installed version of ocrfleet."""
    try:
        return package_version("ocrfleet")
    except PackageNotFoundError:  # run from a checkout that was never installed
        return "unknown"


def note_worker(client: redis.Redis, name: str, note: WorkerNote) -> None:
    """Say that a worker is there."""
    _write(client, WORKERS_KEY, name, note)


def note_image(client: redis.Redis, name: str, note: ImageNote) -> None:
    """Say that a worker finished with an image."""
    _write(client, IMAGES_KEY, name, note)


def note_way(client: redis.Redis, name: str) -> None:
    """Say that a worker gets on, though with no image: its child is on its way to one in an archive."""
    last = _note(client, IMAGES_KEY, name, ImageNote) or ImageNote(0.0, 0.0, "")
    note_image(client, name, msgspec.structs.replace(last, at=redis_now(client)))


def _write(client: redis.Redis, key: str, name: str, note: msgspec.Struct) -> None:
    pipe = client.pipeline(transaction=False)
    pipe.hset(key, name, msgspec.json.encode(note))
    pipe.expire(key, FORGET_S)
    pipe.execute()


def leave(client: redis.Redis, name: str) -> None:
    """A worker that stops in order takes its notes with it."""
    client.hdel(WORKERS_KEY, name)
    client.hdel(IMAGES_KEY, name)


def forget_gone(client: redis.Redis, now: float | None = None) -> int:
    """Remove notes of workers that vanished long ago, and what is none. Returns how many.

    A worker of another version, whose note this one cannot read, writes it again within `BEAT_S`.
    """
    now = redis_now(client) if now is None else now
    first, last = now - FORGET_S, now + AHEAD_S
    gone = 0
    for key, read in ((WORKERS_KEY, workers), (IMAGES_KEY, images)):
        notes = {name.encode(): note for name, note in read(client).items()}
        for names in chunked(
            name for name in read_hash(client, key) if name not in notes or not first <= notes[name].at <= last
        ):
            gone += client.hdel(key, *names)
    return gone


def workers(client: redis.Redis) -> dict[str, WorkerNote]:
    """host:pid -> its last note, vanished ones too."""
    return _notes(client, WORKERS_KEY, WorkerNote)


def alive(client: redis.Redis, now: float) -> int:
    """How many workers have reported within the last minute, by the broker's clock (``Ledger.now``)."""
    return sum(is_alive(note, now) for note in workers(client).values())


def is_alive(note: WorkerNote, now: float) -> bool:
    """Whether it is of the last minute; one of a time to come is a stranger's."""
    return -AHEAD_S <= now - note.at <= GONE_S


def images(client: redis.Redis) -> dict[str, ImageNote]:
    """host:pid -> its last image."""
    return _notes(client, IMAGES_KEY, ImageNote)


Note = TypeVar("Note", WorkerNote, ImageNote)


def _notes(client: redis.Redis, key: str, kind: type[Note]) -> dict[str, Note]:
    """What can be read: a worker of another version, or a stranger, must not hide all the others."""
    notes: dict[str, Note] = {}
    unreadable = 0
    for name, data in read_hash(client, key).items():
        if len(name) > MOST_NAME or len(data) > MOST_NOTE:  # a hundred of 40 KB took the exporter a GB
            unreadable += 1
            continue
        try:
            notes[name.decode()] = msgspec.json.decode(data, type=kind)
        except UNREADABLE as error:
            unreadable += 1
            if unreadable <= 3:  # a stranger may leave thousands
                logger.warning("%s: the note of %.100r cannot be read (%s)", key, name, error)
    if unreadable > 3:
        logger.warning("%s: %d notes cannot be read", key, unreadable)
    return notes


def _note(client: redis.Redis, key: str, name: str, kind: type[Note]) -> Note | None:
    """One worker's note; None if there is none that can be read."""
    data = client.hget(key, name)
    try:
        return None if data is None else msgspec.json.decode(data, type=kind)
    except UNREADABLE as error:
        logger.warning("%s: the note of %.100r cannot be read (%s)", key, name, error)
        return None


def why_not_alive(
    client: redis.Redis,
    *,
    waiting: int,
    patience_s: float,
    host: str | None = None,
    is_worker: Callable[[int], bool] = is_main,
    signs: Callable[[int], Signs | None] = lambda pid: None,
) -> str | None:
    """One line that says why this machine's workers must be restarted, None if they work.

    Args:
        client: connection to the broker.
        waiting: messages on the queue.
        patience_s: how long a worker may take for one image, all told.
        host: name of the machine; this one by default.
        is_worker: whether a process of this machine is a worker's main process.
        signs: what that told this machine, if anything.
    """
    now, here = redis_now(client), host or socket.gethostname()
    alive = False
    for pid in filter(is_worker, running_processes()):
        name = f"{here}:{pid}"
        # Notes are asked for one by one: one outlives a process that was killed, cheap machines share host names, and
        # among 300,000 notes of a stranger those of workers would not be seen.
        if (told := signs(pid)) is None and (note := _note(client, WORKERS_KEY, name, WorkerNote)):
            image = _note(client, IMAGES_KEY, name, ImageNote)
            told = Signs(now - note.at, now - max(note.started, image.at if image else 0))
        if told is None:
            continue
        alive = True
        if told.silent_s > GONE_S:
            return f"worker {name} has not reported for {told.silent_s:.0f} s"
        if waiting and told.idle_s > patience_s:
            return f"worker {name} finished no image for {told.idle_s:.0f} s while {waiting} wait"
    return None if alive else "no running worker of this machine has reported"
