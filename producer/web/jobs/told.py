"""How a job stands, as the API tells it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from producer.job.output_folder import OutputFolder
from producer.job.results_file import counts_of
from producer.job.status import StatusRow
from producer.web.bounds.progress import Progress
from producer.web.jobs.entries import MOST_SHOWN
from producer.web.results import file_name, size_of
from producer.web.store import WebJob, few, first_of

COUNTS = ("total", "ok", "failed", "in_flight", "images_per_second")


def told_of(
    name: str, job: WebJob, folder: OutputFolder, progress: Progress | None, row: StatusRow | None, alive: int
) -> dict[str, Any]:
    """All that is told of one job.

    Args:
        name: of the job.
        job: what is kept of it.
        folder: where its results are.
        progress: what its thread says; None: it has none.
        row: what the broker says; None: nothing.
        alive: workers that have reported lately.
    """
    is_open, state = job.state == "open", job.state
    if is_open and row is None:
        state = "preparing"
    answer: dict[str, Any] = {
        "job": name, "title": job.title[:MOST_SHOWN], "state": state, "reason": job.reason[:MOST_SHOWN],
        "created": job.created, "finished": job.finished or None, "files": job.files, "skipped": few(job.skipped),
        "limit_side": job.limit_side, "total": None, "ok": 0, "failed": 0, "in_flight": 0,
        "images_per_second": 0.0, "eta_seconds": None,
        "workers_alive": alive, "phase": progress.phase if progress and is_open else "",
        "warnings": first_of([*job.warnings, *(progress.warnings if progress else ())]),
        "results_bytes": size_of(folder.results),
        "results_file": file_name(folder.results), "own": True, "webhook": job.webhook,
        "told": job.told[:MOST_SHOWN],
    }  # fmt: skip
    if row is not None:
        counts = asdict(row)
        answer |= {key: counts[key] for key in COUNTS}
        answer["eta_seconds"] = row.eta_seconds if alive and is_open else None
    elif job.state in ("done", "cancelled"):
        answer |= job.counts or counts_of(folder.results)
    if is_open and not alive and state != "preparing":
        answer["phase"] = "waiting for workers: none is alive"
    return answer
