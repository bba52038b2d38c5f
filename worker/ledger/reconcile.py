"""Finds pages that nobody will ever run: a lapsed lease, or a message lost between two steps. Sends them again.

What can strand a page, and what finds it:

- its worker died or lost its network while running it: the lease lapses. Where it starts again on
  the same machine it gives the pages of its predecessor back at once (:func:`hand_back`);
- the producer died between marking it queued and sending the message, or the message was lost between kombu's pop
  and its entry in ``unacked``: it is queued in the ledger, and neither waiting nor unacknowledged in Redis;
- a worker died between taking the message and beginning: unacknowledged for longer than a lease, no lease. At once
  (:func:`hand_back`) where it starts again on the same machine, or where only its connection was lost.

A wrong guess only costs a second run, since the ledger records the first finisher alone.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager

import msgspec
import redis
from celery import Celery

from detector.errors import first_line
from detector.record import UNREADABLE
from worker.broker import locks, queue
from worker.broker.damaged_keys import is_damage
from worker.broker.unacked import AHEAD_S, settle
from worker.ledger.job_names import job_names
from worker.ledger.ledger import Ledger
from worker.messages import MOST_DEPTH, is_nested, is_typed, page_named_in, split_task_id, task_id
from worker.process_identity import identity, is_gone
from worker.redis_keys import JOBS_KEY, JobKeys

logger = logging.getLogger(__name__)
LOCK_KEY = "ocrfleet:lock:reconcile"
# One pass of the fleet per this many seconds is enough; every worker tries every 10 s (celery_ext/self_care.py).
LOCK_S = 8
# A page that was sent this recently may still be between two steps; no longer than a lease.
GRACE_S = 10
# At the start of a process or of its connection: something was lost, most likely.
SOON_GRACE_S, SOON_LOCK_S = 2.0, 2.0
# Between looking at the queue and at the unacknowledged messages: longer than kombu's pop-to-unacked gap, also over a
# slow line, so that a message on its way is seen in one of the two places.
GAP_S = 1.0
# So long one look may keep a main process from its messages.
LOOK_S = 3.0


def suspects(ledger: Ledger, job: str, grace_s: float | None = None) -> tuple[list[int], list[int]]:
    """Pages whose lease lapsed, and pages that are in no queue though nobody holds a lease on them.

    The latter may be between two steps: :func:`held_by_nobody` tells, ``GAP_S`` later.

    Args:
        ledger: of this broker.
        job: its name.
        grace_s: what was sent this recently is not looked at; ``GRACE_S`` by default.
    """
    lapsed = ledger.lapsed(job)
    leased = ledger.leased(job)
    now_ms = ledger.now() * 1000
    old_ms = now_ms - min(GRACE_S if grace_s is None else grace_s, ledger.lease_s) * 1000
    # What was sent in a time to come was not.
    candidates = [
        index
        for index, sent in ledger.in_flight(job).items()
        if not old_ms <= sent <= now_ms + AHEAD_S * 1000 and index not in leased
    ]
    waiting = queue.queued_ids(ledger.client) if candidates else set()
    return lapsed, [index for index in candidates if task_id(job, index) not in waiting]


def held_by_nobody(ledger: Ledger, job: str, indices: list[int]) -> list[int]:
    """Of these pages those whose message no worker took lately: taken, but not begun, for a lease is lost too."""
    held = queue.unacked_ids(ledger.client)
    fresh = ledger.now() - ledger.lease_s
    return [index for index in indices if held.get(task_id(job, index), 0) < fresh]


def stranded(ledger: Ledger, job: str) -> list[int]:
    """Pages of a job that nobody will run unless they are sent again.

    Sleeps ``GAP_S`` if, and only if, there are candidates that must be looked for in the queue.
    """
    lapsed, missing = suspects(ledger, job)
    if missing:
        time.sleep(GAP_S)
        lapsed += held_by_nobody(ledger, job, missing)
    return sorted(set(lapsed))


def reconcile(app: Celery, ledger: Ledger, job: str) -> int:
    """Send a job's stranded pages again. Returns how many."""
    return send_again(app, ledger, job, stranded(ledger, job))


