"""What waits in Redis: kombu's queue lists and its unacknowledged messages, and how an image is put there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import redis
from celery import Celery
from redis.exceptions import NoPermissionError

from detector.errors import read_json
from worker.app import DETECT_TASK, IMAGE_QUEUE, UNACKED, UNACKED_INDEX
from worker.broker.in_turn import in_turn_producer
from worker.broker.queue_lists import QUEUE_LISTS
from worker.broker.urgent import next_producer
from worker.broker.whole import read_hash, read_queue, read_scores
from worker.messages import ImageTask, split_task_id

MOST_WAITING, LOOKED_AT_ONCE = 1 << 14, 256
"""Of a queue's messages: looked at in all, where windows have a few hundred, and in one reply."""

MOST_ID = 128  # ours are a job's name of 64 characters and a number
MOST_SHOWN = 800  # characters of a page's name; Flower has room for 1,000 (watched_events.py)


def send(app: Celery, task: ImageTask, *, urgent: bool = False, in_turn: bool = False) -> None:
    """Put one page on the queue; an urgent one is taken next. Its arguments are what Flower shows."""
    send_as_it_is(app, task, msgspec.to_builtins(task), urgent=urgent, in_turn=in_turn)


def send_as_it_is(
    app: Celery, task: ImageTask, message: object, *, urgent: bool = False, in_turn: bool = False
) -> None:
    """Put a page on the queue whose message may be of another version; a worker of that version understands it.

    Args:
        app: sends it.
        task: what this version knows of the page.
        message: what is sent.
        urgent: before what waits.
        in_turn: pages of other jobs wait too, or may: they and this job's alternate.
    """
    producer = None
    if urgent or in_turn:
        producer = (next_producer if urgent else in_turn_producer)(app, app.conf.broker_url)
    app.send_task(
        DETECT_TASK,
        args=[message],
        task_id=task.task_id,
        queue=IMAGE_QUEUE,
        argsrepr=f"{task.image!a:.{MOST_SHOWN}} page {task.page} of job {task.job}",
        kwargsrepr="",
        ignore_result=True,
        # A worker's own limits would travel with what it sends, and a worker with shorter ones refuses those.
        time_limit=None,
        soft_time_limit=None,
        producer=producer,
    )


def depth(client: redis.Redis) -> tuple[int, int]:
    """Messages waiting, and messages handed to workers but not acknowledged (of all queues).

    A message in hand is in the hash and in its index: what is in one of them is nobody's (unacked.py).
    """
    pipe = client.pipeline(transaction=False)
    for name in QUEUE_LISTS:
        pipe.llen(name)
    pipe.hlen(UNACKED).zcard(UNACKED_INDEX)
    *waiting, messages, indexed = pipe.execute(raise_on_error=False)
    if isinstance(indexed, NoPermissionError):  # users of the version before may not ask
        indexed = messages
    for reply in (*waiting, messages, indexed):
        if isinstance(reply, Exception):
            raise reply
    return sum(waiting), min(messages, indexed)


def queued_ids(client: redis.Redis) -> set[str]:
    """Task ids of all waiting messages. Bounded by the feed window, and by `MOST_WAITING`."""
    return {identifier for name in QUEUE_LISTS for raw in _waiting(client, name) if (identifier := _id_of(_read(raw)))}


def _some(client: redis.Redis, name: str, start: int) -> list[bytes]:
    return read_queue(client, name, start, start + LOOKED_AT_ONCE - 1)


def _waiting(client: redis.Redis, name: str) -> Iterator[bytes]:
    """The messages of a list. kombu takes from its end and adds at its beginning: none is missed meanwhile."""
    for start in range(0, MOST_WAITING, LOOKED_AT_ONCE):
        messages = _some(client, name, start)
        yield from messages
        if len(messages) < LOOKED_AT_ONCE:
            return


def unacked_ids(client: redis.Redis) -> dict[str, float]:
    """Task ids of messages some worker holds -> since when (Unix time)."""
    messages, since = read_hash(client, UNACKED), read_scores(client, UNACKED_INDEX)
    held = {}
    for tag, raw in messages.items():
        if identifier := id_in_hand(raw):
            held[identifier] = float(since.get(tag, 0))
    return held


