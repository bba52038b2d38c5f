"""``ocr-worker`` for whoever looks after a fleet: flower, exporter, doctor."""

from __future__ import annotations

import os
from pathlib import Path

import click

from worker.cli.options import EXIT_BAD, BrokerError, clear_errors, replace_by_celery
from worker.settings import read_settings

LOCAL_ADDRESSES = ("127.0.0.1", "::1", "localhost")
SHORTEST_PASSWORD = 8
MARKS = {"ok": "ok  ", "warn": "WARN", "bad": "BAD "}


def check_basic_auth(pairs: str | None, address: str) -> None:
    """Refuse what would leave Flower open: it shows file names and can stop workers.

    Args:
        pairs: ``user:password``, several separated by commas, as Flower wants them.
        address: where it will listen.

    Raises:
        click.UsageError: a public address without a password, or a password that is none.
    """
    if not pairs:
        if address not in LOCAL_ADDRESSES:
            raise click.UsageError(
                f"refusing to listen on {address or 'every address'} without a password: "
                "set FLOWER_BASIC_AUTH=user:password"
            )
        return
    for pair in pairs.split(","):
        user, colon, password = pair.partition(":")
        if not user or not colon:
            raise click.UsageError("FLOWER_BASIC_AUTH must look like user:password")
        if len(password) < SHORTEST_PASSWORD and address not in LOCAL_ADDRESSES:
            raise click.UsageError(
                f"refusing to listen on {address} with a password of less than {SHORTEST_PASSWORD} characters"
            )


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5555, show_default=True, help="Port to listen on.")
@click.option("--basic-auth", envvar="FLOWER_BASIC_AUTH", metavar="USER:PASSWORD", help="Required beyond localhost.")
@click.option("--db", type=click.Path(path_type=Path), help="Keep what was seen in this file across restarts.")
@clear_errors
def flower(address: str, port: int, basic_auth: str | None, db: Path | None) -> None:
    """Watch the fleet in a browser (needs the `flower` extra).

    \b
    Example:
      FLOWER_BASIC_AUTH=me:long-secret ocr-worker flower --address 0.0.0.0 --db flower.db
    """
    from importlib.util import find_spec

    from worker.broker import connect

    if find_spec("flower") is None:
        raise click.UsageError("Flower is not installed: pip install 'ocrfleet[flower]'")
    check_basic_auth(basic_auth, address)
    connect(read_settings(os.environ)).close()
    arguments = [
        f"--address={address}",
        f"--port={port}",
        # Arguments are the image's name, results "12 boxes 0.04 s 171 MB": what one wants to see at once.
        "--tasks_columns=name,state,args,result,received,runtime,worker",
        "--natural_time=true",
        # Flower keeps tasks in memory, about 2 KB each.
        "--max_tasks=10000",
        # A worker that left is shown for an hour.
        "--purge_offline_workers=3600",
    ]
    if db is not None:
        arguments += ["--persistent=true", f"--db={db}", "--state_save_interval=60000"]
    if basic_auth:
        # Through the environment: an argument would show the password to everybody who can run `ps`.
        os.environ["FLOWER_BASIC_AUTH"] = basic_auth
    replace_by_celery("flower", *arguments)


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9540, show_default=True, help="Port to listen on.")
@clear_errors
def exporter(address: str, port: int) -> None:
    """Serve the fleet's metrics for Prometheus at /metrics (needs the `flower` extra). One per fleet.

    \b
    Example:
      ocr-worker exporter --address 10.0.0.1
    """
    from importlib.util import find_spec

    if find_spec("prometheus_client") is None:
        raise click.UsageError("prometheus_client is not installed: pip install 'ocrfleet[flower]'")
    from worker.ledger import open_ledger
    from worker.ops.exporter import serve

    try:
        _, thread = serve(open_ledger(read_settings(os.environ)), address, port)
    except OSError as error:
        raise click.UsageError(f"cannot listen on {address}:{port}: {error.strerror}") from None
    click.echo(f"ocr-worker: metrics at http://{address}:{port}/metrics", err=True)
    thread.join()


@click.command()
@click.option("--alive", is_flag=True, help="Only: do this machine's workers get images done? For liveness probes.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@clear_errors
def doctor(alive: bool, as_json: bool) -> None:
    """Check this machine and its broker: settings, clock, memory, disk, model, versions.

    \b
    Exit codes: 0 fit (warnings are only shown), 1 something is bad, 3 broker unreachable.
    Examples:
      ocr-worker doctor
      ocr-worker doctor --alive || systemctl restart 'ocrfleet-worker@*'
    """
    import json

    import redis

    from worker.broker import queue
    from worker.ledger import open_ledger
    from worker.ops.doctor import examine
    from worker.ops.worker_registry import why_not_alive

    current = read_settings(os.environ)
    ledger = open_ledger(current)
    try:
        if alive:
            waiting, _ = queue.depth(ledger.client)
            reason = why_not_alive(ledger.client, waiting=waiting, patience_s=2 * current.hard_timeout_s)
            if reason:
                raise click.ClickException(reason)
            return
        findings = examine(ledger, current)
    except redis.RedisError as error:
        raise BrokerError(f"the broker stopped answering: {error}") from None
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in findings]))
    else:
        for finding in findings:
            click.echo(f"{MARKS[finding.verdict]} {finding.check:17} {finding.message}")
    raise SystemExit(EXIT_BAD if any(finding.verdict == "bad" for finding in findings) else 0)
