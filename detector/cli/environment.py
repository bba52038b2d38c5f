"""The names of all OCRFLEET_* variables, so that a mistyped one is not passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

PREFIX = "OCRFLEET_"
SETTINGS = (
    "REDIS_URL", "PROFILE", "LIMIT_SIDE", "MODEL", "MODELS", "RUNTIME", "TUNE_FILE", "THREADS", "MEMORY_LIMIT_MB",
    "MAX_PIXELS", "ROOTS", "SPOOL_DIR", "RESULT_TTL_H", "TEMP_TTL_H", "CLEANUP_CRON", "MAX_ATTEMPTS",
    "TASK_TIMEOUT_S", "LEASE_S", "NICE", "MAX_TASKS_PER_CHILD", "WAIT_S", "SHARED_OUT",
)  # fmt: skip
"""What the programs read."""

DEPLOYMENT = (
    "REDIS_PASSWORD", "REDIS_BIND", "FLOWER_BIND", "IMAGES", "OUT", "TAG", "WORKER_MEM_LIMIT", "WORKER_CPUS",
    "PICTURES", "CA",
)  # fmt: skip
"""What compose's .env and our tests read; often exported in the same shell."""

FAMILIES = ("WEB",)
"""Beginnings of names that a part of the product reads by itself."""


def unknown_names(names: Iterable[str]) -> str:
    """One line about variables with our prefix that nothing reads, "" if there are none.

    Args:
        names: usually ``os.environ``.
    """
    known = [PREFIX + name for name in (*SETTINGS, *DEPLOYMENT)]
    families = tuple(PREFIX + family for family in FAMILIES)
    told = []
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known and not name.startswith(families):
            near = get_close_matches(name.removeprefix(PREFIX), (*SETTINGS, *DEPLOYMENT), n=1)
            told.append(f"{name} (did you mean {PREFIX}{near[0]}?)" if near else name)
    return f"no such setting: {', '.join(told)}" if told else ""
