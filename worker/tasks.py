"""What Celery calls. Thin: the work is in detection.py, the truth in ledger.py."""

from __future__ import annotations

import logging
import os
import signal
import time
from functools import cache
from typing import Any

import redis
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Task
from celery.exceptions import Reject
from celery.signals import setup_logging, worker_init, worker_process_init
from kombu.exceptions import OperationalError

from detector.errors import ModelError, is_out_of_processes
from detector.memory import collect_as_usual, raise_oom_score
from detector.record import worker_name
from detector.runtimes import usable_card
from worker import process
from worker.admission import no_semaphores, shared_memory, unfit_broker, unusable_pool
from worker.app import CLEANUP_TASK, DETECT_TASK, RECONCILE_TASK, app
from worker.broker import takes_no_writes
from worker.celery_ext.prefork import clear_spool
from worker.detection import ImageRunner
from worker.lease import LeaseKeeper
from worker.ledger import Ledger, open_ledger
from worker.ledger.dead_letters import MACHINE_FAULT, dead_record, is_hopeless, record_dead_letter, steps_down
from worker.ledger.reconcile import reconcile_all_once
from worker.log_format import configure_logging
from worker.messages import (
    ImageRecord,
    ImageTask,
    MessageError,
    decode_task,
    encode_record,
    failed_record,
    page_named_in,
)
from worker.ops import life_signs
from worker.ops.cleanup import clean_redis_once, clean_spool, remember_report, report_line
from worker.ops.heartbeat import image_done
from worker.process_identity import identity
from worker.settings import settings
from worker.storage.spool import CutOff, MachineFault, is_being_installed, out_of_processes

logger = logging.getLogger(__name__)
# A worker whose disk is full fails a page in milliseconds: without a pause it would fail those of the whole fleet.
FAULT_PAUSE_S = 5.0
LEFT = "left to another machine: "
LATER = "left for later: "
NO_WRITES = "the broker does not answer, or takes no writes"


@setup_logging.connect
def _configure_logging(loglevel: int | None = None, **_: Any) -> None:
    """Plain lines on stderr, few of each; Celery's per-task INFO lines stay out.

    One rule for all loggers: before, four were named, and a task that nobody knows, wrong arguments, an expired message
    or an unknown command of remote control was a line or a traceback each, by the thousand.
    """
    level = loglevel or logging.INFO
    configure_logging(level, few=True)
    logging.getLogger("celery.worker.strategy").setLevel(max(level, logging.WARNING))
    logging.getLogger("celery.app.trace").setLevel(max(level, logging.WARNING))


@worker_init.connect
def _prepare_main_process(sender: Any = None, **_: Any) -> None:
    if reason := unusable_pool(getattr(sender, "pool_cls", None)):
        raise SystemExit(f"ocr-worker: {reason}")
    if reason := no_semaphores(getattr(sender, "pool_cls", None)):
        raise SystemExit(f"ocr-worker: {reason}")
    if several := shared_memory(getattr(sender, "concurrency", 1), getattr(sender, "autoscale", None)):
        logger.warning(several)
    if reason := unfit_broker():
        raise SystemExit(f"ocr-worker: {reason}")
    try:
        usable_card(settings().model, settings().runtime)
    except ModelError as error:
        # `ocr-worker start` has looked; plain `celery worker` has not, and would fail every image of every job.
        raise SystemExit(f"OCRFLEET_MODEL: {error}") from None
    clear_spool()  # a worker before this one may have been killed
    process.configure_malloc()
    process.lower_priority(settings().nice)
    logger.info("profile %s", settings().profile_reason)
    _load_before_fork()
    # What is there now stays, and so do 36 objects of garbage. The garbage collector need not look at it, now (30 ms)
    # or again: neither before each fork, where Celery calls it (45 ms), nor in the children, whose pages would stop
    # being shared when it writes into them.
    collect_as_usual()


