"""``ocr-worker doctor``."""

from __future__ import annotations

import os
from functools import partial

import click

from detector.cli.say import say, tell, tell_json
from detector.exit_codes import ExitCode
from worker.settings import read_settings

MARKS = {"ok": "ok  ", "warn": "WARN", "bad": "BAD "}


@click.command()
@click.option("--alive", is_flag=True, help="Only: do this machine's workers get images done? For liveness probes.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(alive: bool, as_json: bool) -> ExitCode:
    """Check this machine and its broker: settings, clock, memory, disk, model, versions.

    \b
    Exit codes: 0 fit (warnings are only shown), 1 something is bad, 3 broker unreachable.

    \b
    Examples:
      ocr-worker doctor
      runuser -u ocrfleet -- ocr-worker doctor --alive || systemctl restart 'ocrfleet-worker@*'
    """
    from worker.broker import queue
    from worker.ledger import open_ledger
    from worker.ops.doctor import examine
    from worker.ops.life_signs import signs_of
    from worker.ops.worker_registry import why_not_alive

    current = read_settings(os.environ)
    ledger = open_ledger(current)
    if alive:
        waiting, _ = queue.depth(ledger.client)
        reason = why_not_alive(
            ledger.client,
            waiting=waiting,
            patience_s=2 * current.hard_timeout_s,
            signs=partial(signs_of, spool=current.spool, redis_url=current.redis_url),
        )
        if reason:
            say(reason)
        return ExitCode.FAILED if reason else ExitCode.OK
    findings = examine(ledger, current)
    if as_json:
        tell_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            tell(f"{MARKS[finding.verdict]} {finding.check:17} {finding.message}")
    return ExitCode.FAILED if any(finding.verdict == "bad" for finding in findings) else ExitCode.OK
