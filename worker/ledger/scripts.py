"""The ledger's atomic steps, as Lua that Redis runs in one piece. ``ledger.py`` documents the keys they touch.

Here are those of single pages; those of a whole job are in ``job_scripts.py``.

All scripts take the same KEYS, in the order of ``redis_keys.JobKeys``:
1 job hash, 2 state bytes, 3 tasks, 4 attempts, 5 losses, 6 leases, 7 results stream, 8 sizes of blobs,
9 holders, 10 the list of pages, 11 entries of done pages in the stream (versions to come may add more at the end);
and begin with the same two ARGV: 1 the job's epoch as the caller knows it (``*``: whichever), 2 ttl_s.

Whoever has a worker's password may write anything into these keys, and Lua takes nothing back when a command is
refused half way. So each script first reads the job's hash and its states, which raises if they are of another type
(there is no job without them); then it writes by `call`, which drops any other key of another type, and reads numbers
by `number`; a page's record goes before all else that is written of it.

Time is Redis' own (``TIME``): leases and lifetimes are compared across machines, whose clocks may be a day apart.
"""

from worker.ledger.script_start import START as _STATE

# ARGV 3: index, task JSON, index, task JSON, ...  Returns the indices that are newly queued, false for another job.
FEED = (
    _STATE
    + """
if is_other() then return false end
if JOB ~= 'open' then return {} end
local total = number('total', 0)
local fresh, tasks, calls = {}, {}, {}
for i = 3, #ARGV, 2 do
  local index = ARGV[i]
  local state = state_of(index)
  if (state == '\\0' or state == '') and tonumber(index) < total then
    fresh[#fresh + 1], tasks[#tasks + 1], calls[#calls + 1] = index, ARGV[i + 1], index .. ':call'
  end
end
-- What stands there of a page that nobody has fed is none of ours: tries and losses, written once, were those of files
-- that came later. Its blob alone comes before. 500: Lua passes on no more than some thousand values.
for from = 1, #fresh, 500 do
  local last = math.min(from + 499, #fresh)
  call('HDEL', KEYS[4], unpack(fresh, from, last))
  call('HDEL', KEYS[5], unpack(fresh, from, last))
  call('ZREM', KEYS[6], unpack(fresh, from, last))
  call('HDEL', KEYS[9], unpack(fresh, from, last))
  call('HDEL', KEYS[9], unpack(calls, from, last))
  call('HDEL', KEYS[11], unpack(fresh, from, last))
end
for place, index in ipairs(fresh) do
  set_state(index, 'q')
  call('HSET', KEYS[3], index, text(NOW) .. ' ' .. tasks[place])
end
redis.call('HSET', KEYS[1], 'fed_ms', text(NOW))
redis.call('EXPIRE', KEYS[3], TTL)
keep_now_and_then()
return fresh
"""
)

# ARGV 3: index, lease_ms, max_attempts, redelivered (0/1), who runs it ('': does not say), a word of this call alone.
# Returns {verdict, attempts, losses}: run | done | cancelled | unknown | busy | exhausted | stale.
BEGIN = (
    _STATE
    + """
if not JOB then return {'unknown', 0, ''} end
if is_other() then return {'stale', 0, ''} end
if JOB == 'cancelled' then return {'cancelled', 0, ''} end
local index = ARGV[3]
local state = state_of(index)
if state ~= 'q' and state ~= 'r' then return {'done', 0, ''} end
-- Whose answer was lost with the connection asks again, and must not be told that it is busy itself.
local again = string.match(field_of(KEYS[9], index .. ':call') or '', '^(%a+) ' .. ARGV[8] .. '$')
if ARGV[6] == '0' and not again then
  if is_held(call('ZSCORE', KEYS[6], index)) then return {'busy', 0, ''} end
end
local tried = tonumber(field_of(KEYS[4], index) or '') or 0
if not (tried >= 0 and tried < 1e15) then tried = 0 end
local losses = field_of(KEYS[5], index) or ''
set_state(index, 'r')
call('ZADD', KEYS[6], NOW + tonumber(ARGV[4]), index)
redis.call('EXPIRE', KEYS[6], TTL)
if ARGV[7] == '' then
  call('HDEL', KEYS[9], index)
else
  call('HSET', KEYS[9], index, ARGV[7])
end
keep_now_and_then()
local verdict = again or (tried >= tonumber(ARGV[5]) and 'exhausted' or 'run')
if verdict == 'run' and not again then
  tried = tried + 1
  call('HSET', KEYS[4], index, tried)
  redis.call('EXPIRE', KEYS[4], TTL)
end
call('HSET', KEYS[9], index .. ':call', verdict .. ' ' .. ARGV[8])
redis.call('EXPIRE', KEYS[9], TTL)
return {verdict, tried, losses}
"""
)