def _load_before_fork() -> None:
    """Load the network in the main process, so that every recycled child begins with it, in shared memory.

    Only at one thread: a session with a thread pool does not survive a fork. Without this each new child costs about
    a second of imports and loading.
    """
    try:
        if _runner().loads_before_fork():
            _runner().detector()
    except ModelError as error:
        raise SystemExit(f"OCRFLEET_MODEL: {error}") from None
    except Exception:
        logger.warning("could not load the network before the fork", exc_info=True)


_holder = ""


@worker_process_init.connect
def _prepare_child(**_: Any) -> None:
    global _holder
    _holder = identity(os.getppid())  # Celery's main process: its successor gives the page back if it is killed
    process.configure_malloc()
    raise_oom_score()  # Celery's main process shares most of its memory, so both look the same size to the kernel
    # A child whose Celery main process was killed must not go on using memory that its successor needs.
    process.set_parent_death_signal(signal.SIGKILL)


@cache
def _ledger() -> Ledger:
    """This child's connection; made after the fork, since sockets must not be shared."""
    ledger = open_ledger(settings(), patient=True)
    ledger.holder = _holder
    return ledger


@cache
def _leases() -> LeaseKeeper:
    return LeaseKeeper(_ledger())


@cache
def _runner() -> ImageRunner:
    return ImageRunner(settings())


def _line(record: ImageRecord) -> str:
    """What Flower shows as the result."""
    if record.error is not None:
        return f"failed: {record.error.type}: {record.error.message}"
    count = len(record.boxes)
    return f"{count} box{'es' if count != 1 else ''} {record.seconds.total:.2f} s {record.peak_rss_mb:.0f} MB"


def _run(task: ImageTask, attempts: int, losses: tuple[str, ...]) -> ImageRecord:
    try:
        # Running a page smaller helps against too little memory or time, not against a full disk.
        return _runner().run(task, attempts=attempts, losses=steps_down(losses))
    except MemoryError:
        cause = "OutOfMemory"
    except SoftTimeLimitExceeded:
        cause = "TimedOut"
    except MachineFault:
        raise
    except ImportError as error:
        raise is_being_installed(error) from error
    except Exception as error:
        if is_out_of_processes(error):
            raise out_of_processes() from error
        # A fault of ours, not of the image: the record names it, the log has the traceback, the job goes on.
        logger.exception("%s page %d of job %s", task.image, task.page, task.job)
        message = f"{type(error).__name__}: {error}"
        return failed_record(task, "Internal", message, attempts=attempts, worker=worker_name())
    # MemoryError must not reach Celery's main process (it would take it down). Back to the queue; the ledger counts.
    _ledger().lose(task.job, task.index, cause, epoch=task.epoch)
    raise Reject(cause, requeue=True)


def _leave_to_another(task: ImageTask, error: MachineFault) -> str:
    """Give up a page that this machine, not the page, is to blame for. Returns one line for Flower.

    Its message is not put back, or this worker would get it again at once: the reconciler sends it within half a
    minute. The ledger counts the tries all the same, since a page may be too large for every spool.
    """
    reason = f"{error.filename}: {error.strerror}"
    logger.error("%s page %d of job %s left to another machine: %s", task.image, task.page, task.job, reason)
    _ledger().lose(task.job, task.index, MACHINE_FAULT, epoch=task.epoch)
    time.sleep(FAULT_PAUSE_S)
    # A server that breaks off each transfer is no reason for a probe to restart all workers that ask it; nor is a
    # recogniser by whatever name, which comes with the message.
    return f"{LATER if isinstance(error.__cause__, CutOff | ModelError) else LEFT}{reason}"


