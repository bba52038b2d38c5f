"""After the last record: job.json, overlays, report.html, and the summary on the screen."""

from __future__ import annotations

import time
from typing import Any

from detector.cli.say import say
from producer.job.output_folder import JobRequest, OutputFolder, write_json
from producer.output.ending import PACE, Ending, read_job
from producer.output.terminal import print_summary
from producer.output.totals import SummedUp, Totals, summarise
from producer.sources.passed_over import in_words


def _pace(folder: OutputFolder, ending: Ending) -> dict[str, Any]:
    """How fast the last run was that did something: the time belongs to ``images_this_run``, not to all images."""
    if not ending.fresh and folder.job_json.is_file():
        before = read_job(folder.job_json)
        return {name: before.get(name) for name in PACE}
    rate = round(ending.fresh / ending.seconds, 3) if ending.seconds else None
    return dict(zip(PACE, (ending.fresh, round(ending.seconds, 3), rate), strict=True))


def _settings(request: JobRequest, *, fleet: bool) -> dict[str, Any]:
    own: dict[str, Any] = {"transfer": request.transfer} if fleet else {"workers": request.workers}
    return {
        "sources": request.sources,
        "profile": None if fleet else request.profile,  # a fleet's machines choose for themselves
        "limit_side": request.limit_side or None,
        "model": request.model or None,
        "runtime": None if fleet else request.runtime,
        **own,
        **{name: getattr(request.options, name) for name in request.options.__struct_fields__},
    }


def write_job_json(
    folder: OutputFolder,
    request: JobRequest,
    ending: Ending,
    *,
    state: str = "finished",
    fleet: bool = False,
    before: SummedUp | None = None,
) -> Totals:
    """Write job.json. Returns what the results amount to.

    Args:
        folder: with results.jsonl.
        request: the job.
        ending: how it stands.
        state: ``finished``, ``cancelled`` or ``open``.
        fleet: whether its workers were others than those of `run`.
        before: see `summarise`.
    """
    totals = summarise(folder.results, before)
    write_json(
        folder.job_json,
        {
            "schema": 1,
            "job": request.job,
            "images": ending.total,
            "ok": ending.ok,
            "failed": ending.failed,
            "state": state,
            "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            **_pace(folder, ending),
            "settings": _settings(request, fleet=fleet),
            **totals.as_json(),
            "passed_over": folder.passed_over(),
        },
    )
    return totals


def finish(
    folder: OutputFolder,
    request: JobRequest,
    ending: Ending,
    *,
    quiet: bool,
    state: str = "finished",
    fleet: bool = False,
    originals: str = "",
    before: SummedUp | None = None,
) -> None:
    """Write everything a finished job leaves behind, and say what it was.

    Args:
        folder: with results.jsonl and, for pictures, manifest.jsonl.
        request: the job; its ``overlays`` and ``report`` say what is wanted.
        ending: how it ended.
        quiet: one line.
        state: ``finished`` or ``cancelled``.
        fleet: see `write_job_json`.
        originals: why the images cannot be had here; empty if they may.
        before: see `summarise`.
    """
    totals = write_job_json(folder, request, ending, state=state, fleet=fleet, before=before)
    if request.overlays and originals:
        say(f"no overlays: {originals}")
    elif request.overlays:
        from producer.output.overlays import write_overlays

        drawn = write_overlays(folder.place)
        if drawn.not_drawn:
            say(f"overlays: {drawn.not_drawn} pages could not be opened from here and drawn")
    if request.report:
        from producer.output.report import write_report

        write_report(folder.place)
    said = in_words(folder.passed_over())
    print_summary(folder.root, totals, fresh=ending.fresh, seconds=ending.seconds, quiet=quiet, passed_over=said)
