"""``ocr-worker``: start a worker, beat, Flower; clean up; check a machine."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn

import click

from worker.settings import SettingsError, read_settings, redacted

EXIT_USAGE, EXIT_BROKER = 2, 3
# Set before glibc starts, hence by exec: two arenas keep a process of many short-lived threads small.
MALLOC_ENVIRONMENT = {"MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"}


class BrokerError(click.ClickException):
    exit_code = EXIT_BROKER


class BadSettings(click.ClickException):
    exit_code = EXIT_USAGE


def clear_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """One line and the right exit code instead of a traceback for what a user can put right."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        # Inside: `ocr-worker --help` must not need Redis.
        from worker.broker import BrokerUnreachable

        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            raise BadSettings(str(error)) from None
        except BrokerUnreachable as error:
            raise BrokerError(str(error)) from None

    return wrapped


def _replace_by_celery(*arguments: str) -> NoReturn:
    environment = {**MALLOC_ENVIRONMENT, **os.environ}
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-m", "celery", "-A", "worker.app", *arguments], environment)


def _export(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            os.environ[f"OCRFLEET_{name.upper()}"] = str(value)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Workers of an ocrfleet: take images from Redis, write boxes back.

    \b
    Exit codes: 0 good, 2 usage or settings, 3 broker unreachable.
    Settings come from OCRFLEET_* variables; see the README's table.
    """


@main.command()
@click.option("--profile", type=click.Choice(["auto", "low", "standard", "accurate"]), help="Limits for this machine.")
@click.option("--limit-side", type=click.IntRange(32, 8192), help="Long side the network sees at most, pixels.")
@click.option("--runtime", type=click.Choice(["auto", "onnxruntime", "openvino", "torch"]), help="Inference engine.")
@click.option("--name", help="Node name; default: w<pid>@<host>, so that several fit on one host.")
@click.option("--loglevel", default="INFO", show_default=True, help="Celery's log level.")
@clear_errors
def start(profile: str | None, limit_side: int | None, runtime: str | None, name: str | None, loglevel: str) -> None:
    """Start one worker: one process, one image in memory at a time.

    \b
    Examples:
      OCRFLEET_REDIS_URL=redis://:secret@10.0.0.1:6379/0 ocr-worker start
      ocr-worker start --profile low
    """
    from worker.broker import connect

    _export(profile=profile, limit_side=limit_side, runtime=runtime)
    current = read_settings(os.environ)
    connect(current).close()
    click.echo(f"ocr-worker: {current.profile_reason}; broker {redacted(current.redis_url)}", err=True)
    _replace_by_celery("worker", "-n", name or f"w{os.getpid()}@%h", "--loglevel", loglevel)


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
    _replace_by_celery("beat", "--loglevel", loglevel)


@main.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5555, show_default=True, help="Port to listen on.")
@click.option("--basic-auth", envvar="FLOWER_BASIC_AUTH", metavar="USER:PASSWORD", help="Required beyond localhost.")
@clear_errors
def flower(address: str, port: int, basic_auth: str | None) -> None:
    """Watch the fleet in a browser (needs the `flower` extra).

    \b
    Example:
      FLOWER_BASIC_AUTH=me:secret ocr-worker flower --address 0.0.0.0
    """
    from importlib.util import find_spec

    from worker.broker import connect

    if find_spec("flower") is None:
        raise click.UsageError("Flower is not installed: pip install 'ocrfleet[flower]'")
    if address not in ("127.0.0.1", "::1", "localhost") and not basic_auth:
        raise click.UsageError(
            f"refusing to listen on {address} without a password: set FLOWER_BASIC_AUTH=user:password"
        )
    current = read_settings(os.environ)
    connect(current).close()
    arguments = ["flower", f"--address={address}", f"--port={port}"]
    if basic_auth:
        # Through the environment: an argument would show the password to everybody who can run `ps`.
        os.environ["FLOWER_BASIC_AUTH"] = basic_auth
    _replace_by_celery(*arguments)


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
    from worker.broker import open_ledger
    from worker.cleanup import clean_redis, clean_spool, last_reports, remember_report, report_line

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


if __name__ == "__main__":
    main()
