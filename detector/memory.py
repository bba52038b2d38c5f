"""What this process holds, and what is left of its limit for opening a page."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

RESERVE_BYTES = 8 * 2**20
"""Kept free: the record being written, Python's own growth between two pages."""

SMALLEST_BUDGET_BYTES = 16 * 2**20
"""Never less than this, however tight the limit: with less not even an ordinary photo could be opened."""


def resident_bytes() -> int:
    """Memory of this process in bytes: resident (Linux), its peak elsewhere."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def decode_budget(memory_limit: int, held: int) -> int:
    """Bytes that opening a page may take.

    Args:
        memory_limit: of the whole process, bytes.
        held: what the process holds at the moment, bytes.
    """
    return max(SMALLEST_BUDGET_BYTES, memory_limit - held - RESERVE_BYTES)
