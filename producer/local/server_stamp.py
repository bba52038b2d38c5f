"""Whether a private server's data was written by this user's commands, on this machine.

An output folder that somebody handed over may hold an append-only file of 700 bytes that Valkey takes 6 GB for, each
time: it has no limit while it reads. What is not ours is moved aside, and the job goes on from its results.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from producer.errors import ProducerError
from producer.job.output_folder import make_private, state_folder, write_atomically
from producer.no_links import read_small

STAMP, KEY = "written-by", ".server-key"  # no job's name begins with a dot


def _key() -> str:
    """This user's secret; "" where he has no place to keep one."""
    try:
        file = state_folder(KEY).root
        try:
            return read_small(file).decode()
        except FileNotFoundError:
            make_private(file.parent)
            write_atomically(file, secrets.token_hex(16).encode())
            return read_small(file).decode()
    except (OSError, ProducerError, UnicodeDecodeError):
        return ""


def is_ours(data: Path) -> bool:
    """Whether a server's folder is new, or stamped. Where no secret can be kept, each is."""
    if not data.is_dir() or not any(data.iterdir()):
        return True
    key = _key()
    try:
        return not key or secrets.compare_digest(read_small(data / STAMP), key.encode())
    except OSError:
        return False


def stamp(data: Path) -> None:
    """From now on it is ours."""
    if key := _key():
        write_atomically(data / STAMP, key.encode())
