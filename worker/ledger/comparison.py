"""A job in Redis compared with the records on its collector's disk, and put right where they differ.

One wrong byte or number in a job's keys, written once by whoever had a worker's password, held the job for ever, or
ended it without its records. Who holds the records on disk is right about them. Nobody waits for this look: it is
taken when a job says that it is finished, and when nothing moved for a while (producer/job/loop.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

import msgspec
from redis.exceptions import ResponseError

from worker.broker.wrong_types import is_wrong_type
from worker.ledger.ledger import STATE_CHUNK, JobReplacedError, JobStatus, Ledger, chunked
from worker.ledger.script_start import START
from worker.redis_keys import JobKeys

MOST_TRIES = 3
"""So often a page whose record got lost is done again; then it gets a failed one. Its record may be one that no
collector takes."""

TASKS_ASKED = 20

OnDisk = Callable[[int, int], bytes]
_BLOCK = 4096
_UNFED, _QUEUED, _RUNNING, _OK, _FAILED = b"\0qrof"
# Where nothing is known of what is on disk: states that any page may have stay, the others are looked at.
_ANY = bytes(byte if byte in (_UNFED, _OK, _FAILED) else 0xFF for byte in range(256))

# ARGV 3: created_ms, 4: pages ('0': not known here), 5: 1 if nothing may change while records wait, 6: 1 to count anew;
# then index, the state that was seen, the one instead ('?': unfed, if it cannot be), index, ...
# Returns {how much was wrong, the first page that became unfed or -1}; false for another job of this name.
PUT_RIGHT = (
    START
    + """
if not exists() then return {0, -1} end
local wrong, first = 0, -1
if is_other() then
  if own('created_ms') ~= ARGV[3] then return false end
  redis.call('HSET', KEYS[1], 'epoch', EPOCH)
  wrong = 1
elseif EPOCH ~= '' and own('created_ms') ~= ARGV[3] then
  redis.call('HSET', KEYS[1], 'created_ms', ARGV[3])
  wrong = 1
end
if JOB ~= 'open' and JOB ~= 'cancelled' then
  redis.call('HSET', KEYS[1], 'state', 'open')
  wrong = 1
end
if ARGV[5] == '1' and call('XLEN', KEYS[7]) > 0 then return {1, -1} end
local pages = tonumber(ARGV[4])
if pages > 0 and pages == number('total', 0) then
  if state_of(pages - 1) == '' then
    set_state(pages - 1, '\\0')
    wrong = 1
  elseif state_of(pages) ~= '' then
    redis.call('SET', KEYS[2], redis.call('GETRANGE', KEYS[2], 0, pages - 1))
    wrong = 1
  end
end
-- A page is on its way while it has a task of this job or a live lease; all others have no task.
local function cannot_be(index, state)
  local entry = field_of(KEYS[3], index)
  if state ~= 'q' and state ~= 'r' then return entry end
  if is_held(call('ZSCORE', KEYS[6], index)) then return false end
  local space = string.find(entry or '', ' ', 1, true)
  local readable, task = pcall(cjson.decode, space and string.sub(entry, space + 1) or '')
  return not readable or type(task) ~= 'table' or (task.epoch or '') ~= (own('epoch') or '')
end
for i = 7, #ARGV, 3 do
  local index, seen, instead = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local state = state_of(index)
  if state == '' then state = '\\0' end
  if state == seen and (instead ~= '?' or cannot_be(index, state)) then
    if instead == '?' then instead = '\\0' end
    set_state(index, instead)
    leave_flight(index)
    if instead == '\\0' and first < 0 then first = tonumber(index) end
    wrong = wrong + 1
  end
