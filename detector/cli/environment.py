"""The names of all OCRFLEET_* variables, so that a mistyped one is not passed over in silence; and TMPDIR."""

from __future__ import annotations

import os
from collections.abc import Iterable, MutableMapping
from difflib import get_close_matches
from pathlib import Path

from detector.cache import others_above

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


def leave_others_temporary_folder(environment: MutableMapping[str, str]) -> str:
    """Have this program, and those that it starts, use no temporary folder in which others may rename what is made.

    In a group's one took the place of the private server of `run`, and fed its workers; and had a folder of the user's
    removed by giving it the name of a temporary one. A sticky folder, as /tmp is, is fine.

    Args:
        environment: usually ``os.environ``.

    Returns:
        A line about it; empty where all is well, or no other can be written to.
    """
    named = filter(None, map(environment.get, ("TMPDIR", "TEMP", "TMP")))  # `tempfile` takes the first that it can use
    if (above := next(filter(None, (others_above(Path(folder) / "entry") for folder in named)), None)) is None:
        return ""
    for folder in ("/var/tmp", "/tmp"):  # nosec B108: as `tempfile` itself
        if os.access(folder, os.W_OK | os.X_OK) and others_above(Path(folder) / "entry") is None:
            import tempfile  # the modules that it loads most commands have no use for

            environment["TMPDIR"] = folder
            tempfile.tempdir = None
            return f"temporary files go to {folder}, as others can write into {above}"
    return ""
