"""How a job stands, as ``ocr-producer status`` says it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.ledger.ledger import JobStatus
from worker.ops.diagnosis import Situation, diagnosis, moves


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A job's status; the fields are those of ``status --json``.

    Attributes:
        job: its name.
        state: ``open``, ``cancelled`` or ``finished``.
        total: pages of the job.
        ok: pages with a record that is fine.
        failed: pages with a failed record.
        in_flight: pages queued or running.
        uncollected: records that wait in Redis.
        images_per_second: over the job's whole life.
        eta_seconds: until all is done at that rate; None if unknown, or if nothing was done for a minute.
        last_progress_at: Unix time of the last record, seconds; None before the first one.
        why: what keeps the job from moving, with the remedy; empty if nothing does.
    """

    job: str
    state: str
    total: int
    ok: int
    failed: int
    in_flight: int
    uncollected: int
    images_per_second: float
    eta_seconds: float | None
    last_progress_at: float | None
    why: str = ""

    @classmethod
    def of(cls, status: JobStatus, around: Situation | None = None) -> StatusRow:
        """The row of what the ledger says.

        Args:
            status: of the job.
            around: what is known about workers and broker; None leaves ``why`` empty.
        """
        until = status.finished_s or status.now_s
        rate = status.done / max(0.001, until - status.created_s)
        left = status.total - status.done
        # A rate over the whole life says nothing about a job that stands still.
        eta = (
            round(left / rate, 1)
            if left and rate and moves(status) and (around is None or around.workers)
            else (0 if not left else None)
        )
        return cls(
            job=status.job,
            state="finished" if status.finished else status.state,
            total=status.total,
            ok=status.ok,
            failed=status.failed,
            in_flight=status.in_flight,
            uncollected=status.uncollected,
            images_per_second=round(rate, 3),
            eta_seconds=eta,
            last_progress_at=status.progress_s or None,
            why=diagnosis(status, around) if around else "",
        )

    def __str__(self) -> str:
        """One line for people."""
        left = f", {self.eta_seconds:.0f} s to go" if self.eta_seconds else ""
        return (
            f"{self.job}: {self.state}, {self.ok + self.failed}/{self.total} done, {self.failed} failed, "
            f"{self.in_flight} in flight, {self.uncollected} to collect, {self.images_per_second:.1f} images/s{left}"
            + (f"; {self.why}" if self.why else "")
        )
