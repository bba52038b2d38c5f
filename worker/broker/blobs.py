"""Page bytes that travel through Redis, for fleets without a shared disk (``--transfer redis``).

``ocrfleet:blob:J.E:I``     string  the bytes of page I of job J, which has the epoch E, with a TTL of its own
``ocrfleet:job:J:blobs``    hash    index -> bytes; pages whose blob waits or is in use (see ledger.py)

A blob lives from before its message is sent until the page's one record is written: the ledger's FINISH and ADOPT
remove both in the same step, so a message that is delivered again (lost worker, reconciliation) always finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import redis

from detector.errors import NotFound, TooLarge, UnsupportedFormat
from worker.broker.damaged_keys import replies
from worker.broker.large_values import FromFile, SourceLostError, set_from_file
from worker.broker.whole import read_fields, read_values
from worker.broker.wrong_types import is_wrong_type
from worker.messages import JOB_NAME, MAX_BLOB_BYTES
from worker.redis_keys import JobKeys, blob_key, blob_owner, number_in, page_in, split_owner
from worker.storage.spool import CutOff, write_chunks

SCHEME = "redis-blob"
# Of a job; its feeder's window has 256.
MOST_BLOBS = 1024
# Workers read piecewise: a 50 MB page must not cost a 256 MB worker 50 MB of Python bytes.
_CHUNK = 1 << 20


def blob_uri(job: str, index: int, epoch: str = "") -> str:
    """The URI a worker finds in its task."""
    return f"{SCHEME}://{blob_owner(job, epoch)}/{index}"


def split_uri(uri: str) -> tuple[str, int]:
    """Owner and index of a blob's URI.

    Raises:
        UnsupportedFormat: not one of ours.
    """
    parts = urlsplit(uri)
    index = page_in(parts.path.removeprefix("/").encode(errors="replace"))
    if parts.scheme != SCHEME or not JOB_NAME.match(parts.netloc) or index is None:
        raise UnsupportedFormat(f"not a blob's address: {uri:.200}")
    return parts.netloc, index


def _names(job: str, pages: Iterable[int], epoch: str) -> list[str]:
    """Of their blobs: the version before put them there without the job's epoch."""
    return [blob_key(job, page, of) for page in pages for of in dict.fromkeys(("", epoch))]


def put(
    client: redis.Redis, job: str, blobs: Mapping[int, bytes | FromFile], ttl_s: int, epoch: str = ""
) -> dict[int, str]:
    """Upload pages: those in memory in one round trip, then those in files, one by one.

    Returns:
        Why, of the pages that could not be read to their end: nothing of them is there.
    """
    sizes = JobKeys.of(job).blobs
    pipe = client.pipeline(transaction=True)
    for index, data in blobs.items():
        if isinstance(data, bytes):
            pipe.set(blob_key(job, index, epoch), data, ex=ttl_s)
        pipe.hset(sizes, str(index), len(data))  # before the bytes: whoever drops the job finds them by it
    pipe.expire(sizes, ttl_s)
    pipe.execute()
    lost = {}
    large = {index: data for index, data in blobs.items() if isinstance(data, FromFile)}
    try:
        for index, data in list(large.items()):
            try:
                set_from_file(client, blob_key(job, index, epoch), data, ttl_s)
                del large[index]
            except SourceLostError as error:
                lost[index] = str(error)
    except redis.ResponseError:
        remove(client, job, list(large), epoch)
        raise
    remove(client, job, list(lost), epoch)
    return lost


def missing(client: redis.Redis, job: str, indices: Sequence[int], epoch: str = "") -> set[int]:
    """Which pages have no blob (expired, or the broker was emptied)."""
    if not indices:
        return set()
    pipe = client.pipeline(transaction=False)
    for index in indices:
        pipe.exists(blob_key(job, index, epoch))
    return {index for index, there in zip(indices, pipe.execute(), strict=True) if not there}


def waiting_bytes(client: redis.Redis, jobs: Iterable[str]) -> int:
    """Bytes of all blobs of these jobs. Reads a number per page in flight, which the feed window bounds.

    A job with more than that was made up by somebody, and counts as none: 57 of them were 263 MB here. So does a size
    that no page's can be: one of 1,000,000,000 bytes kept every other job waiting.
    """
    names = list(jobs)
    pipe = client.pipeline(transaction=False)
    for job in names:
        pipe.hlen(JobKeys.of(job).blobs)
    waiting = 0
    for job, count in zip(names, replies(pipe), strict=True):
        if count and count <= MOST_BLOBS:
            waiting += sum(_sizes(client, job))
    return waiting


