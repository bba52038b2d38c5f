"""What a worker tells its own machine: that its main process goes on, and that pages get done. For liveness probes.

Anybody with a password of ours may remove or falsify what it tells in Redis (worker_registry.py), and each probe had
the workers of a machine restarted by it. Files in the folder of the spool, which is this user's alone, say the same:

``ocrfleet-spool/signs/PROCESS.BROKER.goes-on``  touched by the main process every ``BEAT_S`` seconds
``ocrfleet-spool/signs/PROCESS.BROKER.works``    touched when a message is done with, whatever came of it (but
                                                 for what its machine is to blame for), or a page on its way

They are empty, and their times are of the machine's monotonic clock, which nobody sets; a time needs no room on a disk.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from worker.process_identity import PROC, identity, is_gone
from worker.redis_url import redacted
from worker.settings import PREFIX, SPOOL_FOLDER, default_spool_dir, settings
from worker.storage.spool import make_private, open_spool

logger = logging.getLogger(__name__)
GOES_ON, WORKS = "goes-on", "works"
FORGET_S = 24 * 3600
_EPOCH = 1e9  # no file system's time is too early for it


class Signs(NamedTuple):
    """When a worker of this machine was last seen to live.

    Attributes:
        silent_s: seconds since its main process said so.
        idle_s: seconds since a message was done with, or since it started.
    """

    silent_s: float
    idle_s: float


def tell(*signs: str, main: int | None = None) -> None:
    """Say that a worker lives. Never raises: where nothing can be written a probe goes by Redis, as it did.

    Args:
        signs: `GOES_ON`, `WORKS`.
        main: id of its main process; this one by default.
    """
    if not (who := _who(main or os.getpid())):
        return
    folder = _folder(settings().spool)
    for sign in signs:
        try:
            _touch(folder / f"{who}.{_broker(settings().redis_url)}.{sign}")
        except OSError as error:
            _say_once(f"{error.filename}: {error.strerror}")


def leave() -> None:
    """A main process that stops in order takes its signs with it."""
    _remove(lambda process, _: process == _who(os.getpid()))


def forget_gone() -> None:
    """Remove what processes left that were killed; of another container's nothing is known until a day has gone by."""
    _remove(lambda process, changed: is_gone(process.replace(",", ":")) or changed < time.time() - FORGET_S)


def signs_of(pid: int, spool: Path, redis_url: str) -> Signs | None:
    """What a worker told this machine; None if that is not known here.

    Args:
        pid: of its main process.
        spool: of whoever asks, `Settings.spool`; each systemd unit has its own, which a process of this user names.
        redis_url: the broker in question; a worker of another one (`run`'s, say) is none of its business.
    """
    if not (who := _who(pid)):
        return None
    for place in (spool, _spool_of(pid)):
        name = f"{who}.{_broker(redis_url)}"
        with suppress(OSError):
            now = time.monotonic() + _EPOCH
            if place is not None:
                folder = _folder(place)
                silent, idle = (now - (folder / f"{name}.{sign}").lstat().st_mtime for sign in (GOES_ON, WORKS))
                return Signs(silent, idle)
    return None


def _who(pid: int) -> str:
    return identity(pid).replace(":", ",")  # some file systems have no names with colons


@cache
def _broker(redis_url: str) -> str:
    return hashlib.sha256(redacted(redis_url).encode()).hexdigest()[:16]


def _folder(spool: Path) -> Path:
    return spool.parent / "signs"


def _touch(path: Path) -> None:
    """Set a file's time to now; make it and its folder if need be.

    Raises:
        OSError: it cannot be; MachineFault is one.
    """
    now = time.monotonic() + _EPOCH
    try:
        os.utime(path, (now, now), follow_symlinks=False)
    except FileNotFoundError:
        open_spool(settings().spool)
        make_private(path.parent)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        os.utime(path, (now, now), follow_symlinks=False)


@cache
def _say_once(why: str) -> None:
    logger.warning("`ocr-worker doctor --alive` will go by what Redis says of this worker (%s)", why)


def _remove(is_left: Callable[[str, float], bool]) -> None:
    with suppress(OSError):
        for entry in os.scandir(_folder(settings().spool)):
            with suppress(OSError):
                if is_left(entry.name.partition(".")[0], entry.stat(follow_symlinks=False).st_ctime):
                    Path(entry.path).unlink()


def _spool_of(pid: int) -> Path | None:
    """The spool that a process of this user was started with; of others' nothing is believed."""
    place = PROC / str(pid)
    try:
        if place.stat().st_uid != os.geteuid():
            return None
        words = [os.fsdecode(word).partition("=") for word in (place / "environ").read_bytes().split(b"\0")]
    except OSError:
        return None
    environ: Mapping[str, str] = {name: value for name, _, value in words}
    named = environ.get(f"{PREFIX}SPOOL_DIR", "").strip()
    return (Path(named) if named else default_spool_dir(environ)) / SPOOL_FOLDER / "pages"
