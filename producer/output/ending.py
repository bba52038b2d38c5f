"""How one run of a job ended, and what job.json says of an earlier one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from detector.exit_codes import ExitCode
from detector.record import UNREADABLE
from producer.no_links import read_small

PACE = ("images_this_run", "wall_seconds", "images_per_second")
"""Numbers in job.json."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended.

    Attributes:
        total: pages of the job.
        ok: of these, pages with a record that is fine, over all runs.
        failed: of these, pages with a failed record, over all runs.
        fresh: pages that this run did; fewer than ``total`` after an interruption or a retry.
        seconds: that this run took.
        interrupted: whether pages are left.
    """

    total: int
    ok: int
    failed: int
    fresh: int
    seconds: float
    interrupted: bool

    @property
    def exit_code(self) -> ExitCode:
        """Of the command that ran the job to its end."""
        return ExitCode.FAILED if self.failed or self.ok < self.total else ExitCode.OK


def read_job(path: Path) -> dict[str, Any]:
    """job.json, or nothing: a report can be made of collected results too, and of a folder that others wrote.

    Of `PACE` it has finite numbers alone; one of 400 digits is none that a float can be.
    """
    try:
        job = msgspec.json.decode(read_small(path))
    except (OSError, *UNREADABLE):
        return {}
    if not isinstance(job, dict):
        return {}
    return {name: value for name, value in job.items() if name not in PACE or _is_finite(value)}


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:
        return False
