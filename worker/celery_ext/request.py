"""One delivered message, seen from Celery's main process: why a child was lost, and what an operator revoked."""

from __future__ import annotations

import signal
import time
from functools import cache

from billiard.einfo import ExceptionInfo
from celery.exceptions import TimeLimitExceeded
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.request import Request
from redis import RedisError

from detector.record import worker_name
from worker.app import UNACKED_INDEX
from worker.broker.clock import redis_now
from worker.broker.connection import impatient
from worker.ledger.dead_letters import ABORTED
from worker.ledger.ledger import Ledger
from worker.ledger.patient import open_ledger
from worker.messages import (
    ImageTask,
    MessageError,
    decode_task,
    encode,
    failed_record,
    page_named_in,
    split_task_id,
)
from worker.oom import OomWitness
from worker.ops import life_signs
from worker.ops.worker_registry import note_way
from worker.settings import settings

logger = get_logger(__name__)
_oom_witness = OomWitness()


@cache
def main_ledger() -> Ledger:
    """The ledger over the main process's own connection."""
    return open_ledger(settings(), impatient(settings().redis_url))


def keep_in_hand() -> None:
    """Say of the pages in hand that they are: one is on its way through an archive, which may take long.

    Else Redis would deliver its message to another worker too, after the visibility timeout, and a liveness probe would
    see no progress.
    """
    life_signs.tell(life_signs.WORKS)
    client = main_ledger().client
    try:
        if tags := [request.message.delivery_tag for request in state.active_requests]:
            client.zadd(UNACKED_INDEX, dict.fromkeys(tags, redis_now(client)), xx=True)
        note_way(client, worker_name())
    except RedisError as error:  # told again before the time is over
        logger.warning("could not say that a page is on its way: %s", error)


def _aborted(lost: BaseException) -> bool:
    """Whether a library gave up for want of memory: at a hard limit (`memory.limit_memory`) C++ ends in abort()."""
    return settings().memory_limit_mb is not None and f"signal {int(signal.SIGABRT)} " in str(lost)


class ImageRequest(Request):
    """One delivered message.

    Celery on Redis does not count deliveries, nor their reasons. So the main process notes in the ledger why a child
    was lost over an image before the message goes back to the queue.

    What ends without an answer of the child is done with, too, and it says so: tries of pictures that take all their
    time, or pages that were revoked, by the thousand, had a liveness probe restart a worker.
    """

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        life_signs.tell(life_signs.WORKS)
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        # By name: billiard and celery each have a WorkerLostError, and both arrive here.
        if type(error).__name__ == "WorkerLostError":
            killed = _oom_witness.killed_since_last_look()
            self._note_loss(ABORTED if _aborted(error) else "OutOfMemory" if killed else "WorkerLost")
        elif isinstance(error, TimeLimitExceeded):
            self._note_loss("TimedOut")
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            life_signs.tell(life_signs.WORKS)
            self._note_loss("TimedOut")
        super().on_timeout(soft, timeout)

    def revoked(self) -> bool:
        """Celery's own, but a page that was sent again after it was revoked (``retry``) is not revoked any more.

        Celery remembers what was revoked for three hours, by the task's id, which a retried page has again.
        """
        if self.id in state.revoked and self._sent_after_revoking():
            state.revoked.discard(self.id)
        return bool(super().revoked())

    def _sent_after_revoking(self) -> bool:
        task = self._task_of()
        entry = state.revoked._data.get(self.id)
        if task is None or entry is None:
            return False
        revoked_s_ago = time.monotonic() - entry[0]
        try:
            ledger = main_ledger()
            sent_ms = ledger.in_flight(task.job).get(task.index)
            return sent_ms is not None and ledger.now() - sent_ms / 1000 < revoked_s_ago
        except RedisError:
            return False

    def _announce_revoked(self, reason: str, terminated: bool, signum: object, expired: bool) -> None:
        """Celery drops a revoked message. The page's job would wait for it for ever: it gets its failed record."""
        life_signs.tell(life_signs.WORKS)
        if not expired and (task := self._task_of()) is not None:
            message = f"{reason} by an operator: `ocr-producer retry {task.job}` does it"
            record = failed_record(task, "Internal", message, worker=worker_name())
            try:
                main_ledger().finish(task.job, task.index, ok=False, record=encode(record), epoch=task.epoch)
            except RedisError as error:  # the reconciler sends it again, and it is dropped and recorded then
                logger.warning("could not record that %s was %s: %s", self.id, reason, error)
        super()._announce_revoked(reason, terminated, signum, expired)

    def _task_of(self) -> ImageTask | None:
        """The page this message is about."""
        try:
            message = self._payload[0][0]
        except Exception:  # whatever the body is: Celery decodes it when it is asked for
            return None
        try:
            return decode_task(message)
        except MessageError:
            return page_named_in(message)

    def _note_loss(self, cause: str) -> None:
        page, task = split_task_id(self.id), self._task_of()
        if page is None:
            return
        try:
            main_ledger().lose(*page, cause, epoch=task.epoch if task else "")
        except RedisError as error:
            # Gone, or full. The lease lapses by itself; only the reason is lost.
            logger.warning("could not note that %s was lost (%s): %s", self.id, cause, error)
