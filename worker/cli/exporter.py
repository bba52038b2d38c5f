"""``ocr-worker exporter``."""

from __future__ import annotations

import os
from importlib.util import find_spec

import click

from detector.cli.say import say
from worker.settings import read_settings


@click.command()
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9540, show_default=True, help="Port to listen on.")
def exporter(address: str, port: int) -> None:
    """Serve the fleet's metrics for Prometheus at /metrics (needs the `flower` extra). One per fleet.

    \b
    Example:
      ocr-worker exporter --address 10.0.0.1
    """
    if find_spec("prometheus_client") is None:
        raise click.UsageError("prometheus_client is not installed: pip install 'ocrfleet[flower]'")
    from worker.ledger import open_ledger
    from worker.ops.exporter import serve

    ledger = open_ledger(read_settings(os.environ))
    try:
        _, thread = serve(ledger, address, port)
    except OSError as error:
        raise click.UsageError(f"cannot listen on {address}:{port}: {error.strerror}") from None
    say(f"ocr-worker: metrics at http://{address}:{port}/metrics")
    thread.join()
