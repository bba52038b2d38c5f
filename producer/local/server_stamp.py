"""Whether a private server's data was written by this user's commands, on this machine.

An output folder that somebody handed over may hold an append-only file of 700 bytes that Valkey takes 6 GB for, each
time: it has no limit while it reads. What is not ours is moved aside, and the job goes on from its results.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from detector.atomic import atomic_write
from producer.errors import ProducerError
from producer.job.output_folder import held_private, state_folder, write_atomically
from producer.no_links import read_small

STAMP, KEY = "written-by", ".server-key"  # no job's name begins with a dot


def _key() -> bytes:
    """This user's secret; empty where he has no place to keep one."""
    try:
        file = state_folder(KEY).root
        with held_private(file.parent) as (folder, _):
            if folder.status.st_uid == os.geteuid():  # `enqueue` makes it with the umask's mode
                folder.path.chmod(0o700)
            kept = folder.path / KEY
            # What others could read (0644, before) is no secret any more: what it stamped is moved aside, once.
            if not kept.exists() or kept.stat().st_mode & 0o077:
                with atomic_write(kept, sync=True) as part, open(part, "xb", opener=_for_us_alone) as stream:
                    stream.write(secrets.token_hex(16).encode())
            return read_small(kept)
    except (OSError, ProducerError):
        return b""


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _stamp_of(data: Path, key: bytes) -> bytes:
    """Of this folder and no other, and without the key in it: a folder that is handed on, or copied, carries it along.

    By its inode alone: the device of NFS, btrfs and LVM has another number after the next start of the machine.
    """
    return hmac.digest(key, f"{data.stat().st_ino}".encode(), "sha256").hex().encode()


def is_ours(data: Path) -> bool:
    """Whether a server's folder is new, or stamped. Where no secret can be kept, each is."""
    if not data.is_dir() or not any(data.iterdir()):
        return True
    key = _key()
    try:
        return not key or secrets.compare_digest(read_small(data / STAMP), _stamp_of(data, key))
    except OSError:
        return False


def stamp(data: Path) -> None:
    """From now on it is ours."""
    if key := _key():
        write_atomically(data / STAMP, _stamp_of(data, key))
