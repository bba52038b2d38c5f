"""``ocr-worker beat``."""

from __future__ import annotations

import os

import click

from worker.cli.celery_process import replace_by_celery, wait_option
from worker.settings import read_settings


@click.command()
@click.option("--loglevel", default="INFO", show_default=True, help="Celery's log level.")
@wait_option
def beat(loglevel: str, wait_s: float) -> None:
    """Send the periodic tasks (nightly cleanup, reconciliation). Run exactly one per fleet.

    \b
    Example:
      OCRFLEET_CLEANUP_CRON="17 3 * * *" ocr-worker beat
    """
    from worker.broker.connection import connect_within

    connect_within(read_settings(os.environ), wait_s).close()
    replace_by_celery("beat", "--loglevel", loglevel)
