"""Errors of Redis, Celery and the operating system as one line for the user, and their exit codes."""

from __future__ import annotations

from detector.cli.program import Explained, explain_system
from detector.exit_codes import ExitCode

THEN = ", then give the same command again: what is done is kept"


def explain(error: Exception) -> Explained | None:
    """The line and the exit code for an error that the user can put right, None for a bug of ours."""
    # Here, not above: `ocr-producer --help` needs neither Redis nor Celery.
    import redis
    from kombu.exceptions import OperationalError

    from worker.broker.connection import is_no_redis, refusal

    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return f"lost the broker: {error}; the job is safe, resume it when it is back", ExitCode.BROKER
    if isinstance(error, redis.RedisError | OperationalError) or is_no_redis(error):
        return refusal(error), ExitCode.BROKER
    return explain_system(error, THEN)
