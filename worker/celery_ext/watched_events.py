"""What is shown of Celery's events: Flower, and `celery events`, take them from whoever may write to Redis.

Flower escapes text, and writes what is no text into its page as it comes: a list with a tag in it, in the place of a
task's arguments, was a script in the browser of whoever looked. It keeps 10,000 tasks, of whatever size: 600 events of
0.6 MB took 2.4 GB.
"""

from __future__ import annotations

import logging
import math
from typing import Any

logger = logging.getLogger(__name__)
MOST_FIELDS, MOST_NAME, MOST_TEXT = 40, 64, 1024
NUMBERS = frozenset(
    ("timestamp", "local_received", "utcoffset", "clock", "pid", "freq", "active", "processed", "retries", "runtime")
)
LARGEST = 2.0**53
_NO_TAGS = str.maketrans("<>", "‹›")


def shown(event: object) -> dict[str, Any] | None:
    """An event as it may be shown: numbers where Celery sends numbers, short text without tags elsewhere.

    Args:
        event: what the JSON says.

    Returns:
        None: it is none of Celery's.
    """
    if not isinstance(event, dict) or len(event) > MOST_FIELDS:
        return None
    if not str(event.get("type", "")).startswith(("task-", "worker-")):
        return None
    made = {}
    for name, value in event.items():
        if not isinstance(name, str) or len(name) > MOST_NAME or not name.isidentifier():
            return None
        if name in NUMBERS and value is not None and not _is_number(value):
            return None
        made[name] = _plain(value)
    return made


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) < LARGEST


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool) or _is_number(value):
        return value
    if isinstance(value, list) and len(value) <= 3 and all(map(_is_number, value)):  # the machine's load
        return value
    text = value if isinstance(value, str) else repr(value)
    return text[:MOST_TEXT].translate(_NO_TAGS)


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