end
if ARGV[6] == '1' and recount() then wrong = wrong + 1 end
if wrong > 0 then keep() end
return {wrong, first}
"""
)


class Found(NamedTuple):
    """What a look found.

    Attributes:
        wrong: whether anything was.
        unfed: the first page that must be fed (again); -1 if none.
        lost: pages, unfed now, whose record got lost each time: they are to get a failed one.
    """

    wrong: bool
    unfed: int = -1
    lost: tuple[int, ...] = ()


class Comparison:
    """Compares one job; remembers which it is, and how often each of its pages was done again."""

    def __init__(self, ledger: Ledger, job: str, status: JobStatus) -> None:
        """Ask nothing yet.

        Args:
            ledger: of the broker.
            job: its name.
            status: as the caller found it; what tells it from others of that name is in there.
        """
        self._ledger = ledger
        self._keys = JobKeys.of(job)
        self._job = job
        self.epoch = status.epoch
        self._created_ms = f"{status.created_s * 1000:.0f}"
        self._tries = bytearray()
        self._fits, self._dropped = True, False
        self._script = ledger.client.register_script(PUT_RIGHT)

    def tasks_tell(self, epoch: str) -> bool:
        """Whether one of the job's pages on their way was fed with this epoch."""
        told = b'"epoch":' + msgspec.json.encode(epoch)
        some = islice(self._ledger.in_flight(self._job), TASKS_ASKED)
        return any(told in (self._ledger.client.hget(self._keys.tasks, str(index)) or b"") for index in some)

    def put_identity_right(self) -> bool:
        """Somebody wrote another epoch, or another time. Returns whether one was wrong.

        Until its epoch is right no step of a job is taken; by a wrong time its results file is another job's.

        Raises:
            JobReplacedError: the job is another one, begun at another time.
        """
        return self._call(0, False, False, [])[0]

    def put_right(
        self,
        status: JobStatus,
        on_disk: OnDisk | None,
        *,
        pages: int,
        all_pages: bool,
        redo: bool,
        before: Callable[[], None] = lambda: None,
    ) -> Found:
        """Compare, and change what is wrong. Reads only, where nothing is.

        Args:
            status: of the job, as it is now.
            on_disk: what the records on disk say of the pages from an index to another: `o`, `f` or 0 for each. None:
                nobody collects here.
            pages: of the job, as far as is known here.
            all_pages: they are all, by the job's manifest.
            redo: done pages without a record on disk are done again: nobody else has it.
            before: called before anything is changed; whoever may not change it raises.

        Raises:
            JobReplacedError: see `put_identity_right`.
        """
        self._fits, self._dropped = True, False
        ok, failed, changed = 0, 0, False
        unfed: list[int] = []
        before_unfed: list[int] = []
        lost: list[int] = []
        for begin, states in self._states(pages):
            ok, failed = ok + states.count(_OK), failed + states.count(_FAILED)
            if (place := states.find(_UNFED)) >= 0:
                before_unfed.append(begin + place)
            for changes in chunked(self._changes(states, begin, on_disk, redo=redo, lost=lost), 500):
                before()
                one_changed, first = self._call(pages * all_pages, on_disk is not None, False, changes)
                changed |= one_changed
                unfed += [first] * (first >= 0)
        is_told = self._ledger.client.hget(self._keys.job, "state") in (b"open", b"cancelled")
        same = (ok, failed, self.epoch) == (status.ok, status.failed, status.epoch) and is_told
        if changed or not same or (all_pages and not self._fits):
            before()
            changed |= self._call(pages * all_pages, on_disk is not None, True, [])[0]
        if redo or unfed:  # elsewhere its producer may be at work
            unfed += before_unfed
        return Found(changed or self._dropped, min(unfed, default=-1), tuple(lost))

    def _states(self, pages: int) -> Iterator[tuple[int, bytes]]:
        """The states, a MB at a time, and where each begins; those that are not there are unfed."""
        for begin in range(0, pages, STATE_CHUNK):
            size = min(STATE_CHUNK, pages - begin)
            found = self._bytes(begin, begin + size)  # one more, which only the last must not have
            self._fits &= len(found) == size + (begin + size < pages)
            yield begin, found[:size].ljust(size, b"\0")

    def _bytes(self, begin: int, last: int) -> bytes:
        client = self._ledger.client
        try:
            return bytes(client.getrange(self._keys.state, begin, last)[: last + 1 - begin])
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            client.unlink(self._keys.state)
            self._dropped = True
            return b""

    def _changes(
        self, states: bytes, begin: int, on_disk: OnDisk | None, *, redo: bool, lost: list[int]
    ) -> Iterator[tuple[int, int, bytes]]:
        """What may be wrong of these pages: index, state, and what it should be."""
        known = on_disk(begin, begin + len(states)) if on_disk is not None else b""
        known += states[len(known) :].translate(_ANY)
        # After the states: a page that is done has left it.
        flying = {index - begin for index in self._ledger.in_flight(self._job)}
        blocks = {place // _BLOCK for place in flying}
        for first in range(0, len(states), _BLOCK):
            last = first + _BLOCK
            if states[first:last] == known[first:last] and first // _BLOCK not in blocks:
                continue
            for place, (state, mark) in enumerate(zip(states[first:last], known[first:last], strict=True), first):
                instead = _instead(state, mark, redo=redo, flies=place in flying)
                if instead == b"\0" and state in (_OK, _FAILED) and self._is_lost(begin + place):
                    lost.append(begin + place)
                if instead:
                    yield begin + place, state, instead

    def _is_lost(self, index: int) -> bool:
        """Whether a done page without its record was done often enough."""
        self._tries.extend(bytes(max(0, index + 1 - len(self._tries))))
        self._tries[index] = tries = min(self._tries[index] + 1, 255)
        return tries > MOST_TRIES

    def _call(self, pages: int, waits: bool, counts: bool, changes: list[tuple[int, int, bytes]]) -> tuple[bool, int]:
        args = [word for index, state, instead in changes for word in (index, bytes([state]), instead)]
        reply = self._script(
            keys=list(self._keys),
            args=[self.epoch, self._ledger.ttl_s, self._created_ms, pages, int(waits), int(counts), *args],
        )
        if reply is None:
            raise JobReplacedError(self._job)
        return reply[0] > 0, int(reply[1])


def _instead(state: int, mark: int, *, redo: bool, flies: bool) -> bytes:
    """What a page's state should be; `?` if that is to be looked at, nothing if it is well as it is.

    Args:
        state: in Redis.
        mark: on disk (`o`, `f`, 0), 0xFF where that is not known.
        redo: nobody else has records of this job.
        flies: it has a task.
    """
    if state in (_QUEUED, _RUNNING):
        return b"o" if mark == _OK else b"?"
    if mark == _OK:
        return b"" if state == mark else b"o"
    if state == _UNFED:  # to be fed; with a failed record on disk: a retry
        return b"?" if flies else b""
    if state not in (_OK, _FAILED):  # no state at all
        return b"f" if mark == _FAILED else b"\0"
    if state == mark:
        return b""
    if not redo:
        return b"?" if flies and mark != _FAILED else b""
    return b"f" if mark == _FAILED else b"\0"  # the record of a retry was lost, or that of the page
