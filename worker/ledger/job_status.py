"""A job's counts at one moment, asked in one step that never holds more than a job of ours has."""

from __future__ import annotations

from itertools import islice

import redis

from worker.broker.whole import MOST_STORED
from worker.ledger.answers import JobStatus
from worker.redis_keys import JobKeys

MOST_TEXT, MOST_EXTRA = 256, 32  # bytes of a job's field, and fields; ours are six
_LONGER = {b"request": 1 << 19, b"manifest": 1 << 13}  # 100 paths; one
_OURS = (
    *("total", "ok", "failed", "state", "epoch", "created_ms", "progress_ms", "finished_ms", "fed_ms", "kept_ms"),
    *("host", "version", "heir"),
)
# KEYS: of the job.  ARGV: how much its hash may take, then the fields that are asked for one by one where it takes
# more: a reply of 188 MB, made for each that asks, is a copy for each. Returns false for no job, or {fields, pages in
# flight, records that wait, time}.
_STATUS = """
local fields, stored = {}, redis.pcall('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', '0')
if type(stored) == 'number' and stored > tonumber(ARGV[1]) then
  for place = 2, #ARGV do
    local size = redis.pcall('HSTRLEN', KEYS[1], ARGV[place])
    if type(size) == 'number' and size > 0 and size <= 256 then
      fields[#fields + 1] = ARGV[place]
      fields[#fields + 1] = redis.call('HGET', KEYS[1], ARGV[place])
    end
  end
else
  fields = redis.pcall('HGETALL', KEYS[1])
  if fields.err and not string.find(fields.err, 'WRONGTYPE', 1, true) then return fields end
end
if #fields == 0 then return false end
local function count(command, key)
  local reply = redis.pcall(command, key)
  return type(reply) == 'number' and reply or 0  -- a key of another type is the ledger's to drop
end
local clock = redis.call('TIME')
return {fields, count('HLEN', KEYS[3]), count('XLEN', KEYS[7]), clock}
"""


def read_status(client: redis.Redis, job: str) -> JobStatus | None:
    """A job's counts, None if there is no such job.

    Raises:
        redis.RedisError: no answer.
    """
    found = client.register_script(_STATUS)(keys=list(JobKeys.of(job)), args=[MOST_STORED, *_OURS])
    if not found:
        return None
    flat, in_flight, uncollected, (seconds, micros) = found
    fields = dict(zip(flat[::2], flat[1::2], strict=True))

    def take(name: str) -> float:
        try:
            number = float(int(float(fields.pop(name.encode(), 0) or 0)))  # int refuses what is not finite
            return number if abs(number) < 1e15 else 0.0
        except (ValueError, OverflowError):  # not ours: whoever may write there wrote it
            return 0.0

    total, ok, failed = int(take("total")), int(take("ok")), int(take("failed"))
    created, progress, finished = take("created_ms"), take("progress_ms"), take("finished_ms")
    # Whoever may write there may write 4 MB, which one wide character makes 16.
    state = "cancelled" if fields.pop(b"state", b"") == b"cancelled" else "open"
    epoch = fields.pop(b"epoch", b"")[:64].decode(errors="replace")
    fed, kept = take("fed_ms"), take("kept_ms")
    known = (pair for pair in fields.items() if len(pair[0]) <= 64 and len(pair[1]) <= _LONGER.get(pair[0], MOST_TEXT))
    extra = {name.decode(errors="replace"): text.decode(errors="replace") for name, text in islice(known, MOST_EXTRA)}
    return JobStatus(
        job, state, total, ok, failed, in_flight, uncollected, created / 1000, progress / 1000, finished / 1000 or None,
        extra, epoch, fed / 1000, int(seconds) + int(micros) / 1e6,
        kept / 1000,
    )  # fmt: skip
