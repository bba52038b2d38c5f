"""What a broker's refusals mean, in the words of several versions of Redis."""

from __future__ import annotations

import pytest
from kombu.exceptions import OperationalError
from redis.exceptions import NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from worker.broker import is_full, refusal, takes_no_writes

SCRIPT = (
    "Error running script (call to f_00b960d6603aaf8e08bc6471c94acc1f0cceed42): @user_script:30: @user_script: 30: "
)


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        # Redis 6.2, out of a script
        (ResponseError(SCRIPT + "-OOM command not allowed when used memory > 'maxmemory'."), True),
        (ReadOnlyError("You can't write against a read only replica."), False),
        (ResponseError(SCRIPT + "-READONLY You can't write against a read only replica."), False),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), False),
        (ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), False),
    ],
)
def test_no_writes(error: RedisError, full: bool) -> None:
    wrapped = OperationalError("of Celery")
    wrapped.__cause__ = error
    for either in (error, wrapped):
        assert takes_no_writes(either)
        assert is_full(either) == full == ("memory is full" in refusal(either))


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
        NoPermissionError("this user has no permissions to run the 'brpop' command"),
        ConnectionError("refused"),
    ],
)
def test_other_refusals(error: Exception) -> None:
    assert not takes_no_writes(error) and not is_full(error)


def test_a_broken_disk_is_named_with_its_remedy() -> None:
    line = refusal(ResponseError("MISCONF Errors writing to the AOF file: No space left on device"))
    assert "No space left on device" in line and "make room" in line
