"""A real server with the users of deploy/redis/users.acl, as a hub has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

from producer.local.server import server_binary
from tests.processes import running_redis
from tests.tools import tool

USERS = Path(__file__).parents[1] / "deploy" / "redis" / "users.acl"
ROLES = ("worker", "producer", "hub")
LIMITS = ("--maxmemory", "256mb", "--maxmemory-policy", "noeviction", "--proto-max-bulk-len", "80mb")


class ServerWithUsers:
    """Each role's way in; ``admin`` may do all."""

    def __init__(self, socket: Path) -> None:
        """A server that listens on this socket."""
        self.socket = socket

    def url(self, user: str) -> str:
        """As it stands in OCRFLEET_REDIS_URL."""
        return f"unix://{user}:of-the-{user}@{self.socket}"

    def client(self, user: str) -> redis.Redis:
        """As a stranger would connect: none of our bounds."""
        return redis.Redis.from_url(self.url(user))

    def used(self) -> int:
        """Bytes of memory."""
        return int(self.client("admin").info("memory")["used_memory"])


def refused(client: redis.Redis, *command: object) -> bool:
    """Whether the ACL forbids it."""
    try:
        client.execute_command(*command)
    except redis.ResponseError as error:
        return "NOPERM" in str(error) or "permission" in str(error).lower()
    return False


def acl_file(folder: Path, rules: str | None = None) -> Path:
    """An ACL file of these rules, with each role's password, and with ``admin``, who may do all."""
    rules = USERS.read_text() if rules is None else rules
    for role in ROLES:
        rules = rules.replace(f">{role.upper()}_PASSWORD", f">of-the-{role}")
    (folder / "users.acl").write_text(rules.rstrip("\n") + "\nuser admin on >of-the-admin ~* &* +@all\n")
    return folder / "users.acl"


@contextmanager
def server_with_users(
    folder: Path, rules: str | None = None, *, valkey: bool = False, port: int = 0
) -> Iterator[ServerWithUsers]:
    """Debian's redis-server, or the Valkey of a private server.

    Args:
        folder: for its files.
        rules: of another ACL file; its passwords are ``of-the-worker`` and so on.
        valkey: start that one.
        port: of 127.0.0.1, for who logs in by a name over TCP alone (Flower).
    """
    binary = server_binary() if valkey else tool("redis-server", "apt-get install redis-server")
    where = (
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--unixsocket",
        folder / "s",
        "--dir",
        folder,
        "--save",
        "",
        "--appendonly",
        "yes",
    )
    server = ServerWithUsers(folder / "s")
    command = [binary, *where, "--aclfile", acl_file(folder, rules), *LIMITS]
    with running_redis(command, folder / "redis.log", lambda: server.client("admin")):
        yield server
