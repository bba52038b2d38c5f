"""After the last record: job.json, overlays, report.html, and the summary on the screen."""

from __future__ import annotations

import time

from producer.outfolder import JobRequest, OutFolder, write_json
from producer.progress import print_summary
from producer.results import summarise
from producer.running import Ending


def finish(folder: OutFolder, request: JobRequest, ending: Ending, *, quiet: bool) -> None:
    """Write everything a finished job leaves behind, and say what it was."""
    totals = summarise(folder.results)
    write_json(
        folder.job_json,
        {
            "schema": 1,
            "job": request.job,
            "images": ending.total,
            "ok": ending.ok,
            "failed": ending.failed,
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "wall_seconds": round(ending.seconds, 3),
            "images_per_second": round(ending.total / ending.seconds, 3) if ending.seconds else None,
            "settings": {
                "sources": request.sources,
                "profile": request.profile,
                "limit_side": request.limit_side or None,
                "runtime": request.runtime,
                "workers": request.workers,
            },
            **totals.as_json(),
        },
    )
    if request.overlays:
        from producer.overlays import write_overlays

        write_overlays(folder.root)
    if request.report:
        from producer.report import write_report

        write_report(folder.root)
    print_summary(folder.root, totals, seconds=ending.seconds, quiet=quiet)
