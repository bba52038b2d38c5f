"""Celery's own programs in place of this one."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import click

from worker.process import MALLOC_ENVIRONMENT, celery_command

wait_option = click.option(
    "--wait",
    "wait_s",
    default=0.0,
    envvar="OCRFLEET_WAIT_S",
    metavar="SECONDS",
    help="Wait so long for Redis, which may start after this machine.",
)


def replace_by_celery(*arguments: str) -> NoReturn:
    """Become ``celery -A worker.app ...`` (`worker.celery_main`): signals then reach Celery itself.

    Args:
        arguments: of ``celery``: the name of its program, then options.
    """
    environment = {**MALLOC_ENVIRONMENT, **os.environ}
    sys.stdout.flush()
    os.execve(sys.executable, celery_command(*arguments), environment)