def _refuse(message: Any, error: MessageError) -> str:
    """A message this version does not understand, of a version to come or of a stranger. Returns one line for Flower.

    If it names a page, that counts as a try: another worker may be newer. When every try was refused the page gets a
    failed record, or its job would wait for it for ever.
    """
    logger.error("refused a message: %s", error)
    task = page_named_in(message)
    if task is None:
        return f"refused: {error}"
    begin = _ledger().begin(task.job, task.index, redelivered=False, epoch=task.epoch)
    if begin.verdict == "exhausted":
        reason = f"no worker understands it ({error}), {begin.attempts} tried: update them, then `retry`"
        record = failed_record(task, "Internal", reason, attempts=begin.attempts, worker=worker_name())
        record_dead_letter(_ledger(), record, epoch=task.epoch)
    elif begin.verdict == "run":
        _ledger().lose(task.job, task.index, MACHINE_FAULT, epoch=task.epoch)
    return f"refused: {error}"


@app.task(name=DETECT_TASK, bind=True, Request="worker.celery_ext.request:ImageRequest")
def detect_image(self: Task, message: Any) -> str:
    """Run one page and write its record. Returns one line for Flower.

    Whatever a message came to, this worker did it, and says so: one that did 430 a second of pages without a try left
    was restarted by its probe. Not where its machine is to blame, so that the probe sees that. Where no line comes to
    be, Celery's main process says it (celery_ext/request.py).

    Args:
        self: the Celery task; its request says whether the message was delivered before.
        message: an :class:`ImageTask` as JSON object.
    """
    line = _answer(message, bool((self.request.delivery_info or {}).get("redelivered")))
    if not line.startswith(LEFT):
        life_signs.tell(life_signs.WORKS, main=os.getppid())
    return line


def _answer(message: Any, redelivered: bool) -> str:
    try:
        task = decode_task(message)
    except MessageError as error:
        return _refuse(message, error)
    try:
        return _detect(task, redelivered)
    except redis.ResponseError as error:
        if not takes_no_writes(error):
            raise
    except SoftTimeLimitExceeded:
        pass  # while the ledger waited; where the page itself takes too long, _run has caught it
    # The reconciler sends the page again when the broker takes writes.
    logger.error("%s page %d of job %s left for later: %s", task.image, task.page, task.job, NO_WRITES)
    return f"{LATER}{NO_WRITES}"


def _detect(task: ImageTask, redelivered: bool) -> str:
    ledger = _ledger()
    begin = ledger.begin(task.job, task.index, redelivered=redelivered, epoch=task.epoch)
    hopeless = begin.verdict == "run" and is_hopeless(begin.losses)
    if begin.verdict == "exhausted" or hopeless:
        tries = begin.attempts - hopeless  # of which `begin` has counted this one
        record = dead_record(task, tries, begin.losses, worker_name())
        record_dead_letter(ledger, record, epoch=task.epoch)
        return _line(record)
    if begin.verdict != "run":
        image_done(ledger.client, None)
        return f"dropped: {begin.verdict}"
    try:
        with _leases().hold(task.job, task.index, task.epoch):
            record, data = encode_record(_run(task, begin.attempts, begin.losses))
            taken = ledger.finish(task.job, task.index, ok=record.status == "ok", record=data, epoch=task.epoch)
    except MachineFault as error:
        return _leave_to_another(task, error)
    image_done(ledger.client, record.model)
    return _line(record) if taken else "dropped: already recorded"


@app.task(name=CLEANUP_TASK)
def cleanup() -> str:
    """Remove this machine's old temporary files, and (one worker of the fleet) dead keys. Returns the report line."""
    report = {**clean_spool(settings()), **clean_redis_once(_ledger(), settings())}
    remember_report(_ledger(), report)
    line = report_line(report)
    logger.info("cleanup: %s", line)
    return line


@app.task(name=RECONCILE_TASK)
def reconcile() -> str:
    """Send pages again whose worker or message was lost (one worker of the fleet)."""
    try:
        resent = reconcile_all_once(app, _ledger())
    except (redis.ResponseError, OperationalError) as error:
        if not takes_no_writes(error):
            raise
        return NO_WRITES
    return "another worker is doing it" if resent is None else f"sent {resent} again"
