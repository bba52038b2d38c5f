"""The ledger's atomic steps, as Lua that Redis runs in one piece. ``ledger.py`` documents the keys they touch.

All scripts take the same KEYS, in the order of ``redis_keys.JobKeys``:
1 job hash, 2 state bytes, 3 tasks, 4 attempts, 5 losses, 6 leases, 7 results stream, 8 sizes of blobs.
"""

# One byte a page. 0x00 = not fed yet.
_STATE = """
local function state_of(index) return redis.call('GETRANGE', KEYS[2], index, index) end
local function set_state(index, letter) redis.call('SETRANGE', KEYS[2], index, letter) end
-- redis_keys.py: blob_key. 14: what follows "ocrfleet:job:" in KEYS[1] is the job's name.
local function drop_blob(index)
  if redis.call('HDEL', KEYS[8], index) == 1 then
    redis.call('UNLINK', 'ocrfleet:blob:' .. string.sub(KEYS[1], 14) .. ':' .. index)
  end
end
-- What is kept of a page only while it is queued or running.
local function leave_flight(index)
  for key = 3, 5 do redis.call('HDEL', KEYS[key], index) end
  redis.call('ZREM', KEYS[6], index)
  drop_blob(index)
end
local function keep(ttl) for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, ttl) end end
"""

