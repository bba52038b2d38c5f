"""``ocr-worker flower``, which refuses to be open to the world."""

from __future__ import annotations

import os
import socket
from importlib.util import find_spec
from pathlib import Path

import click

from detector.memory import limit_memory
from worker.cli.celery_process import replace_by_celery
from worker.settings import read_settings

LOCAL_ADDRESSES = ("127.0.0.1", "::1", "localhost")
SHORTEST_PASSWORD = 8
MEMORY_BYTES = 512 << 20
"""Of Flower, see `limit_memory`: it takes 67 MB, and 146 with 10,000 tasks that it saves; 337 with 10,000 of the
largest that `watched_events` lets through, and what `flower_answers` keeps. With `MARGIN_BYTES` it is below what the
files in deploy/ and docker-compose.yml allow, 640 MB: an allocation fails here before the kernel kills there."""


def check_basic_auth(pairs: str | None, address: str) -> None:
    """Refuse what would leave Flower open: it shows file names and can stop workers.

    Args:
        pairs: ``user:password``, several separated by commas, as Flower wants them.
        address: where it will listen.

    Raises:
        click.UsageError: a public address without a password, or a password that is too short or missing.
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


def check_port(address: str, port: int) -> None:
    """Raises click.UsageError where Flower could not listen: its own end would be a traceback."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Tornado does
            trial.bind(where)
    except OSError as error:
        raise click.UsageError(
            f"cannot listen on {address}:{port}: {error.strerror}; choose another --port or --address"
        ) from None


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5555, show_default=True, help="Port to listen on.")
@click.option("--basic-auth", envvar="FLOWER_BASIC_AUTH", metavar="USER:PASSWORD", help="Required beyond localhost.")
@click.option("--db", type=click.Path(path_type=Path), help="Keep what was seen in this file across restarts.")
def flower(address: str, port: int, basic_auth: str | None, db: Path | None) -> None:
    """Watch the fleet in a browser (needs the `flower` extra).

    \b
    Example:
      FLOWER_BASIC_AUTH=me:long-secret ocr-worker flower --address 0.0.0.0 --db flower.db
    """
    from worker.broker import connect
    from worker.broker.fitness import refuse_old_users

    if find_spec("flower") is None:
        raise click.UsageError("Flower is not installed: pip install 'ocrfleet[flower]'")
    check_basic_auth(basic_auth, address)
    with connect(read_settings(os.environ)) as client:
        refuse_old_users(client)
    check_port(address, port)
    arguments = [
        f"--address={address}",
        f"--port={port}",
        # Flower runs a flowerconfig.py of the current folder as code, whoever put it there.
        f"--conf={os.devnull}",
        # Arguments are the image's name, results "12 boxes 0.04 s 171 MB": what one wants to see at once.
        "--tasks_columns=name,state,args,result,received,runtime,worker",
        "--natural_time=true",
        # Flower keeps tasks in memory: about 2 KB each of ours, 14 of what a stranger makes up (watched_events.py).
        "--max_tasks=10000",
        # A worker that left is shown for an hour.
        "--purge_offline_workers=3600",
    ]
    if db is not None:
        arguments += ["--persistent=true", f"--db={db}", "--state_save_interval=60000"]
    if basic_auth:
        # Through the environment: an argument would show the password to everybody who can run `ps`.
        os.environ["FLOWER_BASIC_AUTH"] = basic_auth
    limit_memory(MEMORY_BYTES)
    replace_by_celery("flower", *arguments)
