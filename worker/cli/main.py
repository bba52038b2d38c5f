"""``ocr-worker``: start a worker, beat, Flower; clean up; check a machine."""

from __future__ import annotations

import os
import time
from typing import Any

import click

from worker.cli import hub as cli_hub
from worker.cli.options import clear_errors, replace_by_celery
from worker.redis_url import redacted
from worker.settings import read_settings


def _export(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            os.environ[f"OCRFLEET_{name.upper()}"] = str(value)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Workers of an ocrfleet: take images from Redis, write boxes back.

    \b
    Exit codes: 0 good, 1 doctor found something bad, 2 usage or settings, 3 broker unreachable.
    Settings come from OCRFLEET_* variables; see the README's table.
    """


@main.command()
@click.option("--profile", type=click.Choice(["auto", "low", "standard", "accurate"]), help="Limits for this machine.")
@click.option("--limit-side", type=click.IntRange(32, 8192), help="Long side the network sees at most, pixels.")
@click.option("--model", help="A model's name, or an .onnx file.")
@click.option("--runtime", type=click.Choice(["auto", "onnxruntime", "openvino", "torch"]), help="Inference engine.")
@click.option("--name", help="Node name; default: w<pid>@<host>, so that several fit on one host.")
@click.option("--loglevel", default="INFO", show_default=True, help="Celery's log level.")
@clear_errors
def start(name: str | None, loglevel: str, **options: Any) -> None:
    """Start one worker: one process, one image in memory at a time.

    \b
    Examples:
      OCRFLEET_REDIS_URL=redis://:secret@10.0.0.1:6379/0 ocr-worker start
      ocr-worker start --profile low --model dbnet-resnet18-slim
    """
    from detector.runtimes import usable_card
    from worker.broker import connect

    _export(**options)
    current = read_settings(os.environ)
    usable_card(current.model, current.runtime)  # no worker is better than one that can do nothing but fail images
    connect(current).close()
    click.echo(f"ocr-worker: {current.profile_reason}; broker {redacted(current.redis_url)}", err=True)
    replace_by_celery("worker", "-n", name or f"w{os.getpid()}@%h", "--loglevel", loglevel)


@main.command()
@click.option("--loglevel", default="INFO", show_default=True, help="Celery's log level.")
@clear_errors
def beat(loglevel: str) -> None:
    """Send the periodic tasks (nightly cleanup, reconciliation). Run exactly one per fleet.

    \b
    Example:
      OCRFLEET_CLEANUP_CRON="17 3 * * *" ocr-worker beat
    """
    from worker.broker import connect

    connect(read_settings(os.environ)).close()
    replace_by_celery("beat", "--loglevel", loglevel)


for command in (cli_hub.flower, cli_hub.exporter, cli_hub.doctor):
    main.add_command(command)


@main.command()
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@click.option("--report", is_flag=True, help="Show each machine's last cleanup instead.")
@clear_errors
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
            click.echo(f"{host}  {when}  {entry['files']} files, {entry['bytes'] / 1e6:.1f} MB{jobs}")
        return
    result = {**clean_spool(current, dry_run=dry_run), **clean_redis(ledger, current, dry_run=dry_run)}
    if not dry_run:
        remember_report(ledger, result)
    line = report_line(result)
    click.echo(line.replace("removed", "would remove") if dry_run else line)


@main.command()
@click.option("--count", default=20, show_default=True, type=click.IntRange(1, 1000), help="The latest this many.")
@click.option("--json", "as_json", is_flag=True, help="Whole records, one a line.")
@clear_errors
def deadletters(count: int, as_json: bool) -> None:
    """List images that took their process with them at every try, newest first.

    \b
    Example:
      ocr-worker deadletters --count 5
    """
    import msgspec

    from worker.broker import connect
    from worker.ledger.dead_letters import dead_letters
    from worker.messages import ImageRecord

    for data in dead_letters(connect(read_settings(os.environ)), count):
        record = msgspec.json.decode(data, type=ImageRecord)
        reason = record.error.message if record.error else ""
        click.echo(data.decode() if as_json else f"{record.job}  {record.image!a} page {record.page}  {reason}")