# ARGV: ttl_s, now_ms, then index, task JSON, index, task JSON, ...  Returns the indices that are newly queued.
FEED = (
    _STATE
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'open' then return {} end
local fresh = {}
for i = 3, #ARGV, 2 do
  local index = ARGV[i]
  local state = state_of(index)
  if state == '\\0' or state == '' then
    set_state(index, 'q')
    redis.call('HSET', KEYS[3], index, ARGV[2] .. ' ' .. ARGV[i + 1])
    fresh[#fresh + 1] = index
  end
end
keep(ARGV[1])
return fresh
"""
)

# ARGV: index, now_ms, lease_ms, max_attempts, redelivered (0/1), ttl_s.
# Returns {verdict, attempts, losses}: run | done | cancelled | unknown | busy | exhausted.
BEGIN = (
    _STATE
    + """
local job = redis.call('HGET', KEYS[1], 'state')
if not job then return {'unknown', 0, ''} end
if job == 'cancelled' then return {'cancelled', 0, ''} end
local index = ARGV[1]
local state = state_of(index)
if state ~= 'q' and state ~= 'r' then return {'done', 0, ''} end
if ARGV[5] == '0' then
  local lease = redis.call('ZSCORE', KEYS[6], index)
  if lease and tonumber(lease) > tonumber(ARGV[2]) then return {'busy', 0, ''} end
end
local tried = tonumber(redis.call('HGET', KEYS[4], index) or '0')
local losses = redis.call('HGET', KEYS[5], index) or ''
set_state(index, 'r')
redis.call('ZADD', KEYS[6], tonumber(ARGV[2]) + tonumber(ARGV[3]), index)
redis.call('EXPIRE', KEYS[6], ARGV[6])
if tried >= tonumber(ARGV[4]) then return {'exhausted', tried, losses} end
redis.call('HSET', KEYS[4], index, tried + 1)
redis.call('EXPIRE', KEYS[4], ARGV[6])
return {'run', tried + 1, losses}
"""
)

# ARGV: index, lease_end_ms.  Returns 1 while the page is still ours to run.
RENEW = (
    _STATE
    + """
if state_of(ARGV[1]) ~= 'r' or not redis.call('ZSCORE', KEYS[6], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[6], ARGV[2], ARGV[1])
return 1
"""
)

# ARGV: index, letter (o/f), record JSON, ttl_s, now_ms.  First writer wins: returns 1 if this record was taken.
FINISH = (
    _STATE
    + """
local index = ARGV[1]
local state = state_of(index)
if state ~= 'q' and state ~= 'r' then return 0 end
if not redis.call('HGET', KEYS[1], 'state') then return 0 end
set_state(index, ARGV[2])
leave_flight(index)
local counter = 'ok'
if ARGV[2] == 'f' then
  local readable, record = pcall(cjson.decode, ARGV[3])
  local error = readable and type(record) == 'table' and record.error
  counter = 'failed:' .. tostring(type(error) == 'table' and error.type or 'Internal')
end
redis.call('HINCRBY', 'ocrfleet:counters', counter, 1)
redis.call('XADD', KEYS[7], '*', 'record', ARGV[3])
local ok = tonumber(redis.call('HINCRBY', KEYS[1], 'ok', ARGV[2] == 'o' and 1 or 0))
local failed = tonumber(redis.call('HINCRBY', KEYS[1], 'failed', ARGV[2] == 'f' and 1 or 0))
redis.call('HSET', KEYS[1], 'progress_ms', ARGV[5])
local done = ok + failed
if done >= tonumber(redis.call('HGET', KEYS[1], 'total')) then redis.call('HSET', KEYS[1], 'finished_ms', ARGV[5]) end
if done % 64 == 1 or redis.call('HEXISTS', KEYS[1], 'finished_ms') == 1 then
  keep(ARGV[4])
  redis.call('EXPIRE', 'ocrfleet:counters', 2592000)
end
return 1
"""
)

# ARGV: index, cause.  A process was lost over this page; its lease ends now.
LOSE = (
    _STATE
    + """
if state_of(ARGV[1]) ~= 'r' then return 0 end
local losses = redis.call('HGET', KEYS[5], ARGV[1])
redis.call('HSET', KEYS[5], ARGV[1], losses and (losses .. ',' .. ARGV[2]) or ARGV[2])
redis.call('EXPIRE', KEYS[5], redis.call('TTL', KEYS[1]))
redis.call('ZREM', KEYS[6], ARGV[1])
set_state(ARGV[1], 'q')
return 1
"""
)

# ARGV: index, now_ms.  Claims the right to send a stranded page again; returns its task JSON, or false if it is alive.
RECLAIM = (
    _STATE
    + """
local index = ARGV[1]
local state = state_of(index)
local lease = redis.call('ZSCORE', KEYS[6], index)
if state == 'r' then
  if lease and tonumber(lease) > tonumber(ARGV[2]) then return false end
elseif state ~= 'q' then
  return false
end
local entry = redis.call('HGET', KEYS[3], index)
if not entry then return false end
redis.call('ZREM', KEYS[6], index)
set_state(index, 'q')
local task = string.sub(entry, string.find(entry, ' ', 1, true) + 1)
redis.call('HSET', KEYS[3], index, ARGV[2] .. ' ' .. task)
return task
"""
)

# ARGV: ttl_s, index, index, ...  Failed pages become unfed again. Returns how many.
RETRY = (
    _STATE
    + """
local count = 0
for i = 2, #ARGV do
  if state_of(ARGV[i]) == 'f' then
    set_state(ARGV[i], '\\0')
    count = count + 1
  end
end
redis.call('HINCRBY', KEYS[1], 'failed', -count)
redis.call('HSET', KEYS[1], 'state', 'open')
redis.call('HDEL', KEYS[1], 'finished_ms')
keep(ARGV[1])
return count
"""
)

# ARGV: letter (o/f), index, index, ...  Pages whose record is already on disk (resume). Returns how many were news.
ADOPT = (
    _STATE
    + """
local count = 0
for i = 2, #ARGV do
  local state = state_of(ARGV[i])
  if state ~= 'o' and state ~= 'f' then
    set_state(ARGV[i], ARGV[1])
    leave_flight(ARGV[i])
    count = count + 1
  end
end
redis.call('HINCRBY', KEYS[1], ARGV[1] == 'o' and 'ok' or 'failed', count)
return count
"""
)

# ARGV: index, index, ...  Queued pages become unfed again (cancel: their messages are dropped). Returns how many.
UNFEED = (
    _STATE
    + """
local count = 0
for i = 1, #ARGV do
  if state_of(ARGV[i]) == 'q' then
    set_state(ARGV[i], '\\0')
    leave_flight(ARGV[i])
    count = count + 1
  end
end
return count
"""
)

# ARGV: total.  A job that has more pages than were counted is not finished yet.
GROW = """
local total = tonumber(redis.call('HGET', KEYS[1], 'total') or '-1')
if total < 0 or total >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'total', ARGV[1])
redis.call('HDEL', KEYS[1], 'finished_ms')
return 1
"""
