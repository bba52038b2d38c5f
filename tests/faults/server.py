"""A real Redis or Valkey on a TCP port that can be killed, stopped, frozen, emptied and started again at that port."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

from producer.local.server import server_binary
from tests.redis_users import USERS, acl_file

START_S = 20.0
ADMIN = "admin"
# Also of a master, which may become one: a replica that cannot log in gives what it knew to who still asks it.
AS_REPLICA = ("--masteruser", ADMIN, "--masterauth", f"of-the-{ADMIN}")


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class FaultyServer:
    """One server, the same address for its whole life, whatever happens to its process.

    Attributes:
        users: whether it has those of deploy/redis/users.acl, as a hub has them: a fleet with one password for all met
            every fault, and nobody saw that a hub's Redis forgot all at each restart.
    """

    def __init__(self, data: Path, *, appendonly: bool = True, binary: Path | None = None, users: bool = False) -> None:
        self.data, self.users = data, users
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        admin = {"username": ADMIN, "password": f"of-the-{ADMIN}"} if users else {}
        self.client = redis.Redis(port=self.port, socket_timeout=10, **admin)
        self._appendonly = appendonly
        self.binary = binary or server_binary()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *extra: str) -> None:
        """Start, and wait until it answers."""
        self.data.mkdir(parents=True, exist_ok=True)
        if self.users:
            subprocess.run(["sh", USERS.with_name("check_aof.sh"), self.data], check=True)
        command = [
            *(str(self.binary), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.data)),
            *("--appendonly", "yes" if self._appendonly else "no", "--save", "", "--maxmemory-policy", "noeviction"),
            *("--repl-diskless-sync-delay", "0"),
            *("--logfile", str(self.data / "server.log"), "--enable-debug-command", "yes", *extra),
            *(("--aclfile", str(acl_file(self.data)), *AS_REPLICA) if self.users else ()),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(redis.RedisError):
                if self.client.ping():
                    return
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise AssertionError((self.data / "server.log").read_text()[-2000:])
            time.sleep(0.02)

    def url_of(self, role: str, url: str) -> str:
        """An address (this server's, or one on the way to it) as this role of the fleet has it."""
        known = not self.users or "@" in url
        return url if known else url.replace("redis://", f"redis://{role}:of-the-{role}@")

    def follow(self, master: FaultyServer) -> None:
        """Start, as a replica."""
        self.start("--replicaof", f"127.0.0.1 {master.port}")

    @property
    def running(self) -> bool:
        return self._process is not None

    def send(self, number: signal.Signals) -> None:
        """A signal to the server's process."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a power cut would end it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def shutdown(self) -> None:
        """SHUTDOWN, as an upgrade would end it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def wipe(self) -> None:
        """Its disk is lost. Only while it is down."""
        shutil.rmtree(self.data, ignore_errors=True)

    def close(self) -> None:
        """End it, and the connection."""
        self.client.close()
        self.kill()
