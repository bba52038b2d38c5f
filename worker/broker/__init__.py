"""Connections to Redis, the queue, and page bytes that travel through Redis."""

from worker.broker.connection import BrokerUnreachable, connect, is_full, is_no_redis, refusal, takes_no_writes

__all__ = ["BrokerUnreachable", "connect", "is_full", "is_no_redis", "refusal", "takes_no_writes"]
