"""After the last record: job.json, overlays, report.html, and the summary on the screen."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from producer.job.output_folder import JobRequest, OutputFolder, write_json
from producer.local.ending import Ending
from producer.output.terminal import print_summary
from producer.output.totals import summarise
from producer.sources.passed_over import in_words


def _pace(folder: OutputFolder, ending: Ending) -> dict[str, Any]:
    """How fast the last run was that did something: the time belongs to ``images_this_run``, not to all images."""
    names = ("images_this_run", "wall_seconds", "images_per_second")
    if not ending.fresh and folder.job_json.is_file():
        before = msgspec.json.decode(folder.job_json.read_bytes(), type=dict[str, Any])
        return {name: before.get(name) for name in names}
    rate = round(ending.fresh / ending.seconds, 3) if ending.seconds else None
    return dict(zip(names, (ending.fresh, round(ending.seconds, 3), rate), strict=True))


def finish(folder: OutputFolder, request: JobRequest, ending: Ending, *, quiet: bool) -> None:
    """Write everything a finished job leaves behind, and say what it was."""
    totals = summarise(folder.results)
    passed_over = folder.passed_over()
    write_json(
        folder.job_json,
        {
            "schema": 1,
            "job": request.job,
            "images": ending.total,
            "ok": ending.ok,
            "failed": ending.failed,
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **_pace(folder, ending),
            "settings": {
                "sources": request.sources,
                "profile": request.profile,
                "limit_side": request.limit_side or None,
                "model": request.model or None,
                "runtime": request.runtime,
                "workers": request.workers,
            },
            **totals.as_json(),
            "passed_over": passed_over,
        },
    )
    if request.overlays:
        from producer.output.overlays import write_overlays

        write_overlays(folder.root)
    if request.report:
        from producer.output.report import write_report

        write_report(folder.root)
    said = in_words(passed_over)
    print_summary(folder.root, totals, fresh=ending.fresh, seconds=ending.seconds, quiet=quiet, passed_over=said)
