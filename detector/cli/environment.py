"""The names of all OCRFLEET_* variables, so that a mistyped one is not passed over in silence; and TMPDIR."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
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

SYSTEMS_TEMPORARY = ("/tmp", "/var/tmp")  # nosec B108: as `tempfile` itself


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
    removed by giving it the name of a temporary one. A sticky folder, as /tmp is, is fine. What is decided here holds:
    `tempfile` goes on to the current folder, without a word, where somebody has filled all others. We never do: it has
    the user's pictures, and may lie on a disk that knows no sockets.

    Args:
        environment: usually ``os.environ``.

    Returns:
        A line about it; empty where all is well, or no other can be written to.
    """

    def places() -> Iterator[str]:
        """Where `tempfile` looks; but of the system's the one on a disk first, where another was named."""
        named = [Path(folder) for name in ("TMPDIR", "TEMP", "TMP") if (folder := environment.get(name))]
        yield from (str(folder.absolute()) for folder in named)
        yield from reversed(SYSTEMS_TEMPORARY) if named else SYSTEMS_TEMPORARY

    folder, above = first_of_ones_own(places())
    environment["TMPDIR"] = tempfile.tempdir = folder
    return "" if above is None else f"temporary files go to {folder}, as others can write into {above}"


def first_of_ones_own(folders: Iterable[str]) -> tuple[str, Path | None]:
    """The first that has room, where nobody else may rename what is made; and what others can write into, before it.

    Where none has room, the first that is full, which the error then names. Where nothing closed may be written to at
    all, as in a container whose /tmp is its pod's alone, the first that may be.
    """
    full = opened = ""
    passed = None
    for folder in folders:
        if not os.access(folder, os.W_OK | os.X_OK):
            continue
        if (above := others_above(Path(folder) / "entry")) is not None:
            opened, passed = opened or folder, passed or above
        elif _has_room(folder):
            return folder, passed
        else:
            full = full or folder
    return full or opened or SYSTEMS_TEMPORARY[0], None


def _has_room(folder: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            return probe.write(b"room") == 4
    except OSError:
        return False
