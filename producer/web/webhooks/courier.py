"""Delivers webhooks, and tries again until they are heard."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from producer.web.webhooks.delivery import TIMEOUT_S, NotDelivered, deliver
from producer.web.webhooks.settings import WebhookSettings

logger = logging.getLogger("ocrfleet.web")
AGAIN_AFTER_S = (5.0, 30.0, 120.0, 600.0, 3600.0, 3 * 3600.0, 6 * 3600.0)
"""After each failed try; after the last one it is given up: ten hours."""


class Letter(NamedTuple):
    """What is told of one end of a job, which may have several: it is tried again.

    Attributes:
        url: who is told.
        delivery: its id, the same at each try and another for each end.
        body: JSON.
    """

    url: str
    delivery: str
    body: bytes


def delivery_of(name: str, finished: float) -> str:
    """The id of what is told of a job that ended then (Unix time)."""
    return f"msg_{hashlib.sha256(f'{name} {finished}'.encode()).hexdigest()[:32]}"


@dataclass
class _Due:
    at: float
    tries: int = 0


class Courier:
    """A thread that delivers, one after the other. What is due is kept by who calls: see ``body_of``."""

    def __init__(
        self,
        settings: WebhookSettings,
        letter_of: Callable[[str], Letter | None],
        told: Callable[[str, str, str], None],
        *,
        again_after_s: Sequence[float] = AGAIN_AFTER_S,
    ) -> None:
        """Start nothing yet.

        Args:
            settings: who may be told.
            letter_of: what a job's end is to be told with; None if there is nothing to tell (any more).
            told: called with a job's name, the letter's delivery (empty: there was none) and ``sent``, or why it was
                given up.
            again_after_s: pauses between tries, seconds.
        """
        self._settings = settings
        self._letter_of = letter_of
        self._told = told
        self._again_after_s = again_after_s
        self._due: dict[str, _Due] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def add(self, name: str) -> None:
        """A job has ended: tell it now, and again until it is heard."""
        with self._changed:
            self._due[name] = _Due(time.monotonic())
            if self._thread is None and not self._stopping:
                self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
                self._thread.start()
            self._changed.notify()

    def stop(self) -> None:
        """End the thread, at the latest when its try is over."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(TIMEOUT_S + 1)

    def _next(self) -> str | None:
        """The next job whose time has come; None when the service ends."""
        with self._changed:
            while not self._stopping:
                name = min(self._due, key=lambda one: self._due[one].at, default=None)
                wait = None if name is None else self._due[name].at - time.monotonic()
                if name is not None and wait is not None and wait <= 0:
                    return name
                self._changed.wait(wait)
        return None

    def _run(self) -> None:
        while (name := self._next()) is not None:
            due, letter = self._due[name], None
            try:
                if (letter := self._letter_of(name)) is not None:
                    deliver(self._settings, *letter, time.time())
                    self._told(name, letter.delivery, "sent")
            except Exception as error:  # whatever it is: the thread must go on for the others
                if not isinstance(error, NotDelivered | OSError | UnicodeError):
                    logger.exception("%s: a bug in ocrfleet", name)
                if self._is_tried_again(name, letter.delivery if letter else "", due, error):
                    continue
            with self._changed:
                if self._due.get(name) is due:  # else the job was tried again meanwhile, and has ended again
                    del self._due[name]

    def _is_tried_again(self, name: str, delivery: str, due: _Due, error: Exception) -> bool:
        due.tries += 1
        if not getattr(error, "for_good", False) and due.tries <= len(self._again_after_s):
            wait = self._again_after_s[due.tries - 1]
            due.at = time.monotonic() + wait
            logger.warning("%s: webhook: %s; again in %.0f s", name, error, wait)
            return True
        logger.error("%s: webhook given up: %s", name, error)
        with suppress(OSError):
            self._told(name, delivery, f"given up: {error}")
        return False
