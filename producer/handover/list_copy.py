"""A job's list of pages in Redis, compressed, while the job is open: another machine can resume it.

``ocrfleet:job:J:manifest`` is a string of zlib streams, one behind the other, each of whole lines of the manifest. How
far it goes is in the job's hash (``list``), written in the same step. Whoever reads asks for pieces of ``PIECE``, so no
answer is larger, whatever stands there.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import msgspec
import redis

from detector.record import UNREADABLE
from producer.errors import ProducerError
from producer.job.output_folder import JobRequest, OutputFolder
from producer.results_there import open_there
from worker.broker.connection import takes_no_writes
from worker.broker.wrong_types import is_wrong_type
from worker.ledger.ledger import JobReplacedError, JobStatus, Ledger
from worker.redis_keys import JobKeys

FIELD = "list"
MOST_BYTES = 8 << 20
"""Compressed: 950,000 pages of numbered names (9 bytes each), 270,000 of random ones (30). A job of a million takes
5 MB of Redis without it, and must stay below 20."""

MOST_RAW = 256 << 20
"""Of the manifest itself: what a machine that takes the list over writes to its disk at most."""

BLOCK = 512 << 10
PIECE = 256 << 10
AGAIN_S = 5.0
LOOK_EVERY_S = 60.0
MOST_MARK = 200
TRIES = 9
"""Whoever ends after them was ahead of nobody: another process of this machine copies the rest."""

# KEYS: the job's hash, the copy.  ARGV: epoch, ttl_s, heir (job_epoch.py), place, data, how far it goes then, and
# before, the longest such mark.  Returns 1; 0 for a job that is another one, or another machine's, by now; -1 where
# another process of this machine has written meanwhile (a watched folder has its collector), or the copy does not end
# at the place.
_WRITE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local function is(field, text)  -- what a stranger's 190 MB are, three times as much in here
  local size = redis.pcall('HSTRLEN', KEYS[1], field)
  return (type(size) ~= 'number' or size == #text) and (redis.call('HGET', KEYS[1], field) or '') == text
end
if not is('epoch', ARGV[1]) or not is('heir', ARGV[3]) then return 0 end
if redis.call('HSTRLEN', KEYS[1], 'list') > tonumber(ARGV[8]) then redis.call('HDEL', KEYS[1], 'list') end  -- not ours
if not is('list', ARGV[7]) then return -1 end
local place = tonumber(ARGV[4])
if place == 0 then
  redis.call('UNLINK', KEYS[2])
else
  -- Another type, or another length than it had: a stranger was there, or this server has lost its last seconds.
  local last = redis.pcall('GETRANGE', KEYS[2], place - 1, place)
  if type(last) ~= 'string' or #last ~= 1 then
    redis.call('HDEL', KEYS[1], 'list')
    return -1
  end
end
redis.call('SETRANGE', KEYS[2], ARGV[4], ARGV[5])
redis.call('EXPIRE', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'list', ARGV[6])
return 1
"""


class Extent(msgspec.Struct, frozen=True):
    """How far a copy goes.

    Attributes:
        raw: bytes of the manifest that are in it.
        size: bytes of it; 0 beside a `raw` above 0: so long a list was too large to travel.
        crc: CRC-32 of those of the manifest.
    """

    raw: int = 0
    size: int = 0
    crc: int = 0


def extent(text: str | bytes) -> Extent:
    """What the hash says; nothing, if that is none of ours."""
    try:
        found = msgspec.json.decode(text, type=Extent)
    except UNREADABLE:
        return Extent()
    return found if 0 <= found.raw <= MOST_RAW and 0 <= found.size <= MOST_BYTES else Extent()


