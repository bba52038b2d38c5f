"""Why a job does not move, in one line with the remedy: for status, watch, collect and doctor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.ledger.ledger import JobStatus, Ledger
from worker.ops import worker_registry

# A job moves if anything was done lately; a producer is at work if it fed, or only looked, this lately.
MOVED_S = 60.0
FED_S = 30.0


@dataclass(frozen=True, slots=True)
class Situation:
    """What is known about a job's surroundings.

    Attributes:
        workers: that report at the moment.
        broker: INFO of the broker.
    """

    workers: int
    broker: Mapping[str, Any]


def look_around(ledger: Ledger) -> Situation:
    """Ask the broker. Three commands."""
    now = ledger.now()
    notes = worker_registry.workers(ledger.client).values()
    return Situation(sum(worker_registry.is_alive(note, now) for note in notes), ledger.client.info())


def moves(status: JobStatus) -> bool:
    """Whether anything of the job was done in the last minute."""
    return status.now_s - status.progress_s <= MOVED_S


def diagnosis(status: JobStatus, around: Situation) -> str:
    """One line; empty if the job is finished, or nothing is wrong.

    Args:
        status: of the job.
        around: its surroundings.
    """
    if status.finished:
        return ""
    if status.state == "cancelled":
        return f"cancelled: `ocr-producer resume {status.job}` goes on with it"
    return _broker_takes_nothing(around.broker) or _nobody_feeds(status) or _nobody_works(status, around.workers)


def _broker_takes_nothing(info: Mapping[str, Any]) -> str:
    if info.get("role") == "slave" and info.get("slave_read_only", 1):
        return "the broker is a read-only replica: point OCRFLEET_REDIS_URL at its primary"
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used >= most:
        return "the broker's memory is full: `ocr-producer collect` or `forget` a job, or raise its maxmemory"
    if info.get("aof_last_write_status", "ok") != "ok":
        return "the broker cannot write to its disk: make room there"
    return ""


def _nobody_feeds(status: JobStatus) -> str:
    if not status.unfed or status.now_s - status.fed_s <= FED_S or status.now_s - status.created_s <= FED_S:
        return ""
    machine = status.extra.get("host") or "the machine it was enqueued on"
    elsewhere = ", or elsewhere if that machine is lost" if status.extra.get("list") else ""
    return f"{status.unfed} pages were never fed: `ocr-producer resume {status.job}` on {machine}{elsewhere}"


def _nobody_works(status: JobStatus, workers: int) -> str:
    if not status.in_flight:
        return ""
    if not workers:
        return "no worker reports: start some with `ocr-worker start`"
    if moves(status) or status.now_s - status.created_s <= MOVED_S:
        return ""
    since = status.now_s - max(status.progress_s, status.created_s)
    return f"nothing was done for {since:.0f} s, though {workers} workers report: see their logs, `ocr-worker doctor`"