HOLDER = "holder"
"""Of a message that a worker holds: its main process (worker/process_identity.py). Who takes it next writes its own.

Versions before neither write nor read it, and hand it on as they do everything else in a message."""


class InHand(NamedTuple):
    """A message that some worker took and has not acknowledged.

    Attributes:
        tag: its delivery tag, its name in ``unacked``.
        identifier: of its task.
        holder: the main process that took it, "" where it did not say.
    """

    tag: str
    identifier: str
    holder: str


def held_by(message: Mapping[str, Any], holder: str) -> dict[str, Any]:
    """The message as it is written to ``unacked``."""
    return {**message, HOLDER: holder}


def in_hand(client: redis.Redis) -> list[InHand]:
    """What workers hold, of those that say who they are."""
    return [
        InHand(tag.decode(errors="replace"), identifier, holder)
        for tag, raw in read_hash(client, UNACKED).items()
        if (identifier := id_in_hand(raw)) and (holder := _holder_of(raw))
    ]


def take_away(client: redis.Redis, tag: str | bytes) -> bool:
    """Remove a message from what workers hold. True for one caller only: it may send the page again."""
    taken = bool(client.hdel(UNACKED, tag))
    client.zrem(UNACKED_INDEX, tag)
    return taken


def purge(client: redis.Redis) -> None:
    """Empty a private broker's queue after a crash, when no worker is running: the ledger knows what to send again."""
    client.delete(*QUEUE_LISTS, UNACKED, UNACKED_INDEX)


def drop_job(client: redis.Redis, job: str) -> int:
    """Take a cancelled job's waiting messages off the queue. Returns how many."""
    dropped = 0
    for name in QUEUE_LISTS:
        start = 0
        while start < MOST_WAITING and (messages := _some(client, name, start)):
            start += len(messages)
            for raw in messages:
                if _id_of(_read(raw)).rpartition(":")[0] == job:
                    removed = client.lrem(name, 1, raw)
                    dropped += removed
                    start -= removed  # what follows moved up
    return dropped


def drop_in_hand(client: redis.Redis, job: str) -> int:
    """Take a forgotten job's messages from the list of what workers hold: nobody is to deliver them again.

    Returns how many.
    """
    tags = [tag for tag, raw in read_hash(client, UNACKED).items() if id_in_hand(raw).rpartition(":")[0] == job]
    for tag in tags:
        client.zrem(UNACKED_INDEX, tag)
        client.hdel(UNACKED, tag)
    return len(tags)


def drop_left_by_old_versions(client: redis.Redis, older_than_s: float) -> int:
    """Remove our messages from kombu's global ``unacked``, where versions before kept them. Returns how many.

    Their pages were sent again by the reconciler long ago. Another app's messages are none of our business: one that
    gives its tasks ids such as ``invoice:17`` may hold them there for days.
    """
    now = client.time()[0]
    old = client.zrangebyscore("unacked_index", 0, now - older_than_s)
    tags = [tag for tag in old if _is_a_page(client.hget("unacked", tag) or b"null")]
    for tag in tags:
        client.zrem("unacked_index", tag)
        client.hdel("unacked", tag)
    return len(tags)


def _is_a_page(raw: bytes) -> bool:
    """Whether a message in ``unacked`` is one of ours."""
    return bool(split_task_id(id_in_hand(raw))) and _read(raw)[0]["headers"].get("task") == DETECT_TASK


def _read(raw: bytes) -> Any:
    """The JSON of a message; None for what is none: whoever finds it when its turn comes refuses it (channel.py)."""
    try:
        return read_json(raw)
    except ValueError:
        return None


def id_in_hand(raw: bytes) -> str:
    """The task id of a message in ``unacked``, "" for what is none."""
    entry = _read(raw)
    return _id_of(entry[0]) if isinstance(entry, list) and entry else ""


def _holder_of(raw: bytes) -> str:
    message = _read(raw)[0]  # it has an id
    holder = message.get(HOLDER, "")
    return holder if isinstance(holder, str) and holder.isascii() and len(holder) <= MOST_ID else ""


def _id_of(message: Any) -> str:
    """The task id in a message's headers, "" for what is not a Celery message."""
    try:
        identifier = str(message["headers"].get("id") or "")
    except (TypeError, KeyError, AttributeError):
        return ""
    return identifier if len(identifier) <= MOST_ID else ""
