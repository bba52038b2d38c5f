"""A fleet job's pages are sent by one process at a time: `resume` and `collect --follow` may be at it side by side.

Each makes a page ready in its own form: alone, whole, smaller. The message was the one's, and the bytes the other's.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.upload import Uploader
from producer.no_links import no_links
from worker.ledger.ledger import Ledger


@contextmanager
def sending_turn(folder: OutputFolder) -> Iterator[bool]:
    """Whether nobody else sends this job's pages. A killed process frees it; without locks there nobody is held up."""
    with ExitStack() as stack:
        mine = True
        with suppress(OSError):
            handle = stack.enter_context(open(folder.private / "sending", "w", opener=no_links))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                mine = False
        yield mine


@contextmanager
def uploader_of(ledger: Ledger, folder: OutputFolder, request: JobRequest, epoch: str) -> Iterator[Uploader | None]:
    """What uploads a job's pages, None if workers open them themselves."""
    if request.transfer != "redis":
        yield None
        return
    with Uploader(
        ledger,
        request.job,
        limit_side=request.limit_side,
        shrink=request.shrink,
        options=request.options,
        epoch=epoch,
        roots=folder.source_roots(),
    ) as uploader:
        uploader.turn = partial(sending_turn, folder)
        yield uploader
