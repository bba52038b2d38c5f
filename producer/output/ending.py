"""How one run of a local job ended."""

from __future__ import annotations

from dataclasses import dataclass

from detector.exit_codes import ExitCode


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
