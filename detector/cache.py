"""Where this program keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/ocrfleet or ~/.cache/ocrfleet; it need not exist, nor be writable."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ocrfleet"
    except RuntimeError:  # a container's user without a home: nothing is kept
        return Path("/nonexistent/ocrfleet")
