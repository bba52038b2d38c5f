"""What sends the bytes of a job's pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from producer.job.upload import Uploader
from producer.web.store import Store, WebJob
from worker.ledger.ledger import Ledger

MOST_COPIED = 256 << 20
"""Of the service's temporary folder for a PDF in an archive; four are taken out at a time (turn_process)."""


@contextmanager
def uploader_of(
    ledger: Ledger, store: Store, name: str, job: WebJob, transfer: str, epoch: str
) -> Iterator[Uploader | None]:
    """What sends them; None if workers open them by their address."""
    if transfer == "uri" or job.sources:
        yield None
        return
    with Uploader(
        ledger,
        name,
        limit_side=job.limit_side,
        shrink=False,
        epoch=epoch,
        options=job.options,
        roots=store.folder(name).source_roots(),
        most_copied=MOST_COPIED,
    ) as uploader:
        yield uploader