# ARGV 3: index, lease_ms.  Returns 1 while the page is still ours to run.
RENEW = (
    _STATE
    + """
if is_other() then return 0 end
if state_of(ARGV[3]) ~= 'r' or not call('ZSCORE', KEYS[6], ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[6], NOW + tonumber(ARGV[4]), ARGV[3])
keep_now_and_then()
return 1
"""
)

# ARGV 3: index, letter (o/f), record JSON.  First writer wins: returns 1 if this record was taken.
FINISH = (
    _STATE
    + """
local index = ARGV[3]
local state = state_of(index)
if state ~= 'q' and state ~= 'r' then return 0 end
if not JOB or is_other() then return 0 end
-- By its entry the record is told from others of the page: whoever has our password may write some before it is done.
-- None is needed while none waits, and a collector of the version before takes none away.
if call('XLEN', KEYS[7]) == 0 and call('HLEN', KEYS[11]) > 1024 then redis.call('UNLINK', KEYS[11]) end
local entry = put_record(ARGV[5])
redis.call('EXPIRE', KEYS[7], TTL)
set_state(index, ARGV[4])
leave_flight(index)
call('HSET', KEYS[11], index, entry)
redis.call('EXPIRE', KEYS[11], TTL)
local counter = 'ok'
if ARGV[4] == 'f' then
  local readable, record = pcall(cjson.decode, ARGV[5])
  local error = readable and type(record) == 'table' and record.error
  counter = 'failed:' .. tostring(type(error) == 'table' and error.type or 'Internal')
end
tally(counter)
local done = count('o', ARGV[4] == 'o' and 1 or 0) + count('f', ARGV[4] == 'f' and 1 or 0)
redis.call('HSET', KEYS[1], 'progress_ms', text(NOW))
if done >= number('total', math.huge) then
  redis.call('HSET', KEYS[1], 'finished_ms', text(NOW))
  redis.call('EXPIRE', 'ocrfleet:counters', 2592000)
  keep()
elseif done % 64 == 1 then
  redis.call('EXPIRE', 'ocrfleet:counters', 2592000)
end
keep_now_and_then()
return 1
"""
)

# ARGV 3: index, entry, index, entry, ...  Returns for each entry its page's state, '' if it is not the page's record.
# Where FINISH noted another, that waits, it is not. One that does not wait is an earlier try's, or a worker of the
# version before has written the stream anew: neither it nor its collector knows KEYS[11]. Where none is noted the state
# alone tells, but of what was written anew.
DONE = (
    _STATE
    + """
local function is_behind(one, other)
  local first, second = {string.match(one, '^(%d+)-(%d+)$')}, {string.match(other, '^(%d+)-(%d+)$')}
  for part = 1, #second do
    local a, b = first[part] or '', second[part]
    if a ~= b then return #a > #b or (#a == #b and a > b) end
  end
  return #second == 0
end
local found = {}
local lost = field_of(KEYS[11], 'lost')
for i = 3, #ARGV, 2 do
  local state = call('GETRANGE', KEYS[2], ARGV[i], ARGV[i])
  local entry, noted = ARGV[i + 1], field_of(KEYS[11], ARGV[i])
  if noted and noted ~= entry then
    local waits = redis.pcall('XRANGE', KEYS[7], noted, noted)
    if not waits.err and #waits > 0 then state = '' end
  elseif not noted and lost and not is_behind(entry, lost) then
    state = ''
  end
  found[#found + 1] = state
end
return found
"""
)

# ARGV 3: index, cause.  A process was lost over this page; its lease ends now.
LOSE = (
    _STATE
    + """
if is_other() or state_of(ARGV[3]) ~= 'r' then return 0 end
local losses = field_of(KEYS[5], ARGV[3])
redis.call('HSET', KEYS[5], ARGV[3], losses and (losses .. ',' .. ARGV[4]) or ARGV[4])
redis.call('EXPIRE', KEYS[5], TTL)
call('ZREM', KEYS[6], ARGV[3])
call('HDEL', KEYS[9], ARGV[3])
set_state(ARGV[3], 'q')
return 1
"""
)