def own_bytes(client: redis.Redis, job: str, most: int, epoch: str = "") -> int:
    """As `waiting_bytes`, of the one job that the caller feeds, whatever else stands among its sizes.

    Args:
        client: connection to the broker.
        job: its name.
        most: with more than that, or of more pages than a feeder has on their way, strays are dropped.
        epoch: which job of that name.
    """
    sizes = _sizes(client, job)
    if sum(sizes) > most or len(sizes) > MOST_BLOBS:
        return drop_strays(client, job, epoch)
    return sum(sizes)


def _sizes(client: redis.Redis, job: str) -> list[int]:
    """What stands among the sizes of a job's blobs; 0 for what is no page's."""
    numbers = (number_in(size) or 0 for size in read_values(client, JobKeys.of(job).blobs))
    return [number if number <= MAX_BLOB_BYTES else 0 for number in numbers]


def drop_strays(client: redis.Redis, job: str, epoch: str = "") -> int:
    """Remove the blobs of pages that are not on their way. Returns the bytes of the others.

    Only for who feeds the job: a page's blob is there a moment before the page is queued.
    """
    keys = JobKeys.of(job)
    fields = read_fields(client, keys.blobs)
    pages = [page_in(field) for field in fields]
    pipe = client.pipeline(transaction=False)
    for page in pages:
        pipe.getrange(keys.state, page or 0, page or 0)
    states = pipe.execute()
    strays = [place for place, page in enumerate(pages) if page is None or states[place] not in (b"q", b"r")]
    for start in range(0, len(strays), MOST_BLOBS):
        some = strays[start : start + MOST_BLOBS]
        client.hdel(keys.blobs, *(fields[place] for place in some))
        if named := _names(job, (page for place in some if (page := pages[place]) is not None), epoch):
            client.unlink(*named)
    return sum(_sizes(client, job))


def fetch(client: redis.Redis, uri: str, target: Path) -> None:
    """Copy a blob to a file.

    Raises:
        NotFound: it expired, or never came, or something else stands in its place.
        CutOff: another took its place meanwhile.
        TooLarge: somebody else put it there.
        UnsupportedFormat: not a blob's URI.
        MachineFault: the file cannot be written.
    """
    owner, index = split_uri(uri)
    key, job = blob_key(owner, index), split_owner(owner)[0]
    try:
        size = write_chunks(_pieces(client, key), target)
        # Of one that went away between two pieces there was a part; STRLEN is not among what workers may ask.
        last = client.getrange(key, size - 1, size) if size else b""
    except redis.ResponseError as error:
        if not is_wrong_type(error):
            raise
        raise NotFound(
            f"somebody put another type where the uploaded bytes were: `ocr-producer retry {job}` sends them again"
        ) from None
    if not last and not client.exists(key):
        when = "while a worker read them" if size else "before a worker came"
        raise NotFound(f"the uploaded bytes expired {when}: `ocr-producer retry {job}` sends them again")
    if size and len(last) != 1:
        raise CutOff(uri, f"others took their place after {size:,} bytes")


def _pieces(client: redis.Redis, key: str) -> Iterator[bytes]:
    offset = 0
    while chunk := client.getrange(key, offset, offset + _CHUNK - 1):
        offset += len(chunk)
        if offset > MAX_BLOB_BYTES:  # no producer sends it: its worker's disk is not for strangers to fill
            raise TooLarge(
                f"{key}: more than the {MAX_BLOB_BYTES >> 20} MB that a page may have to travel through Redis"
            )
        yield chunk
        if len(chunk) < _CHUNK:
            break


def remove(client: redis.Redis, job: str, indices: Sequence[int], epoch: str = "", *, replaced: bool = False) -> None:
    """Remove these pages' blobs.

    Args:
        client: connection to the broker.
        job: its name.
        indices: the pages.
        epoch: which job of that name.
        replaced: another one has the name by now: the sizes there are its.
    """
    if not indices:
        return
    pipe = client.pipeline(transaction=True)
    pipe.unlink(*(blob_key(job, index, epoch) for index in indices))
    if not replaced:
        pipe.hdel(JobKeys.of(job).blobs, *map(str, indices))
    pipe.execute()


def discard(client: redis.Redis, job: str, epoch: str = "") -> int:
    """Remove all blobs of a job. Returns how many."""
    indices = read_fields(client, JobKeys.of(job).blobs)
    for start in range(0, len(indices), 1000):
        pages = (page_in(index) for index in indices[start : start + 1000])
        if keys := _names(job, (page for page in pages if page is not None), epoch):
            client.unlink(*keys)
    return len(indices)
