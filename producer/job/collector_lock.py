"""One collector at a time: a lock in Redis for a job's records, and one of the file system for the file they go to.

The first lapses when its holder sleeps (a laptop's lid) for longer than ``LOCK_S``, so its token is compared before
every append; the second holds as long as its process lives, whatever the clock does, but only where both can see it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

import redis

from producer.errors import ProducerError
from producer.job.output_folder import held_private
from producer.no_links import no_links
from worker.broker import locks
from worker.broker.connection import is_full

LOCK_S = 30


class AlreadyCollectingError(ProducerError):
    """Another process collects this job. The message names it."""


class JobLock:
    """The right to take a job's records out of Redis."""

    def __init__(self, client: redis.Redis, key: str, job: str) -> None:
        self._client, self._key, self._job = client, key, job
        self._is_away = False
        self.me = f"{socket.gethostname()}:{os.getpid()} {secrets.token_hex(4)}".encode()
        self._hold = client.register_script(locks.HOLD)
        self._release = client.register_script(locks.RELEASE)

    def take(self) -> None:
        """Take the lock, also a dead neighbour's.

        Raises:
            AlreadyCollectingError: somebody else's.
        """
        if (holder := self._holder()) != self.me and is_dead_neighbour(holder):
            self._release(keys=[self._key], args=[holder])
            holder = self._holder()
        self._refuse(holder)

    def keep(self) -> None:
        """Renew it.

        Raises:
            AlreadyCollectingError: it lapsed, and somebody else has it now.
        """
        self._refuse(self._holder())

    def keep_if_reached(self) -> None:
        """Renew it while work goes on that needs no broker. One that did not answer is not asked again.

        Raises:
            AlreadyCollectingError: it lapsed, and somebody else has it now.
        """
        try:
            if not self._is_away:
                self.keep()
        except redis.RedisError:
            self._is_away = True

    def release(self) -> None:
        """Give it back, if it is still ours."""
        self._release(keys=[self._key], args=[self.me])

    def _holder(self) -> bytes:
        try:
            return bytes(self._hold(keys=[self._key], args=[self.me, LOCK_S]))
        except redis.ResponseError as error:
            if not is_full(error):
                raise
            # Emptying a full broker comes first: see who has it, and go on without it if nobody does.
            return self._client.getrange(self._key, 0, 255) or self.me

    def _refuse(self, holder: bytes) -> None:
        if holder != self.me:
            who = holder.decode(errors="replace").split(" ")[0][:100]
            raise AlreadyCollectingError(
                f"job {self._job} is being collected by {who}; two collectors would share its records"
            )


class FileLock:
    """The right to append to a results file."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._handle: TextIOWrapper | None = None

    def take(self) -> None:
        """Take it.

        Raises:
            AlreadyCollectingError: another process of this machine has it.
            OthersFolderError: its folder is another user's.
        """
        with held_private(self._results.parent) as (_, private):
            path = private.path / f"{self._results.name}.lock"
            handle = open(path, "w", opener=no_links)  # noqa: SIM115  # kept until `leave`
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise AlreadyCollectingError(
                f"another process collects into {self._results}: wait for it, or stop it"
            ) from None
        except OSError:  # a file system without locks: what is in Redis must do
            handle.close()
            return
        self._handle = handle

    def release(self) -> None:
        """Give it back. Its file stays: removing it would let two processes lock two files of one name."""
        if self._handle is not None:
            with suppress(OSError):
                self._handle.close()
            self._handle = None


def is_dead_neighbour(holder: bytes) -> bool:
    """Whether the lock's holder was a process of this machine that is gone."""
    host, _, pid = holder.decode(errors="replace").split(" ")[0].rpartition(":")
    return host == socket.gethostname() and len(pid) < 20 and pid.isdigit() and not Path(f"/proc/{pid}").exists()
