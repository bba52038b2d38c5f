"""Which pages' bytes must be uploaded: those that were never fed, and those in flight whose bytes are gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from producer.job.manifest import ManifestLine
from worker.broker import blobs
from worker.ledger.ledger import Ledger
from worker.redis_keys import JobKeys

_UNFED, _IN_FLIGHT = b"\0", b"qr"


def unsent(ledger: Ledger, job: str, lines: Iterable[ManifestLine], epoch: str) -> list[ManifestLine]:
    """Of a few manifest lines those whose bytes must be uploaded.

    Pages in flight whose blob is gone (it expired, the broker was emptied) are among them: a message that is delivered
    again must find it. Lines need not be consecutive: beside a watched folder those that a collector adds are not.
    """
    stated = [pair for run in _runs(lines) for pair in zip(run, _states(ledger, job, run), strict=True)]
    lost = blobs.missing(ledger.client, job, [line.index for line, state in stated if state in _IN_FLIGHT], epoch)
    return [line for line, state in stated if state == _UNFED[0] or line.index in lost]


def _states(ledger: Ledger, job: str, run: list[ManifestLine]) -> bytes:
    states: bytes = ledger.client.getrange(JobKeys.of(job).state, run[0].index, run[-1].index)
    return states.ljust(len(run), _UNFED)


def _runs(lines: Iterable[ManifestLine]) -> Iterator[list[ManifestLine]]:
    """Lines of which each is the one behind the last."""
    run: list[ManifestLine] = []
    for line in lines:
        if run and line.index != run[-1].index + 1:
            yield run
            run = []
        run.append(line)
    if run:
        yield run
