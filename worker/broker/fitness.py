"""Brokers that lose jobs, or cannot take them, are refused before there is a job to lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis
from redis.exceptions import NoPermissionError

from detector.exit_codes import ExitCode
from worker.app import CONTROL_EXCHANGE
from worker.errors import WorkerError

ANSWER_S = 5.0
OLD_USERS = (
    "its users.acl is of an older version, whose channels had Celery's names: stop what is of that version, and run "
    "deploy/hub.sh again, or load deploy/redis/users.acl anew, which allows database 0 alone"
)


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