# ARGV 3: index, a holder known to be dead ('': none).  Claims the right to send a stranded page again; returns its task
# JSON, or false if it is alive.
RECLAIM = (
    _STATE
    + """
if not exists() then return false end
local index = ARGV[3]
local state = state_of(index)
local lease = call('ZSCORE', KEYS[6], index)
if state == 'r' then
  local dead = ARGV[4] ~= '' and field_of(KEYS[9], index) == ARGV[4]
  if is_held(lease) and not dead then return false end
elseif state ~= 'q' then
  call('ZREM', KEYS[6], index)  -- nobody's: enough of them would hide those that have lapsed
  -- Of no page of the job: enough tasks fill its share of the window. Of its pages they stay: where somebody wrote
  -- another state, they tell that the page was fed (comparison.py).
  if state == '' and tonumber(index) >= number('total', math.huge) then leave_flight(index) end
  return false
end
local entry = field_of(KEYS[3], index)
if not entry then
  redis.call('ZREM', KEYS[6], index)
  -- Its worker is gone, and somebody dropped its task: its producer, or `resume`, feeds it again.
  if state == 'r' then set_state(index, '\\0') end
  return false
end
local space = string.find(entry, ' ', 1, true)
redis.call('ZREM', KEYS[6], index)
if not space then  -- none of ours: the caller takes the page back to unfed
  set_state(index, 'q')
  return ''
end
call('HDEL', KEYS[9], index)
set_state(index, 'q')
local task = string.sub(entry, space + 1)
redis.call('HSET', KEYS[3], index, text(NOW) .. ' ' .. task)
keep_now_and_then()
return task
"""
)

# ARGV 3: index, entry of its failed record in the results stream ('' if it was collected), index, entry, ...
# Failed pages become unfed again, and their uncollected records go, in one step. Returns how many (false: another job).
RETRY = (
    _STATE
    + """
if not exists() then return 0 end
if is_other() then return false end
local retried = 0
for i = 3, #ARGV, 2 do
  if state_of(ARGV[i]) == 'f' then
    set_state(ARGV[i], '\\0')
    if ARGV[i + 1] ~= '' then call('XDEL', KEYS[7], ARGV[i + 1]) end
    -- Of a page that failed after the caller looked. pcall: somebody else may have written what is no entry.
    redis.pcall('XDEL', KEYS[7], field_of(KEYS[11], ARGV[i]) or '0-0')
    call('HDEL', KEYS[11], ARGV[i])
    retried = retried + 1
  end
end
count('f', 0 - retried)
redis.call('HDEL', KEYS[1], 'finished_ms')
redis.call('HSET', KEYS[1], 'state', 'open')
keep()
return retried
"""
)

# ARGV 3: index, index, ...  Done pages whose record nobody has any more become unfed again. Returns as RETRY.
REDO = (
    _STATE
    + """
if not exists() then return 0 end
if is_other() then return false end
-- Below, 0 - x: Lua writes -0 for the negative of none, and Redis does not read that.
local lost = {o = 0, f = 0}
for i = 3, #ARGV do
  local state = state_of(ARGV[i])
  if lost[state] then
    set_state(ARGV[i], '\\0')
    lost[state] = lost[state] + 1
  end
end
count('o', 0 - lost.o)
count('f', 0 - lost.f)
if lost.o + lost.f > 0 then redis.call('HDEL', KEYS[1], 'finished_ms') end
keep()
return lost.o + lost.f
"""
)

# ARGV 3: letter (o/f), first, last, first, last, ...  Pages whose record is already on disk (resume). Returns how many
# were news. Where nobody fed any page from first to last they become it in one write: one by one they were 7 us each.
ADOPT = (
    _STATE
    + """
if not exists() or is_other() then return 0 end
local news = 0
for i = 4, #ARGV, 2 do
  local first, last = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  local pages = last - first + 1
  if redis.call('GETRANGE', KEYS[2], ARGV[i], ARGV[i + 1]) == string.rep('\\0', pages) then
    set_state(ARGV[i], string.rep(ARGV[3], pages))
    news = news + pages
  else
    for page = first, last do
      local state = state_of(text(page))
      if state ~= 'o' and state ~= 'f' then
        set_state(text(page), ARGV[3])
        leave_flight(text(page))
        news = news + 1
      end
    end
  end
end
local done = count('o', ARGV[3] == 'o' and news or 0) + count('f', ARGV[3] == 'f' and news or 0)
if news > 0 and done >= number('total', math.huge) then
  redis.call('HSET', KEYS[1], 'finished_ms', text(NOW))
end
keep_now_and_then()
return news
"""
)

# ARGV 3: index, index, ...  Queued pages become unfed again (cancel: their messages are dropped). Returns how many.
UNFEED = (
    _STATE
    + """
if not exists() or is_other() then return 0 end
local unfed = 0
for i = 3, #ARGV do
  if state_of(ARGV[i]) == 'q' then
    set_state(ARGV[i], '\\0')
    leave_flight(ARGV[i])
    unfed = unfed + 1
  end
end
keep_now_and_then()
return unfed
"""
)
