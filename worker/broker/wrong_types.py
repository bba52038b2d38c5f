"""Keys that all jobs share and that hold another type than ours: dropped, so that nobody waits for a person.

Whoever has a worker's password may `SET ocrfleet:jobs x`: from then on each command over that key was refused
(WRONGTYPE), no worker took a page, and no job could be made. What was in the key before is gone with that `SET`
already. The index of jobs is written anew by the jobs themselves (`keep` in ledger/script_start.py), messages in hand
are sent again by the ledger (reconcile.py), the others are notes.

A job's own keys are dropped as they are met, too, here and by the ledger's scripts, but for its hash and its states:
without those there is no job, which its user is to be told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import redis
from redis.client import Pipeline

from worker.app import UNACKED, UNACKED_INDEX
from worker.broker.queue_lists import QUEUE_LISTS
from worker.redis_keys import (
    COUNTERS_KEY,
    DEAD_KEY,
    IMAGES_KEY,
    JOBS_KEY,
    QUARANTINE_KEY,
    REPORTS_KEY,
    WORKERS_KEY,
    JobKeys,
)

logger = logging.getLogger(__name__)
MOST_WORD, MOST_SAID = 200, 1000  # characters, of a command's name and key, and of what Redis says

# A command per type that reads little, changes nothing and is in deploy/redis/users.acl: TYPE is not.
_PROBES = {
    "hash": ("HLEN",),
    "zset": ("ZSCORE", ""),
    "list": ("LLEN",),
    "stream": ("XLEN",),
}
_OF_A_JOB = JobKeys.of("").job
SHARED = {
    JOBS_KEY: "zset",
    UNACKED_INDEX: "zset",
    **dict.fromkeys((UNACKED, COUNTERS_KEY, WORKERS_KEY, IMAGES_KEY, REPORTS_KEY), "hash"),
    **dict.fromkeys((DEAD_KEY, QUARANTINE_KEY), "stream"),
    **dict.fromkeys(QUEUE_LISTS, "list"),
}
"""Key -> the type it has. Locks are taken by SET, whatever is there, and lapse (locks.py)."""

_PARTS = {
    **dict.fromkeys(("tasks", "attempts", "losses", "blobs", "holders"), "hash"),
    "leases": "zset",
    "results": "stream",
}

_DROP_LUA = """
local dropped = {}
for place, key in ipairs(KEYS) do
  local command, argument = ARGV[2 * place - 1], ARGV[2 * place]
  local reply
  if argument == 'none' then reply = redis.pcall(command, key) else reply = redis.pcall(command, key, '') end
  if type(reply) == 'table' and reply.err and string.find(reply.err, 'WRONGTYPE', 1, true) then
    redis.call('UNLINK', key)
    dropped[#dropped + 1] = key
  end
end
return dropped
"""


def is_wrong_type(error: BaseException) -> bool:
    """Whether Redis refused a command, or one of a script, over a key of another type."""
    return isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error)


def of_jobs(words: Iterable[object]) -> dict[str, str]:
    """The keys of jobs among the words of a command that may be dropped -> the type each has."""
    found = {}
    for word in words:
        key = word if isinstance(word, str) else ""
        job, _, part = key.removeprefix(_OF_A_JOB).partition(":")
        if key.startswith(_OF_A_JOB) and job and part in _PARTS:
            found[key] = _PARTS[part]
    return found


def drop_wrong_types(client: redis.Redis, *words: object) -> list[str]:
    """Drop what holds another type of the keys that all jobs share, and say so. Returns their names.

    Args:
        client: connection to the broker.
        words: of the command that was refused: keys of jobs that it names are looked at too.

    Raises:
        redis.RedisError: no answer, or it takes no writes.
    """
    keys = {**SHARED, **of_jobs(words)}
    arguments: list[str] = []
    for kind in keys.values():
        command, *rest = _PROBES[kind]
        arguments += [command, "empty" if rest else "none"]
    # Not by this client's own commands, which would come here again.
    plain = redis.Redis(connection_pool=client.connection_pool)
    dropped = [name.decode() for name in plain.register_script(_DROP_LUA)(keys=list(keys), args=arguments)]
    for name in dropped:
        logger.error(
            "%a held another type: somebody else wrote it. It was dropped, and begins anew; change the passwords", name
        )
    return dropped


class MendingRedis(redis.Redis):  # type: ignore[misc]
    """A connection that drops such keys when it meets them, and then does what it was asked again."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """redis-py's. A command that was refused has changed nothing; the ledger's scripts may be repeated."""
        try:
            return super().execute_command(*args, **options)
        except redis.ResponseError as error:
            if not is_wrong_type(error) or self.connection is not None or not drop_wrong_types(self, *args):
                raise
        return super().execute_command(*args, **options)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """redis-py's, of :class:`MendingPipeline`."""
        return MendingPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)


class MendingPipeline(Pipeline):  # type: ignore[misc]
    """Several commands at once: those that were refused over such a key are done again, the others were done."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """redis-py's."""
        commands = list(self.command_stack)
        found: list[Any] = super().execute(raise_on_error=False)
        refused = [place for place, reply in enumerate(found) if isinstance(reply, Exception) and is_wrong_type(reply)]
        if refused and self._drop(*(word for place in refused for word in commands[place][0])):
            again = redis.Redis(connection_pool=self.connection_pool)
            for place in refused:
                arguments, options = commands[place]
                with suppress(redis.ResponseError):  # of a job's own key: the error that is there stays
                    found[place] = again.execute_command(*arguments, **options)
        if raise_on_error:
            self.raise_first_error(commands, found)
        return found

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """redis-py's, while keys are watched: raises, but not the next time."""
        try:
            return super().immediate_execute_command(*args, **options)
        except redis.ResponseError as error:
            if is_wrong_type(error):
                self._drop(*args)
            raise

    def annotate_exception(self, exception: Exception, number: int, command: Sequence[Any]) -> None:
        """redis-py's puts the whole command into the message: of a page of 60 MB 300 MB, and its bytes in logs."""
        begins = " ".join(word[:MOST_WORD] for word in command[:2] if isinstance(word, str))
        said = str(exception.args[0] if exception.args else exception)[:MOST_SAID]
        exception.args = (f"Command # {number} ({begins}) of pipeline caused error: {said}", *exception.args[1:])

    def _drop(self, *words: object) -> list[str]:
        return drop_wrong_types(redis.Redis(connection_pool=self.connection_pool), *words)