def hand_back(app: Celery, ledger: Ledger, mine: Container[str] = ()) -> int:
    """Send again what dead main processes of this machine held, without waiting for their leases. Returns how many.

    A worker that was killed is started again by its supervisor within seconds; its page need not wait for 30. Nor need
    one that this process took and, its connection lost, forgot before its child began.

    Args:
        app: sends them.
        ledger: of the same broker.
        mine: the delivery tags of the messages that this process does have.
    """
    sent, until = 0, time.monotonic() + LOOK_S
    # The messages first: they go, and a page whose holder is dead is claimed only once.
    me = identity()
    for message in queue.in_hand(ledger.client):
        page = split_task_id(message.identifier)
        forgotten = message.holder == me and message.tag not in mine
        if page is None or time.monotonic() > until or not (forgotten or is_gone(message.holder)):
            continue
        # Left where it is, it would be delivered again after its visibility timeout, and as one that was handed out
        # before it would take the page from whoever runs it then.
        if queue.take_away(ledger.client, message.tag):
            job, index = page
            with despite_damage(job):
                if not (forgotten and index in ledger.leased(job)):  # Celery forgot it, the child did begin
                    sent += send_again(app, ledger, job, [index], dead="" if forgotten else message.holder, until=until)
    for job in open_jobs(ledger):
        with despite_damage(job):
            for index, holder in ledger.holders(job).items():
                if is_gone(holder):
                    sent += send_again(app, ledger, job, [index], dead=holder, until=until)
    return sent


def send_again(
    app: Celery, ledger: Ledger, job: str, indices: list[int], *, dead: str = "", until: float = math.inf
) -> int:
    """Send these pages again, unless they woke up. Returns how many.

    Args:
        app: sends them.
        ledger: of the same broker.
        job: their job.
        indices: the pages.
        dead: who held them, if that process is known to be gone.
        until: when to stop (``time.monotonic``); the others' turn comes in the next look. 65,536 made-up pages were as
            many round trips, for which a worker's main process took no message.
    """
    sent = 0
    for index in indices:
        if time.monotonic() > until:
            break
        # The claim is atomic and looks again: two reconcilers do not both send, and a page that woke up is left alone.
        if (data := ledger.reclaim(job, index, dead=dead)) is None:
            continue
        # As it is: its producer may be of a version to come, and so may be a worker. One that does not understand it
        # counts the try (tasks.py), so it is not sent for ever.
        message = _json(data)
        task = page_named_in(message)
        if task is None or (task.job, task.index) != (job, index) or _is_refused(message):
            logger.error("page %d of job %s cannot be sent again: its task is damaged, and dropped", index, job)
            ledger.unfeed(job, [index])  # else each look met it, for ever; its producer feeds it again
            continue
        queue.send_as_it_is(app, task, message)
        sent += 1
    return sent


def _is_refused(message: object) -> bool:
    """Whether workers would refuse it without counting the try: it would be sent for ever.

    It lies two lists deep in its message; and what msgspec could just read of lists in lists kombu could not write,
    which ended each look, each start of a worker, and `enqueue --update`.
    """
    return is_nested(message, MOST_DEPTH - 2) or is_typed(message)


def _json(data: bytes) -> object:
    try:
        message: object = msgspec.json.decode(data)
    except UNREADABLE:
        return None
    return message


def open_jobs(ledger: Ledger) -> Iterator[str]:
    """Jobs that have pages to be done, in any order, for as long as a look may take.

    Whoever may write to Redis can make up 50,000 jobs in a second, which kept each worker's main process from its
    messages for half a minute at each look, and 1,500 of them for minutes over a line of 20 ms. Those that this look
    does not come to have their chance in the next.
    """
    until = time.monotonic() + LOOK_S
    names = job_names(ledger.client)
    random.shuffle(names)
    for job in names:
        if time.monotonic() > until:
            return
        status = ledger.status(job)
        if status is None and not ledger.client.exists(JobKeys.of(job).job):
            # Of 50,000 names that somebody wrote into the index each look drops some: they would hide real jobs.
            ledger.client.zrem(JOBS_KEY, job)
        if status is not None and status.state == "open" and not status.finished:
            yield job


def take_turn(ledger: Ledger, *, soon: bool = False) -> bool:
    """Whether it is this caller's turn to look for stranded pages: one of the fleet every ``LOCK_S``.

    Args:
        ledger: of this broker.
        soon: at a start, which is no turn of the others'; one of all that start within ``SOON_LOCK_S``.
    """
    key, most = (f"{LOCK_KEY}:soon", SOON_LOCK_S) if soon else (LOCK_KEY, min(LOCK_S, 0.8 * every_s(ledger.lease_s)))
    return locks.take(ledger.client, key, "1", most)


def every_s(lease_s: float) -> float:
    """Seconds between two looks of a process: 10, or a third of a lease."""
    return min(10.0, lease_s / 3)


def reconcile_all_once(app: Celery, ledger: Ledger) -> int | None:
    """Reconcile every open job, on one worker of the fleet. None when another one is at it."""
    if not take_turn(ledger):
        return None
    settle(ledger.client)
    sent = 0
    for job in open_jobs(ledger):
        with despite_damage(job):
            sent += reconcile(app, ledger, job)
    return sent


@contextmanager
def despite_damage(job: str) -> Iterator[None]:
    """One job whose fields are not the ledger's is told of, and keeps no other from being looked after."""
    try:
        yield
    except redis.ResponseError as error:
        if not is_damage(error):
            raise
        logger.error("job %s is damaged (%s); `ocr-producer forget` it", ascii(job), first_line(error))
