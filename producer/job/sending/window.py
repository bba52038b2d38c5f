"""How much of a job may wait in Redis at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """How much may wait in Redis.

    Attributes:
        low: below this many messages (waiting + unacknowledged), feed... Jobs open at once share it (ledger/share.py).
        high: ...up to this many. Enough that no worker of a fleet of 50 waits for the producer; at about 1.5 KB a
            message, half a megabyte of Redis.
        uncollected: stop feeding while this many records wait to be collected: they, not the queue, are what would
            fill Redis.
        uncollected_bytes: likewise while they take this much: 1 KB for a page of a few words, 7 KB for a dense one.
        bytes: stop uploading while blobs of this size wait in Redis (``--transfer redis``); shared likewise. One page
            of a job always fits, however large.
        memory: stop feeding while this part of Redis's ``maxmemory`` is used, also by jobs that nobody collects or by
            other programs. Workers must always be able to write what they have done.
    """

    low: int = 128
    high: int = 256
    uncollected: int = 20_000
    uncollected_bytes: int = 40 << 20
    bytes: int = 48 << 20
    memory: float = 0.8
