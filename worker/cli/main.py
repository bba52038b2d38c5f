"""``ocr-worker``: its commands by name, and what it says when Redis fails."""

from __future__ import annotations

import click

from detector.cli.program import Explained, Program, explain_system
from detector.exit_codes import ExitCode

COMMANDS = {
    "beat": ("worker.cli.beat:beat", "Send the periodic tasks. Exactly one per fleet."),
    "cleanup": ("worker.cli.cleanup:cleanup", "Remove old temporary files, and old jobs' keys in Redis."),
    "deadletters": ("worker.cli.dead_letters:dead_letters", "List images that were given up after too many tries."),
    "doctor": ("worker.cli.doctor:doctor", "Check this machine and its broker."),
    "exporter": ("worker.cli.exporter:exporter", "Serve the fleet's metrics for Prometheus."),
    "flower": ("worker.cli.flower:flower", "Watch the fleet in a browser."),
    "start": ("worker.cli.start:start", "Start one worker."),
}


def explain(error: Exception) -> Explained | None:
    """The line and the exit code for what redis-py and the system raise, and for replies that are none of Redis'."""
    # Imported here: `ocr-worker --help` must not need Redis.
    from redis import RedisError

    from worker.broker import is_no_redis, refusal

    if isinstance(error, RedisError) or is_no_redis(error):
        return refusal(error), ExitCode.BROKER
    return explain_system(error)


@click.group(
    "ocr-worker",
    cls=Program,
    commands=COMMANDS,
    explain=explain,
    prefix="Error: ",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="ocrfleet")
def main() -> None:
    """Workers of an ocrfleet: take images from Redis, write boxes back.

    \b
    Exit codes: 0 good, 1 doctor found something bad, 2 usage or settings, 3 broker unreachable, 70 a bug of ours.
    Settings come from OCRFLEET_* variables; see the README's table.
    """
