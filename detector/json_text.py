"""JSON that others wrote, as Python has it."""

from __future__ import annotations

import json
from typing import Any


def read_json(text: str | bytes) -> Any:
    """What the text says. Its only error is a ValueError, also for what is nested deeper than Python goes.

    `json.loads` raises RecursionError for a thousand brackets in each other, which none of our callers thought of.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
