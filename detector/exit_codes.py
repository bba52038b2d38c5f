"""Exit codes of the three programs, in one place."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit code says. Scripts call the programs by these numbers: they never change."""

    OK = 0
    FAILED = 1
    """Finished, but something failed: some images (they are listed), or a result that is not good enough."""
    USAGE = 2
    """The command line, a setting, a model or a folder that cannot be used as it is."""
    BROKER = 3
    """Redis cannot be reached, refuses, or has no room."""
    NOTHING = 4
    """Nothing to do, or the input is missing."""
    BUG = 70
    """A fault of this program, with a traceback (EX_SOFTWARE of BSD's sysexits.h)."""
    INTERRUPTED = 130
    """Ctrl-C, SIGTERM or a full disk: the same command goes on (128 + SIGINT, as shells count)."""
