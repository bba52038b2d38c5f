"""What ends a command: errors and their exit codes."""

from __future__ import annotations

import click

EXIT_FAILED_IMAGES, EXIT_USAGE, EXIT_BROKER, EXIT_NOTHING, EXIT_INTERRUPTED = 1, 2, 3, 4, 130


EXIT_CODES = (
    "Exit codes: 0 all good; 1 finished, some images failed (listed); 2 usage; 3 broker unreachable, or its memory or "
    "disk full; 4 nothing to do or input missing; 130 interrupted, or the disk is full (says how to go on)."
)


class Stop(click.ClickException):
    """Ends a command with one line and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # click declares it on the class, and reads it from the instance
