"""The ledger's atomic steps over a whole job; those of single pages, and what holds for all, are in `scripts.py`."""

from worker.ledger.script_start import START as _STATE

# ARGV 3: total, then name, value, ... of the job's hash.  Returns 1, or 0 if there is such a job.
CREATE = (
    _STATE
    + """
if exists() then return 0 end
-- What an expired job of this name may have left must not be taken for this one's.
for key = 2, #KEYS do redis.call('UNLINK', KEYS[key]) end
local total = tonumber(ARGV[3])
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'total', ARGV[3], 'state', 'open', 'ok', 0, 'failed', 0, 'created_ms', text(NOW))
redis.call('HSET', KEYS[1], 'kept_ms', text(NOW))
if EPOCH ~= '' and EPOCH ~= '*' then redis.call('HSET', KEYS[1], 'epoch', EPOCH) end
-- All state bytes at once: Redis fills with zero bytes = unfed.
if total > 0 then redis.call('SETRANGE', KEYS[2], total - 1, '\\0') end
call('ZADD', 'ocrfleet:jobs', clock[1] + clock[2] / 1e6, NAME)
keep()
return tonumber(text(NOW))
"""
)

# ARGV 3: pages of the job, to which others are about to be added.  What stands behind them was written by a stranger:
# pages that come there counted as done, and were never fed. Returns 1 if anything did.
CUT = (
    _STATE
    + """
local pages = tonumber(ARGV[3])
if not exists() or is_other() or state_of(ARGV[3]) == '' then return 0 end
local states = pages > 0 and redis.call('GETRANGE', KEYS[2], 0, pages - 1) or ''
redis.call('SET', KEYS[2], states)
recount()
keep()
return 1
"""
)

# ARGV 3: 1 if the caller feeds the job.  Somebody looks after the job: it lives on. Returns 0 if there is none.
TOUCH = (
    _STATE
    + """
if not exists() or is_other() then return 0 end
keep_now_and_then()
if ARGV[3] == '1' then redis.call('HSET', KEYS[1], 'fed_ms', text(NOW)) end
return 1
"""
)

# ARGV 3: name, value, ... of the job's hash.  Returns 0 if there is none: a job that was forgotten meanwhile stays so.
NOTE = (
    _STATE
    + """
if not exists() then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
"""
)

# ARGV: total, 1 if that is all: then the job may become smaller.  A job that has more pages than were counted is not
# finished yet. Returns whether that was news.
GROW = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[2] ~= '1' then
  -- What is no number of ours is smaller than any.
  local size = redis.pcall('HSTRLEN', KEYS[1], 'total')
  local told = type(size) == 'number' and size < 16 and redis.call('HGET', KEYS[1], 'total') or ''
  if string.find(told, '^%d+$') and tonumber(told) >= tonumber(ARGV[1]) then return 0 end
end
redis.call('HSET', KEYS[1], 'total', ARGV[1])
redis.call('HDEL', KEYS[1], 'finished_ms')
return 1
"""
