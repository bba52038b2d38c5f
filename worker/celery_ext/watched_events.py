"""What is shown of Celery's events: Flower, and `celery events`, take them from whoever may write to Redis.

Flower escapes text, and writes what is no text into its page as it comes: a list with a tag in it, in the place of a
task's arguments, was a script in the browser of whoever looked. It keeps 10,000 tasks, of whatever size: 600 events of
0.6 MB took 2.4 GB. And it keeps a count for each worker, type and name of a task that it ever heard of: with made-up
ones it grew by 3 MB a second (flower_workers.py bounds the workers).
"""

from __future__ import annotations

import logging
import math
import sys
from functools import cache
from typing import Any

from worker.log_format import FewOfEach

logger = logging.getLogger(__name__)
for _name in (__name__, "kombu.transport.redis"):
    logging.getLogger(_name).addFilter(FewOfEach())

TYPES = frozenset(
    (
        *(f"task-{what}" for what in ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked")),
        *("task-retried", "task-cancelled", "worker-online", "worker-heartbeat", "worker-offline"),
    )
)
NUMBERS = frozenset(
    ("timestamp", "local_received", "utcoffset", "clock", "pid", "freq", "active", "processed", "retries", "runtime")
)
TEXTS = {
    **dict.fromkeys(("type", "hostname", "name"), 256),
    **dict.fromkeys(("uuid", "root_id", "parent_id"), 128),
    **dict.fromkeys(("sw_ident", "sw_ver", "sw_sys", "eta", "expires", "signum", "terminated", "expired"), 64),
    **dict.fromkeys(("requeue", "loadavg"), 64),
    **dict.fromkeys(("args", "traceback"), 1024),
    "result": 512,
    "exception": 256,
    "kwargs": 64,  # ours have none; Flower makes an index of them
}
"""How many bytes of memory each may take, as text: of a Latin text a character each, of a Chinese one two, of one with
emoji four. Other fields are left out: Celery sends none but where a client announces what it sends, as ours do not."""

MOST_FIELDS = 40
LARGEST = 2.0**53
_NO_TAGS = str.maketrans("<>", "‹›")


def shown(event: object) -> dict[str, Any] | None:
    """An event as it may be shown: numbers where Celery sends numbers, short text without tags elsewhere.

    Args:
        event: what the JSON says.

    Returns:
        At most 6 KiB; None: it is none of ours.
    """
    if not isinstance(event, dict) or len(event) > MOST_FIELDS:
        return None
    kind, name = event.get("type"), event.get("name")
    if not isinstance(kind, str) or kind not in TYPES:
        return None
    if name is not None and (not isinstance(name, str) or name not in _our_tasks()):
        return None
    made: dict[str, Any] = {}
    for field, value in event.items():
        if field in NUMBERS and value is not None:
            if not _is_number(value):
                return None
            made[field] = value
        elif field in TEXTS:
            made[field] = _plain(value, TEXTS[field])
    needed = ("hostname", "timestamp", "clock") + (("uuid",) if kind.startswith("task-") else ())
    return made if all(made.get(field) is not None for field in needed) else None


@cache
def _our_tasks() -> frozenset[str]:
    from worker.app import (
        CLEANUP_TASK,
        DETECT_TASK,
        RECONCILE_TASK,
    )  # not before Flower: app.py looks whether it is there

    return frozenset((CLEANUP_TASK, DETECT_TASK, RECONCILE_TASK))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < LARGEST


def _plain(value: object, most: int) -> object:
    if value is None or isinstance(value, bool) or _is_number(value):
        return value
    if isinstance(value, list) and len(value) <= 3 and all(map(_is_number, value)):  # the machine's load
        return value
    return _cut(value if isinstance(value, str) else repr(value), most).translate(_NO_TAGS)


def _cut(text: str, most: int) -> str:
    """Its beginning, of so many bytes in memory."""
    text = text[:most]
    width = max(1, (sys.getsizeof(text) - sys.getsizeof("")) // max(1, len(text)))
    return text[: most // width]


def check_events() -> None:
    """From now on this process takes no other events. Flower takes Celery's receiver by its name, before our app is."""
    from celery.events.receiver import EventReceiver

    def receive(self: EventReceiver, body: object, message: object) -> None:
        for event in body if isinstance(body, list) else [body]:
            if (plain := shown(event)) is not None:
                self.process(*self.event_from_message(plain))
            else:
                logger.warning("an event that is none of Celery's was dropped")

    EventReceiver._receive = receive