def copying(
    folder: OutputFolder, request: JobRequest, ledger: Ledger, status: JobStatus, warn: Callable[[str], None]
) -> Callable[[], None]:
    """What keeps a job's list on the broker up to date.

    Args:
        folder: of the job.
        request: the job. Where its pages' bytes are sent from this machine no other could go on with it.
        ledger: of the broker.
        status: the job there.
        warn: is told, once, if the list is too large to travel.
    """
    if request.transfer != "uri" or status.finished:
        return lambda: None
    copy = ListCopy(folder.manifest, ledger, request.job, epoch=status.epoch, heir=folder.heir, warn=warn)
    return copy.step


def unpacked(ledger: Ledger, job: str, there: Extent) -> Iterator[bytes]:
    """The manifest's bytes, as many as it says.

    Raises:
        NoListError: the copy is another than that, or none at all.
    """
    key, place, raw, crc = JobKeys.of(job).manifest, 0, 0, 0
    stream = zlib.decompressobj()
    while place < there.size:
        try:
            packed = ledger.client.getrange(key, place, min(place + PIECE, there.size) - 1)
        except redis.ResponseError as error:
            if not is_wrong_type(error):
                raise
            break
        if not packed:
            break
        place += len(packed)
        while packed:
            if stream.eof:
                stream = zlib.decompressobj()
            try:
                data = stream.decompress(packed, PIECE)
            except zlib.error as error:
                raise NoListError(f"the list of pages of {job} on the broker is damaged ({error})") from None
            packed = stream.unused_data if stream.eof else stream.unconsumed_tail
            raw, crc = raw + len(data), zlib.crc32(data, crc)
            if raw > min(there.raw, MOST_RAW):
                raise NoListError(f"the list of pages of {job} on the broker is larger than it says")
            yield data
    if (raw, crc) != (there.raw, there.crc):
        raise NoListError(f"the list of pages of {job} on the broker is damaged: {raw} of {there.raw} bytes")


@lru_cache(maxsize=8)  # which takes a second or two: once in a process, not for each file of a watched folder
def is_too_large(manifest: Path, said: int) -> bool:
    """Whether a list is too large to travel, as somebody has said of so many bytes of it: a stranger says so of any."""
    there = manifest.stat().st_size
    if there < said or said > MOST_RAW or there < MOST_BYTES // 2:  # what cannot be made smaller grows by 0.1 %
        return False
    size = 0
    with open_there(manifest) as stream:
        while size <= MOST_BYTES and stream.tell() <= MOST_RAW and (data := stream.read(BLOCK)):
            size += len(zlib.compress(data))
        return size > 0.99 * MOST_BYTES or stream.tell() > MOST_RAW  # a copy ends its blocks with lines


