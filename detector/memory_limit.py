"""A hard limit on the memory of a process that decodes strangers' files.

Estimates are made from headers, and a header may lie: 94 bytes of WebP can ask for 1.5 GB, a PDF of 2 KB for 1 GB.
Beyond the limit an allocation fails instead: a MemoryError, a decoder's own error, or an abort of the library, each of
which costs one page and never the machine.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from detector.memory import SMALLEST_BUDGET_BYTES, resident_bytes

MARGIN_BYTES = 64 * 2**20
"""Allowed beyond the limit: allocated but never touched (arenas, thread stacks; 56 MiB measured with OpenVINO). Only
what is touched counts as resident; a page that an estimate admitted must never fail for this difference."""


def limit_memory(limit: int) -> None:
    """Lets this process allocate no more than its limit leaves, from now on; may be called again for each page.

    Sets the soft RLIMIT_DATA (setrlimit(2): private writable memory, since Linux 4.7). Other systems than Linux: no-op.

    Args:
        limit: of resident memory of this process, bytes.
    """
    allocated = _allocated_bytes()
    if allocated is None:
        return
    free = max(SMALLEST_BUDGET_BYTES, limit - resident_bytes())
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = allocated + free + MARGIN_BYTES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with suppress(OSError, ValueError):  # a sandbox that forbids it has a limit of its own
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _allocated_bytes() -> int | None:
    """Private writable memory of this process, bytes: VmData of /proc/self/status; None where there is none."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
