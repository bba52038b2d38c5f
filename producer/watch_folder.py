"""A job that never ends: what comes into a folder is detected, each file once, across restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from detector.cli.say import say
from producer.archive_process.limited_readers import limited_readers
from producer.errors import JobInterruptedError, OtherJobError
from producer.fleet_job import connect_fleet, feed_job
from producer.growing.alone import alone
from producer.growing.missed_elsewhere import make_whole
from producer.growing.new_pages import append_pages
from producer.growing.noted_done import begin_again, note_done
from producer.growing.settling import Settling, files_of
from producer.job.interrupt import terminated_like_ctrl_c
from producer.job.output_folder import FolderBusyError, JobRequest, OutputFolder, state_folder
from producer.local.job import run_local_job
from producer.local.known_results import KnownResults
from producer.sources.long_names import that_fit
from producer.sources.passed_over import PassedOver
from producer.sources.scan import scan_file
from producer.sources.walk import FoundFile, ScanStoppedError
from worker.ledger.ledger import chunked

T = TypeVar("T")
KEEP_ALIVE_S = 60.0
"""What was done since is read again where the broker loses the job."""

MOST_AT_ONCE = 10_000
"""Files that are taken before their pages are worked on: 10 MB of memory. A million of them, held at once, were 1.3 GB,
and nothing was done until all were counted."""


def watch_into_folder(root: Path, out: Path, request: JobRequest, *, poll_s: float, settle_s: float) -> None:
    """Detect on this machine; server and workers run while there is something to do.

    Raises:
        OtherJobError: ``out`` holds another job.
        JobInterruptedError: Ctrl-C or SIGTERM.
    """
    folder, known = OutputFolder(out), KnownResults()

    def detect() -> None:
        run_local_job(folder, request, quiet=True, known=known)

    _watch(root, folder, request, detect, lambda: None, poll_s=poll_s, settle_s=settle_s)


def watch_into_job(root: Path, request: JobRequest, *, poll_s: float, settle_s: float) -> None:
    """Feed the workers of OCRFLEET_REDIS_URL.

    Raises:
        OtherJobError: the broker or this machine knows another job of this name.
        JobInterruptedError: Ctrl-C or SIGTERM.
    """
    folder = state_folder(request.job)
    app, ledger = connect_fleet()
    if not folder.exists() and not folder.manifest.exists() and ledger.status(request.job) is not None:
        raise OtherJobError(f"job {request.job} was enqueued from another machine: choose another --job")

    def feed() -> None:
        if ledger.status(request.job) is None and folder.exists():
            begin_again(folder, ledger, request.job)
        feed_job(folder, request, app, ledger, watching=False, quiet=True)
        live_on()

    def live_on() -> None:
        note_done(folder, ledger, request.job)

    def before() -> None:
        make_whole(folder, ledger, request.job)

    _watch(root, folder, request, feed, live_on, before, poll_s=poll_s, settle_s=settle_s)


def _watch(
    root: Path,
    folder: OutputFolder,
    request: JobRequest,
    work: Callable[[], None],
    live_on: Callable[[], None],
    before: Callable[[], None] = lambda: None,
    *,
    poll_s: float,
    settle_s: float,
) -> None:
    """Every ``poll_s`` seconds: put what has settled for ``settle_s`` into the manifest, then do what is left.

    Pages are added after ``before``; ``live_on`` is called now and then.

    Killed before a file is in the manifest, it is found again; after that, its pages are in the job.
    """
    if folder.exists() and folder.request().sources != request.sources:
        raise OtherJobError(f"{folder.root} holds the job {folder.request().job} of other inputs: choose another")
    if not folder.exists() and folder.results.exists():
        raise OtherJobError(f"{folder.root} holds results of something else: choose another -o")

    def when_free(step: Callable[[], T]) -> T:
        """A `retry` in another terminal may hold the folder for a while."""
        told = False
        while True:
            try:
                return step()
            except FolderBusyError as error:
                if not told:
                    _warn(f"{error}; it is tried again")
                told = True
                time.sleep(poll_s)

    try:
        with terminated_like_ctrl_c(), alone(folder):
            with folder.locked() if folder.manifest.exists() else nullcontext():  # which makes the list of pages whole
                settling = Settling(root, files_of(folder.manifest), settle_s=settle_s, exclude=folder.root)
            if folder.manifest.exists():  # what an interruption left
                when_free(work)
            lived_on = time.monotonic()
            while True:
                for files in chunked(_settled(settling), MOST_AT_ONCE):
                    if added := when_free(partial(_add, folder, files, before)):
                        say(f"{request.job}: {added} new images from {len(files)} files")
                        when_free(work)
                if time.monotonic() - lived_on > KEEP_ALIVE_S:
                    lived_on = time.monotonic()
                    live_on()
                time.sleep(poll_s)
    except (KeyboardInterrupt, JobInterruptedError):
        raise JobInterruptedError(f"stopped watching {root}: the same command goes on") from None


def _settled(settling: Settling) -> Iterator[FoundFile]:
    """The files of one look; where it ends for a disk's or a network's sake, the next look goes on."""
    try:
        yield from settling.ready()
    except ScanStoppedError as error:
        _warn(f"{error}; it is looked at again")


def _add(folder: OutputFolder, files: Sequence[FoundFile], before: Callable[[], None]) -> int:
    """Put the files' pages into the manifest. Returns how many."""
    with folder.locked(), limited_readers() as readers:
        pages = (scan_file(found.path, found.name, readers, _warn) for found in files)
        return append_pages(folder.manifest, that_fit(chain.from_iterable(pages), PassedOver(), _warn), before)


def _warn(line: str) -> None:
    say(f"warning {line}")