class ListCopy:
    """Keeps the copy up to date. Call :meth:`step` before pages are fed, and often: it looks at the file's size."""

    def __init__(
        self, manifest: Path, ledger: Ledger, job: str, *, epoch: str, heir: str, warn: Callable[[str], None]
    ) -> None:
        """Write nothing yet.

        Args:
            manifest: of the job.
            ledger: of the broker.
            job: its name.
            epoch: which job of that name.
            heir: which machine goes on with it (job_epoch.py).
            warn: is told, once, if the list is too large to travel.
        """
        self._manifest, self._ledger, self._job = manifest, ledger, job
        self._epoch, self._heir, self._warn = epoch, heir, warn
        self._keys = JobKeys.of(job)
        self._write = ledger.client.register_script(_WRITE)
        self._at = Extent()
        self._mark: bytes | None = None  # what the job's hash said of it
        self._given_up = False
        self._not_before = self._look_at = 0.0

    def step(self) -> None:
        """Copy what is new, if the broker takes it now.

        Raises:
            JobReplacedError: the job is another one, or another machine's, by now.
        """
        if self._given_up or time.monotonic() < self._not_before:
            return
        if time.monotonic() < self._look_at and self._manifest.stat().st_size <= self._at.raw:
            return
        try:
            for _ in range(TRIES):
                self._look()
                if self._given_up or self._copy():
                    return
        except redis.ResponseError as error:
            if not takes_no_writes(error):
                raise
            self._not_before = time.monotonic() + AGAIN_S

    def _look(self) -> None:
        """Where the copy ends: another process of this machine may have written, the server lost its last seconds."""
        mark = self._ledger.client.hget(self._keys.job, FIELD) or b""
        mark = mark if len(mark) <= MOST_MARK else b""
        late = time.monotonic() >= self._look_at
        if late:
            self._look_at = time.monotonic() + LOOK_EVERY_S
        if mark == self._mark and not (late and not self._is_there(self._at)):
            return
        self._mark, self._at = mark, self._begin(extent(mark))
        if self._at.raw and not self._at.size:  # once found too large: it has not become smaller since
            self._stay()

    def _begin(self, found: Extent) -> Extent:
        """What of the file is there already; nothing, where it is of another list (counted again before a retry)."""
        if not found.size:
            return found if found.raw and is_too_large(self._manifest, found.raw) else Extent()
        crc, place = (self._at.crc, self._at.raw) if self._at.raw <= found.raw else (0, 0)
        with open_there(self._manifest) as stream:
            stream.seek(place)
            while data := stream.read(min(found.raw - place, BLOCK)):
                crc, place = zlib.crc32(data, crc), place + len(data)
        return found if place == found.raw and crc == found.crc and self._is_there(found) else Extent()

    def _is_there(self, at: Extent) -> bool:
        """Whether the copy is what its mark says: all of a small one is read, of a large one where it ends."""
        try:
            if at.size <= PIECE:
                return all(True for _ in unpacked(self._ledger, self._job, at))
            return len(self._ledger.client.getrange(self._keys.manifest, at.size - 1, at.size)) == 1
        except NoListError:
            return False
        except redis.ResponseError as error:
            if not is_wrong_type(error):
                raise
            return False

    def _copy(self) -> bool:
        """Whether all is copied, or nothing more shall be."""
        with open_there(self._manifest) as stream:
            while True:
                stream.seek(self._at.raw)
                data = stream.read(BLOCK)
                data = data[: data.rfind(b"\n") + 1]  # what is half written comes later
                if not data:
                    return True
                packed = zlib.compress(data)
                raw, size = self._at.raw + len(data), self._at.size + len(packed)
                if raw > MOST_RAW or size > MOST_BYTES:
                    # For the next producer: for each file that came into a watched folder 8 MB were sent again, and
                    # dropped.
                    self._at = Extent()
                    if given_up := self._put(b"", Extent(raw=min(self._manifest.stat().st_size, MOST_RAW))):
                        self._stay()
                    return given_up
                if not self._put(packed, Extent(raw, size, zlib.crc32(data, self._at.crc))):
                    return False

    def _put(self, packed: bytes, at: Extent) -> bool:
        """Write this behind the copy. Whether that is still where, and as, it was.

        Raises:
            JobReplacedError: the job is another one, or another machine's, by now.
        """
        mark = msgspec.json.encode(at)
        args = [self._epoch, self._ledger.ttl_s, self._heir, self._at.size, packed, mark, self._mark or b"", MOST_MARK]
        written = self._write(keys=[self._keys.job, self._keys.manifest], args=args)
        if not written:
            raise JobReplacedError(self._job)
        if written == 1:
            self._mark, self._at = mark, at
        return bool(written == 1)

    def _stay(self) -> None:
        self._given_up = True
        self._warn(
            f"the list of pages takes over {MOST_BYTES >> 20} MB in Redis and stays here: only this machine can resume "
            f"{self._job}"
        )


def drop(ledger: Ledger, job: str) -> None:
    """The list is needed no more."""
    keys = JobKeys.of(job)
    ledger.client.hdel(keys.job, FIELD)
    ledger.client.unlink(keys.manifest)


def drop_if_complete(ledger: Ledger, status: JobStatus, collected: int) -> None:
    """A job whose every record is on somebody's disk needs no list in Redis."""
    if status.finished and not (status.uncollected or status.in_flight) and collected >= status.total:
        drop(ledger, status.job)


class NoListError(ProducerError):
    """A job's list of pages cannot be had from the broker. The message says why."""
