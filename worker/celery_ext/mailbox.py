"""Celery's remote control, whose lists in Redis have names of ours (kombu's end with the name of a channel)."""

from __future__ import annotations

from typing import Any

from celery.app.control import Control
from kombu import Queue
from kombu.pidbox import Mailbox

from worker.app import MAILBOXES, REPLY_LISTS, FleetClock


class FleetMailbox(Mailbox):
    """Where commands are heard, and answers waited for; with a clock of its own, which Celery does not give it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"clock": FleetClock(), **kwargs})

    def get_queue(self, hostname: str) -> Queue:
        """A worker's. Redis has no such list: what goes to all goes by PUBLISH."""
        queue = super().get_queue(hostname)
        queue.name = f"{MAILBOXES}{hostname}"
        return queue

    def get_reply_queue(self) -> Queue:
        """Of whoever asks; workers find it by its routing key (sending.py)."""
        queue = super().get_reply_queue()
        queue.name = f"{REPLY_LISTS}{queue.routing_key}"
        return queue


class FleetControl(Control):
    """`app.control`, for `celery inspect`, Flower and workers."""

    Mailbox = FleetMailbox
