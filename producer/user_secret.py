"""What only this user's commands on this machine can have written: a stamp made with a secret of his.

It is in no folder of a job: one that is handed on, or that a group may write into, carries stamps alone.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from detector.atomic import atomic_write
from detector.cache import base_folder
from producer.errors import ProducerError
from producer.no_links import OthersFolderError, hold_own, read_small

KEY = ".server-key"  # no job's name begins with a dot


def state_base() -> Path:
    """Where this user's state is kept (XDG base directory specification).

    Raises:
        ProducerError: he has no home.
    """
    if (base := base_folder(os.environ, "XDG_STATE_HOME", ".local/state")) is None:
        raise ProducerError("no home folder to keep the job's manifest in: set HOME or XDG_STATE_HOME")
    return base / "ocrfleet"


def user_secret() -> bytes:
    """This user's secret; empty where he has no place to keep one."""
    try:
        base = state_base()
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold_own(base, may_be_link=True) as folder:
            if folder.status.st_uid == os.geteuid():  # `enqueue` makes it with the umask's mode
                folder.path.chmod(0o700)
            kept = folder.path / KEY
            # What others could read (0644, before) is no secret any more: what it stamped is moved aside, once.
            if not kept.exists() or kept.stat().st_mode & 0o077:
                with atomic_write(kept, sync=True) as part, open(part, "xb", opener=_for_us_alone) as stream:
                    stream.write(secrets.token_hex(16).encode())
            return read_small(kept)
    except OthersFolderError:  # and what was stamped is nobody's: without a secret each server's data were this user's
        return secrets.token_bytes(16)
    except (OSError, ProducerError):
        return b""


def write_stamp(file: Path, data: bytes = b"") -> None:
    """Stamp the folder that the file lies in, and the data; nothing where no secret can be kept.

    Raises:
        OSError: the file cannot be written.
    """
    if key := user_secret():
        with atomic_write(file, sync=True) as part:
            part.write_bytes(_stamp_of(file.parent, key, data))


def is_stamped(file: Path, data: bytes = b"") -> bool:
    """Whether the file has the stamp of its folder and the data."""
    key = user_secret()
    try:
        return bool(key) and secrets.compare_digest(read_small(file), _stamp_of(file.parent, key, data))
    except OSError:
        return False


def _stamp_of(folder: Path, key: bytes, data: bytes) -> bytes:
    """Of this folder and no other, and without the key in it: who has it, or a copy of it, can make none of another.

    By its inode alone: the device of NFS, btrfs and LVM has another number after the next start of the machine.
    """
    return hmac.digest(key, f"{folder.stat().st_ino}".encode() + data, "sha256").hex().encode()


def _for_us_alone(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
