"""``ocr-worker cleanup``."""

from __future__ import annotations

import os
import time

import click

from detector.cli.say import tell
from worker.settings import read_settings


@click.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--report", is_flag=True, help="Show each machine's last cleanup instead.")
def cleanup(dry_run: bool, report: bool) -> None:
    """Remove old temporary files of this machine, and old jobs' keys in Redis. Safe at any time, and twice.

    \b
    Examples:
      ocr-worker cleanup --dry-run
      ocr-worker cleanup --report
    """
    from worker.ledger import open_ledger
    from worker.ops.cleanup import clean_redis, clean_spool, last_reports, remember_report, report_line

    current = read_settings(os.environ)
    ledger = open_ledger(current)
    if report:
        for host, entry in sorted(last_reports(ledger.client).items()):
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry["at"]))
            jobs = f", {entry['jobs']} jobs, {entry['keys']} keys" if "jobs" in entry else ""
            tell(f"{host}  {when}  {entry['files']} files, {entry['bytes'] / 1e6:.1f} MB{jobs}")
        return
    result = {**clean_spool(current, dry_run=dry_run), **clean_redis(ledger, current, dry_run=dry_run)}
    if not dry_run:
        remember_report(ledger, result)
    line = report_line(result)
    tell(line.replace("removed", "would remove") if dry_run else line)
