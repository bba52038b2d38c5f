"""Peak resident memory of this process. Standard library only: it runs inside the peers' environments too."""

from __future__ import annotations

from pathlib import Path


def own_peak_mb() -> float:
    """MiB, from VmHWM: ru_maxrss would start at the size of whichever process forked this one."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return int(status["VmHWM"].split()[0]) / 1024
