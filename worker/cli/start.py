"""``ocr-worker start``."""

from __future__ import annotations

import os

import click

from detector.cli.say import say
from worker.cli.celery_process import replace_by_celery, wait_option
from worker.redis_url import redacted
from worker.settings import PREFIX, read_settings


def export(**options: object) -> None:
    """Hand options on as the settings of the same name; Celery, which replaces this process, reads only those."""
    for name, value in options.items():
        if value is not None:
            os.environ[PREFIX + name.upper()] = str(value)


@click.command()
@click.option("--profile", type=click.Choice(["auto", "low", "standard", "accurate"]), help="Limits for this machine.")
@click.option("--limit-side", type=click.IntRange(32, 8192), help="Long side the network sees at most, pixels.")
@click.option("--model", help="A model's name, or an .onnx file.")
@click.option("--runtime", type=click.Choice(["auto", "onnxruntime", "openvino", "torch"]), help="Inference engine.")
@click.option("--name", help="Node name; default: w<pid>@<host>, so that several fit on one host.")
@click.option("--loglevel", default="INFO", show_default=True, help="Celery's log level.")
@wait_option
def start(name: str | None, loglevel: str, wait_s: float, **options: object) -> None:
    """Start one worker: one process, one image in memory at a time.

    \b
    Examples:
      OCRFLEET_REDIS_URL=redis://:secret@10.0.0.1:6379/0 ocr-worker start
      ocr-worker start --profile low --model dbnet-resnet18-slim
    """
    from detector.runtimes import usable_card
    from worker.broker.connection import connect_within
    from worker.broker.fitness import refuse_old_users, refuse_unfit, who_gets_in, why_exposed
    from worker.storage.spool import refuse_others_spool

    export(**options)
    current = read_settings(os.environ)
    refuse_others_spool(current.spool)
    usable_card(current.model, current.runtime)  # no worker is better than one that can do nothing but fail images
    with connect_within(current, wait_s) as client:
        refuse_unfit(client, writing=False)
        refuse_old_users(client)
        who = who_gets_in(client, current.redis_url) if current.opens_anything else ""
    if who:
        say(f"ocr-worker: {why_exposed(who)}")
    if not (current.opens_anything or current.roots or current.url_roots):
        say("ocr-worker: opens only pages sent through Redis, no files: OCRFLEET_ROOTS is not set")
    said = f"{current.profile_reason}; model {current.model}; broker {redacted(current.redis_url)}"
    say(f"ocr-worker: {said}")
    replace_by_celery("worker", "-n", name or f"w{os.getpid()}@%h", "--loglevel", loglevel)
