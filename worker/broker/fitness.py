"""Brokers that lose jobs, or cannot take them, are refused before there is a job to lose."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import NoPermissionError

from detector.cache import others_reach
from detector.exit_codes import ExitCode
from worker.app import CONTROL_EXCHANGE, IMAGE_QUEUE
from worker.errors import WorkerError
from worker.redis_url import is_local

ANSWER_S = 5.0
OLD_USERS = (
    "its users.acl is of an older version, whose channels had Celery's names: stop what is of that version, and run "
    "deploy/hub.sh again, or load deploy/redis/users.acl anew, which allows database 0 alone"
)

_PROOFS = ("password", "credential_provider", "ssl_certfile")
_PROVES = {"username", "ssl_keyfile", "ssl_password", *_PROOFS}


class BrokerUnfitError(WorkerError):
    """The broker answers, but no job is safe there. The message says what to change."""

    exit_code = ExitCode.BROKER


def why_unfit(info: Mapping[str, Any]) -> str:
    """Why a broker cannot hold jobs; empty if it can.

    Args:
        info: what its INFO says.
    """
    if info.get("redis_mode") == "cluster":
        return "it is a Redis Cluster, whose keys lie on several servers: use a single server, or one with replicas"
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        return f"its maxmemory-policy is {policy}: it would drop records; `CONFIG SET maxmemory-policy noeviction`"
    return ""


def why_read_only(info: Mapping[str, Any]) -> str:
    """Why a broker takes no writes by its role; empty if it does."""
    if info.get("role") == "slave" and info.get("slave_read_only", 1):
        return f"it is a read-only replica of {info.get('master_host', 'another server')}: use that one's address"
    return ""


def refuse_unfit(client: redis.Redis, *, writing: bool = True) -> None:
    """Refuse a broker that is not fit.

    Args:
        client: connection to it.
        writing: refuse a read-only replica too; workers wait for it instead, since a failover may be under way.

    Raises:
        BrokerUnfitError: with the remedy.
    """
    info = client.info()
    reason = why_unfit(info) or (why_read_only(info) if writing else "")
    if reason:
        raise BrokerUnfitError(f"the broker cannot be used: {reason}")


def refuse_old_users(client: redis.Redis) -> None:
    """Refuse a broker whose users may not hear what is said to workers; who may hear nothing (`producer`) asks nothing.

    Raises:
        BrokerUnfitError: with the remedy.
    """
    database = client.connection_pool.connection_kwargs.get("db") or 0
    with client.pubsub() as listener:
        try:
            listener.psubscribe(f"/{database}.{CONTROL_EXCHANGE}")
            listener.get_message(timeout=ANSWER_S)
        except NoPermissionError as error:
            if "channel" in str(error):  # and not "to run the 'psubscribe' command"
                raise BrokerUnfitError(f"the broker cannot be used: {OLD_USERS}") from None


def who_gets_in(client: redis.Redis, redis_url: str) -> str:
    """Who else than this user, and root, has Redis obey him without a password or a certificate; "" for nobody.

    On 127.0.0.1 that is every user of the machine; a private server's socket lies where nobody else comes.

    Args:
        client: connection to it.
        redis_url: its address.
    """
    given = client.connection_pool.connection_kwargs
    if any(given.get(name) for name in _PROOFS) and not _lets_anybody_in(client):
        return ""
    if not is_local(redis_url):
        return "whoever reaches its port"
    if not given.get("path"):
        return "every user of this machine"
    return "who may reach its socket" if others_reach(Path(given["path"])) else ""


def _lets_anybody_in(client: redis.Redis) -> bool:
    """Whether Redis answers to who says nothing of himself."""
    pool = client.connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if name not in _PROVES}
    stranger = pool.connection_class(**options)
    try:
        stranger.send_command("LLEN", IMAGE_QUEUE)
        stranger.read_response()
    except redis.RedisError:
        return False
    finally:
        stranger.disconnect()
    return True


def why_exposed(who: str) -> str:
    """What :func:`who_gets_in` can do to a worker that opens anything, and the remedy."""
    return (
        f"{who} can have this worker open all that its user may read: Redis asks for no password, and OCRFLEET_ROOTS "
        "is not set; set one of them, or use `ocr-producer run`, whose Redis is private"
    )
