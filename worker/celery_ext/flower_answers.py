"""How much Flower takes of answers to its own questions: whoever may write to Redis answers too, for whom he likes.

Flower keeps the last answer of every name that ever answered, and kombu those to no question of its own. With 100
answers of 20 KB a question, of made-up names, it took 49 MB more each time somebody looked, and 530 after nine.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from worker.log_format import FewOfEach
from worker.ops.few_workers import FORGET_S, MOST_WORKERS

logger = logging.getLogger(__name__)
logger.addFilter(FewOfEach())

MOST_TEXT, MOST_ANSWER = 256 << 10, 1 << 20
"""Bytes of an answer as JSON, and in memory. Ours: 3 and 15 KB of `stats`; 0.9 MB of 10,000 pages that were revoked."""
MOST_TOGETHER, MOST_KEPT = 16 << 20, 32 << 20
"""Bytes in memory of the answers to one question (500 of `stats`: 8 MB), three of which are asked at a time, and of all
that are kept."""
MOST_NAME = 256
LONGEST = 10
"""Times the timeout that a question takes: each answer began it anew."""


class Kept(NamedTuple):
    """What is kept of one worker: bytes in memory of its last answer to each question, and when the last one came."""

    sizes: dict[str, int]
    at: float


def held_bytes(value: object, most: int) -> int:
    """What a value from JSON takes in memory, bytes; where that is more than ``most``, some number above it."""
    total, waiting = 0, [value]
    while waiting and total <= most:
        one = waiting.pop()
        total += sys.getsizeof(one)
        if isinstance(one, dict):
            waiting += (*one, *one.values())
        elif isinstance(one, list):
            waiting += one
    return total


def answer_in(message: Any, most: int) -> tuple[dict[str, Any] | None, int]:
    """The answer in a message, a worker's name and what it says; None if it is none, or larger than a worker's.

    Args:
        message: kombu's, not decoded yet.
        most: bytes that it may take in memory.

    Returns:
        The answer, and the bytes it takes.
    """
    try:
        body = message.decode() if len(message.body) <= MOST_TEXT else None
    except Exception:  # whatever kombu raises of a stranger's words
        return None, 0
    shaped = isinstance(body, dict) and len(body) == 1 and all(len(name) <= MOST_NAME for name in body)
    size = held_bytes(body, most) if shaped else 0
    return (body, size) if shaped and size <= most else (None, 0)


def collect(
    mailbox: Any,
    ticket: str,
    limit: int | None = None,
    timeout: float = 1.0,
    callback: Callable[[Any], None] | None = None,
    channel: Any = None,
    accept: Any = None,
) -> list[dict[str, Any]]:
    """In place of kombu's `Mailbox._collect`: answers to this question alone, bounded in bytes, number and time."""
    from kombu import Consumer

    chan = channel or mailbox.connection.default_channel
    queue, answers, room = mailbox.reply_queue, list[dict[str, Any]](), MOST_TOGETHER

    def take(message: Any) -> None:
        nonlocal room
        headers = message.headers if isinstance(message.headers, dict) else {}
        if headers.get("ticket") != ticket:
            return  # too late, or a stranger's: kombu kept it
        mailbox.clock.adjust(headers.get("clock"))
        answer, size = answer_in(message, min(MOST_ANSWER, room))
        if answer is None:
            logger.warning("an answer that is no worker's, or too long, was dropped")
            return
        room -= size
        answers.append(answer)
        if callback:
            callback(answer)

    until = time.monotonic() + LONGEST * timeout
    accepted = mailbox.accept if accept is None else accept
    consumer = Consumer(chan, [queue], on_message=take, accept=accepted, no_ack=True)
    try:
        with consumer:
            while len(answers) < (limit or MOST_WORKERS) and time.monotonic() < until:
                try:
                    mailbox.connection.drain_events(timeout=timeout)
                except TimeoutError:
                    break
        return answers
    finally:
        chan.after_reply_message_received(queue.name)


class FewAnswers:
    """What is kept of which workers: the bytes are bounded, and who was silent longest makes room.

    Flower asks in threads, but hands each answer to its loop (`add_callback`): one at a time, so there is no lock.
    """

    def __init__(self, most: int = MOST_KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._kept: dict[str, Kept] = {}  # who answered longest ago first
        self._together = 0

    def take(self, name: str, question: str, size: int) -> list[str]:
        """Notes an answer of so many bytes in memory. Returns the workers to forget for it, never ``name``."""
        sizes = self._kept.pop(name, Kept({}, 0)).sizes
        self._together += size - sizes.get(question, 0)
        self._kept[name] = Kept({**sizes, question: size}, self._clock())
        forgotten = []
        for other, (held, at) in list(self._kept.items()):
            full = self._together > self._most or len(self._kept) > MOST_WORKERS
            if other == name or not (full or self._clock() - at > FORGET_S):
                break
            del self._kept[other]
            self._together -= sum(held.values())
            forgotten.append(other)
        return forgotten


def bound_answers(few: FewAnswers | None = None) -> None:
    """From now on Flower, in this process, takes and keeps no more of answers than that."""
    from flower.inspector import Inspector
    from kombu.pidbox import Mailbox

    kept = few or FewAnswers()
    keep = Inspector._on_update

    def on_update(self: Any, workername: str, method: str, response: Any) -> None:
        try:
            keep(self, workername, method, response)
        except (AttributeError, TypeError):  # Flower looks into `stats`
            logger.warning("an answer that is no worker's, or too long, was dropped")
            return
        for other in kept.take(workername, method, held_bytes(response, MOST_ANSWER)):
            self.workers.pop(other, None)

    Inspector._on_update = on_update
    Mailbox._collect = collect  # type: ignore[method-assign]
