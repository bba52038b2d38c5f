"""``ocr-producer``: its commands, and what their errors mean."""

from __future__ import annotations

import click

from detector.cli.program import Program
from producer.cli.explain import explain

COMMANDS = {
    "run": ("producer.cli.run:run", "Detect text in PATH... on this machine, with workers of its own."),
    "enqueue": ("producer.cli.enqueue:enqueue", "Scan PATH... and feed it to the workers of OCRFLEET_REDIS_URL."),
    "watch": ("producer.cli.jobs:watch", "Show JOB's progress until it is done."),
    "watch-folder": ("producer.cli.watch_folder:watch_folder", "Detect text in what comes into DIR, each file once."),
    "collect": ("producer.cli.collect:collect", "Write JOB's results to OUT/results.jsonl."),
    "resume": ("producer.cli.resume:resume", "Go on with an interrupted job: an OUT folder, or a JOB."),
    "retry": ("producer.cli.resume:retry", "Do the failed images of OUT or JOB again."),
    "status": ("producer.cli.jobs:status", "Counts, rate and time to go of JOB, or of all jobs."),
    "jobs": ("producer.cli.jobs:jobs", "All jobs this broker knows, oldest first."),
    "cancel": ("producer.cli.jobs:cancel", "Stop JOB: what waits is dropped, what is done stays."),
    "forget": ("producer.cli.jobs:forget", "Remove all of JOB's keys from Redis."),
    "serve": ("producer.cli.serve:serve", "Serve a web page and an HTTP API, for this machine or a fleet."),
    "export": ("producer.cli.export:export", "Convert OUT/results.jsonl to another program's format."),
    "report": ("producer.cli.export:report", "Write OUT/report.html from OUT/results.jsonl."),
}


@click.group(
    cls=Program,
    name="ocr-producer",
    commands=COMMANDS,
    explain=explain,
    prefix="Error: ",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 all good; 1 finished, some images failed (listed); 2 usage; 3 broker unreachable, or its "
    "memory or disk full; 4 nothing to do or input missing; 70 a bug of ocrfleet; 130 interrupted, or the disk is full "
    "(says how to go on).",
)
@click.version_option(package_name="ocrfleet")
def main() -> None:
    """Find the text in a pile of images, through a queue that never loses one.

    \b
    On this machine alone:      ocr-producer run scans/ -o out
    With workers elsewhere:     ocr-producer enqueue scans/ --job NAME --watch
    """
