"""How the commands that train end: exit codes, and one line for what is no bug of ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from detector.cli.say import say
from detector.errors import DetectorError


def run_resumable(work: Callable[[], None], run: Path) -> int:
    """Does the work; returns the exit code.

    Args:
        work: goes on where it stopped.
        run: where its state is kept.
    """
    try:
        work()
    except KeyboardInterrupt:
        say(f"interrupted; the same command goes on (kept in {run})")
        return 130
    except (DetectorError, OSError) as error:
        say(str(error))
        return 2
    return 0
