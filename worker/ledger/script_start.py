"""What all scripts of the ledger begin with: steps they share, and writes that a stranger's keys cannot stop."""

from __future__ import annotations

from worker.broker.whole import DROP_TOO_LARGE
from worker.redis_keys import OWNER_PREFIX

# One byte a page. 0x00 = not fed yet. Redis 6.2 replicates what a script did, not the script, only if asked to: it
# refuses writes after TIME otherwise; 7.0 always does.
START = (
    DROP_TOO_LARGE
    + f"\nlocal OWNER_PREFIX = {OWNER_PREFIX}"
    + """
if redis.replicate_commands then redis.replicate_commands() end
local EPOCH, TTL = ARGV[1], tonumber(ARGV[2])
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Whether a lease is held. None of ours is of more than an hour, and a minute: one until the year 33658 kept its page
-- busy for ever.
local function is_held(lease)
  local ends = tonumber(lease or '')
  return ends and ends > NOW and ends <= NOW + 3660000
end
-- redis.call, but a key of another type goes first: what it was of ours is gone already.
local function call(command, key, ...)
  local reply = redis.pcall(command, key, ...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err) end
  redis.call('UNLINK', key)
  return redis.call(command, key, ...)
end
-- Of the job's own hash: likewise, but of another type it raises.
local function own(field)
  local size = redis.pcall('HSTRLEN', KEYS[1], field)
  if type(size) == 'number' and size > 4096 then
    redis.call('HDEL', KEYS[1], field)
    return false
  end
  return redis.call('HGET', KEYS[1], field)
end
-- A field of a hash, false if there is none. Ours have a few KB; of a stranger's 90 MB a reply made 650. A server whose
-- users are of the version before refuses HSTRLEN: there it is read as before.
local function field_of(key, field)
  local size = redis.pcall('HSTRLEN', key, field)
  if type(size) == 'number' and size > 65536 then
    redis.call('HDEL', key, field)
    return false
  end
  return call('HGET', key, field)
end
local function text(number) return string.format('%.0f', number) end
-- The page of which FINISH said that this is its record. Not by cjson: 16 MB of records are 160 in Lua.
local function page_of(entry, record)
  local index = string.match(record, '"index":(%d+)')
  return index and field_of(KEYS[11], index) == entry and index
end
-- Gives `take` each entry that waits, and its page if FINISH noted that this is its record, oldest first, until it
-- returns false, or `last` comes. One at a time: a stream's entries may be any size. Returns whether that were all, of
-- 24,000: a feeder's window lets 20,000 wait.
local function all_waiting(last, take)
  local from = '-'
  for _ = 1, 24000 do
    local found = redis.pcall('XRANGE', KEYS[7], from, '+', 'COUNT', 1)
    local entry = not found.err and found[1]  -- nothing may follow the last id: asking for it is an error
    if not entry or entry[1] == last then return true end
    from = '(' .. entry[1]
    local page = #entry[2] == 2 and page_of(entry[1], entry[2][2])
    if take(entry, page) == false then return false end
  end
  return false
end
-- Returns the record's entry. A stream into which somebody put the last id there is takes no more, and behind one that
-- no clock says (of the year 33658, or later) it is full when he likes. Then it begins anew, with the records that
-- wait: 20,000, none above 256 KB (a page of 2,000 boxes has 200), and of the others 16 MB: copying 188 took Redis to
-- 684, where it was killed, and at the next record again. And none of a stream that takes more than 48: one entry of it
-- may be three times as much in here. What is written anew and had no page that named it is 'lost': somebody else may
-- have written it ahead of its page. Behind an id of a time to come it has room, and Redis' clock may have been put
-- right: there it begins anew only with all that waits, which few records and 8 MB make cheap to look at each time.
local function put_record(record)
  local reply = redis.pcall('XADD', KEYS[7], '*', 'record', record)
  local is_added = type(reply) ~= 'table' or not reply.err
  local came = is_added and tonumber(string.match(reply, '^%d+'))
  if is_added and came <= NOW + 86400000 then return reply end
  local has_room = is_added and came < 1e15
  if has_room and (redis.call('XLEN', KEYS[7]) > 1000 or is_too_large(KEYS[7], 8388608)) then return reply end
  local waiting, bytes, lost = {}, 0, nil
  local is_full = is_added or string.find(reply.err, 'XADD', 1, true) or string.find(reply.err, 'exhausted', 1, true)
  if not is_full and not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err) end
  if is_full and not drop_too_large(KEYS[7], 50331648) then
    local are_all = all_waiting(reply, function(entry, page)
      local pair = entry[2]
      local fits = #pair == 2 and #pair[1] + #pair[2] <= 262144
      if fits then
        pair.page = page
        waiting[#waiting + 1] = pair
        bytes = bytes + #pair[1] + #pair[2]
      end
      return (fits or not has_room) and #waiting < 20000 and bytes < 16777216
    end)
    if has_room and not are_all then return reply end
  end
  redis.call('UNLINK', KEYS[7], KEYS[11])
  for _, pair in ipairs(waiting) do
    lost = redis.call('XADD', KEYS[7], '*', pair[1], pair[2])
    if pair.page then redis.call('HSET', KEYS[11], pair.page, lost) end
  end
  if lost then redis.call('HSET', KEYS[11], 'lost', lost) end
  return redis.call('XADD', KEYS[7], '*', 'record', record)
end
-- What the hash holds as a number, or `default`: somebody else may have written a word there, or 1e308.
local function number(field, default)
  local found = tonumber(own(field) or '')
  if found and found > -1e15 and found < 1e15 then return found end
  return default
end
-- 14: what follows "ocrfleet:job:" in KEYS[1] is the job's name.
local NAME = string.sub(KEYS[1], 14)
local function state_of(index) return redis.call('GETRANGE', KEYS[2], index, index) end
local function set_state(index, letter) redis.call('SETRANGE', KEYS[2], index, letter) end
-- Also whether it is a hash: raises before anything is changed if not.
local JOB = own('state')
local function exists() return redis.call('EXISTS', KEYS[1]) == 1 end
-- Another job of the same name: forgotten and enqueued again, or another producer's. Of the version before, neither
-- the job nor its messages have an epoch.
local function is_other()
  return EPOCH ~= '*' and (own('epoch') or '') ~= EPOCH
end
-- redis_keys.py: blob_key. The first name is that of a job without an epoch, and of the version before.
local function blobs(index)
  local owner = string.sub(NAME, 1, OWNER_PREFIX) .. '.' .. (own('epoch') or '')
  return 'ocrfleet:blob:' .. NAME .. ':' .. index, 'ocrfleet:blob:' .. owner .. ':' .. index
end
-- Also where its size is gone: with a hash that somebody filled the sizes of all pages on their way went.
local function drop_blob(index)
  call('HDEL', KEYS[8], index)
  redis.call('UNLINK', blobs(index))
end
-- What is kept of a page only while it is queued or running.
local function leave_flight(index)
  for key = 3, 5 do call('HDEL', KEYS[key], index) end
  call('HDEL', KEYS[9], index, index .. ':call')
  call('ZREM', KEYS[6], index)
  drop_blob(index)
end
-- Pages that are queued or running. By the states, a MB at a time: names in a hash may be a stranger's, and 188 MB of
-- them in one reply took Redis above the limit where it is killed.
local function each_in_flight(act)
  local from, left = 0, 20000
  repeat
    local chunk = redis.call('GETRANGE', KEYS[2], from, from + 1048575)
    local at = string.find(chunk, '[qr]')
    while at and left > 0 do
      act(text(from + at - 1))
      at, left = string.find(chunk, '[qr]', at + 1), left - 1
    end
    from = from + #chunk
  until #chunk < 1048576 or left == 0
end
local function keep_blobs()
  each_in_flight(function(index)
    for _, blob in ipairs({blobs(index)}) do redis.call('EXPIRE', blob, TTL) end
  end)
end
-- Writes a hash that takes more than any of ours anew, with the fields that `find` gives to `ours`. Not without: who
-- fills it until little is left has our own take it above the bound, when he is gone.
local function keep_ours(key, find)
  if not is_too_large(key, 8388608) then return end
  local kept = {}
  find(function(field, value) if value and #value <= 256 then kept[#kept + 1] = {field, value} end end)
  redis.call('UNLINK', key)
  for _, pair in ipairs(kept) do redis.call('HSET', key, pair[1], pair[2]) end
end
-- What a stranger puts into keys that are asked field by field lived as long as their job, 275 MB of it: no other job
-- was fed. Ours have a few KB to 2 MB. The job's own hash keeps what we write there.
local function keep_small()
  for _, key in ipairs({4, 5, 8}) do
    keep_ours(KEYS[key], function(ours)
      each_in_flight(function(index) ours(index, field_of(KEYS[key], index)) end)
    end)
  end
  keep_ours(KEYS[11], function(ours)
    ours('lost', field_of(KEYS[11], 'lost'))
    local function name(entry, page) ours(page, page and entry[1]) end
    if not is_too_large(KEYS[7], 50331648) and all_waiting('', name) then return end
    -- More wait than can be looked at. By the names; a stranger may write many of such, so not above 16 MB: then none
    -- that waits is believed any more, and `resume --adopt` has their pages done again.
    if is_too_large(KEYS[11], 16777216) then
      ours('lost', '18446744073709551615-18446744073709551615')
      return
    end
    local noted = redis.call('HGETALL', KEYS[11])
    for i = 1, #noted, 2 do
      local is_page = #noted[i] <= 8 and string.find(noted[i], '^%d+$')
      if is_page and string.find(state_of(noted[i]), '[of]') then ours(noted[i], noted[i + 1]) end
    end
  end)
  drop_too_large(KEYS[10], 33554432)
  local stored = redis.pcall('MEMORY', 'USAGE', KEYS[1])
  if type(stored) ~= 'number' or stored < 16777216 then return end
  local ours, left = {}, 8388608
  for field in string.gmatch('total state ok failed created_ms kept_ms progress_ms finished_ms fed_ms epoch heir host '
    .. 'manifest version request list missed', '%S+') do
    local size = redis.pcall('HSTRLEN', KEYS[1], field)
    if type(size) == 'number' and size > 0 and size <= left then
      left = left - size
      ours[#ours + 1] = {field, redis.call('HGET', KEYS[1], field)}
    end
  end
  redis.call('UNLINK', KEYS[1])
  for _, pair in ipairs(ours) do redis.call('HSET', KEYS[1], pair[1], pair[2]) end
end
-- Every key of the job lives TTL seconds from now, and the index of jobs names it.
local function keep()
  for _, key in ipairs(KEYS) do redis.call('EXPIRE', key, TTL) end
  if call('HLEN', KEYS[8]) > 0 then keep_blobs() end
  call('ZADD', 'ocrfleet:jobs', 'NX', text(math.floor(number('created_ms', NOW) / 1000)), NAME)
  if redis.call('TTL', 'ocrfleet:jobs') < TTL then redis.call('EXPIRE', 'ocrfleet:jobs', TTL) end
end
-- Any activity does that, but no more often than once in a tenth of the TTL, or a minute: it costs a dozen commands.
-- Never of a job whose hash is gone: a new one, of no epoch, was another producer's job of that name for ever.
local function keep_now_and_then()
  if not exists() then return end
  local kept = number('kept_ms', 0)
  local is_listed = call('ZSCORE', 'ocrfleet:jobs', NAME)
  if NOW - kept >= math.min(60000, TTL * 100) or kept > NOW or not is_listed then
    keep_small()  -- first: a full server takes no other write of a script before one that makes room
    redis.call('HSET', KEYS[1], 'kept_ms', text(NOW))
    keep()
  end
end
-- One more page of the fleet's counters. What somebody else wrote there concerns no page: it begins anew.
local function tally(counter)
  local found = redis.pcall('HINCRBY', 'ocrfleet:counters', counter, 1)
  if type(found) == 'table' or found < 1 or found >= 1e15 then redis.pcall('HSET', 'ocrfleet:counters', counter, 1) end
end
-- One more, or fewer, page of a letter. What is no number is counted anew.
local FIELDS = {o = 'ok', f = 'failed'}
local function count(letter, by)
  local reply = redis.pcall('HINCRBY', KEYS[1], FIELDS[letter], text(by))
  if type(reply) ~= 'table' then return reply end
  local pages, from = 0, 0
  repeat
    local chunk = redis.call('GETRANGE', KEYS[2], from, from + 1048575)
    pages, from = pages + select(2, string.gsub(chunk, letter, '')), from + #chunk
  until #chunk == 0
  redis.call('HSET', KEYS[1], FIELDS[letter], text(pages))
  return pages
end
-- All pages of both letters, counted anew. Returns whether the hash said something else.
local function recount()
  local ok, failed, from = 0, 0, 0
  repeat
    local chunk = redis.call('GETRANGE', KEYS[2], from, from + 1048575)
    ok = ok + select(2, string.gsub(chunk, 'o', ''))
    failed = failed + select(2, string.gsub(chunk, 'f', ''))
    from = from + #chunk
  until #chunk < 1048576
  local differs = own('ok') ~= text(ok) or own('failed') ~= text(failed)
  if differs then redis.call('HSET', KEYS[1], 'ok', text(ok), 'failed', text(failed)) end
  if ok + failed < number('total', math.huge) then
    redis.call('HDEL', KEYS[1], 'finished_ms')
  elseif not own('finished_ms') then
    redis.call('HSET', KEYS[1], 'finished_ms', text(NOW))
  end
  return differs
end
"""
)
