"""The base of what a worker, or a program that talks to one, can fail with."""

from __future__ import annotations

from typing import ClassVar

from detector.exit_codes import ExitCode


class WorkerError(Exception):
    """Something a user can put right. ``str(error)`` is one line that names the thing and the remedy.

    Attributes:
        exit_code: what a command ends with that cannot go on because of it.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
