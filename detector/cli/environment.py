"""The environment of our programs: the names of all OCRFLEET_* variables, and where libraries are not looked for."""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
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


LIBRARIES = "LD_LIBRARY_PATH"
NOWHERE = "/nonexistent"


def load_nothing_from_here(environment: MutableMapping[str, str]) -> None:
    """Have no program that this one starts look for libraries in the current folder; called before `import cv2`.

    The system's loader takes an empty entry for it. opencv-python (5.0 too) puts its folder before what is there,
    with a colon: where there was nothing, an empty entry is what follows, and `libc.so.6` in a folder of pictures was
    loaded by each program that Celery and we started.

    Args:
        environment: usually ``os.environ``.
    """
    kept = [entry for entry in re.split("[:;]", environment.get(LIBRARIES, "")) if entry]
    environment[LIBRARIES] = ":".join(kept) or NOWHERE
