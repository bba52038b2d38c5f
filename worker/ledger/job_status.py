"""A job's counts at one moment, asked in one step that never holds more than a job of ours has."""

from __future__ import annotations

from itertools import islice

import redis

from worker.broker.whole import MOST_STORED
from worker.ledger.answers import JobStatus
from worker.redis_keys import JobKeys

MOST_TEXT, MOST_EXTRA = 1 << 19, 32  # characters of a job's field, and fields; ours are 5, the longest 100 paths
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
    texts = [word.decode(errors="replace") for word in flat]
    fields = dict(zip(texts[::2], texts[1::2], strict=True))

    def take(name: str) -> float:
        try:
            number = float(int(float(fields.pop(name, 0) or 0)))  # int refuses what is not finite
            return number if abs(number) < 1e15 else 0.0
        except (ValueError, OverflowError):  # not ours: whoever may write there wrote it
            return 0.0

    total, ok, failed = int(take("total")), int(take("ok")), int(take("failed"))
    created, progress, finished = take("created_ms"), take("progress_ms"), take("finished_ms")
    # Whoever may write there may write 4 MB; the page of all jobs holds every status at once.
    state = "cancelled" if fields.pop("state", "") == "cancelled" else "open"
    epoch = fields.pop("epoch", "")[:64]
    fed, kept = take("fed_ms"), take("kept_ms")
    extra = {name: text for name, text in fields.items() if len(name) + len(text) <= MOST_TEXT}
    return JobStatus(
        job, state, total, ok, failed, in_flight, uncollected, created / 1000, progress / 1000, finished / 1000 or None,
        dict(islice(extra.items(), MOST_EXTRA)), epoch, fed / 1000, int(seconds) + int(micros) / 1e6,
        kept / 1000,
    )  # fmt: skip
