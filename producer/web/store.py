"""The service's folder: one sub folder a job, which appears whole or not at all.

``incoming/``  uploads that have not been accepted; removed at start (moved aside, where others could write to them)
``jobs/NAME``  accepted: ``upload/``, ``web.json``, and what every output folder holds (results.jsonl, manifest.jsonl)
``trash/``     deleted jobs on their way out; removed at start
``exports/``   results on their way to a client in another format; removed at start
``temporary/`` what this process and those beside it unpack for a moment; no part of the quota; emptied at start
``models/``    exports of models (`producer.web.models`)
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from detector.atomic import sync_to_disk
from detector.record import UNREADABLE
from producer.folder_tree import entries_below, remove_tree
from producer.held_folder import as_named
from producer.job.output_folder import OutputFolder, write_atomically
from producer.no_links import hold_own, keep_from_others, keep_tree_from_others, own_below, read_small
from producer.web.bounds.room import ENTRY_BYTES, Room
from producer.web.problem import Problem, no_such_job
from worker.messages import JOB_NAME
from worker.page_options import NO_OPTIONS, PageOptions

logger = logging.getLogger("ocrfleet.web")


class WebJob(msgspec.Struct, frozen=True, kw_only=True):
    """What the service keeps of a job, in ``web.json``.

    Attributes:
        created: Unix time.
        files: how many were uploaded.
        title: for people: the first file's name.
        sources: addresses, where nothing was uploaded.
        skipped: name -> why an upload was not taken.
        limit_side: long side the network sees at most, pixels; 0 leaves it to the workers.
        options: thresholds that workers use instead of their own.
        quick: it was sent to /detect.
        fingerprint: of what was sent, to know it again under the same Idempotency-Key.
        webhook: who is told when it has ended; empty: nobody.
        told: what became of that: empty while it is not done, ``sent``, or why it was given up.
        state: ``open``, ``done``, ``cancelled``, or ``refused`` with a reason.
        reason: one line.
        finished: Unix time, 0 before.
        cancelled: somebody asked for its end while it was open.
        warnings: what the scan passed over, and what else it said.
        counts: pages that have a record then, as `counts_of` tells; empty in a version before, and while it is open.
    """

    created: float
    files: int = 0
    title: str = ""
    sources: list[str] = []
    skipped: dict[str, str] = {}
    limit_side: int = 0
    options: PageOptions = NO_OPTIONS
    quick: bool = False
    fingerprint: str = ""
    webhook: str = ""
    told: str = ""
    state: str = "open"
    reason: str = ""
    finished: float = 0.0
    cancelled: bool = False
    warnings: list[str] = []
    counts: dict[str, int] = {}


UNREAD = "what is kept of it (web.json) cannot be read; its files are there"
MOST_TOLD = 8192  # characters of names and reasons


def few(skipped: Mapping[str, str]) -> dict[str, str]:
    """The first of what was not taken: as many as a status may tell, which is sent twice a second to who watches."""
    told, left = dict[str, str](), MOST_TOLD
    for name, reason in skipped.items():
        left -= len(name) + len(reason)
        if left < 0:
            break
        told[name] = reason
    return told


def first_of(warnings: Sequence[str]) -> list[str]:
    """The same of what warned."""
    return list(few(dict.fromkeys(warnings, "")))


MOST_JOBS = 20_000  # kept at a time: they take few bytes of the quota, but each list of jobs looks at all of them


class Brief(NamedTuple):
    """Of a job, what is asked of all of them: when it was sent and when it ended, Unix time; 0: it has not."""

    created: float
    finished: float


_FOLDERS = ("incoming", "jobs", "trash", "exports", "temporary", "models")
_KEPT = ("jobs", "models")  # files in them are opened by their names


class Store:
    """The folders of all jobs."""

    def __init__(self, root: Path) -> None:
        """Make the folders, for this user alone; take back what a version before, or a `chmod -R`, gave to others.

        Args:
            root: the folder, or a link of this user's to it. None of those in it may be a link: what lies in them is
                removed at start, and a job is moved from one to another, which no second disk could do.

        Raises:
            OthersFolderError: one is a link, or another user's, or a job or `models/` holds such a thing.
        """
        self.root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with hold_own(root, may_be_link=True) as held:
            was_open = held.status.st_mode & 0o022
            held.path.chmod(0o700)  # from here on nobody else lays a link in it
            was_open &= ~held.status.st_mode  # nothing, where the disk knows no modes
            for name in _FOLDERS:
                with own_below(held, name, 0o700) as folder:
                    if name in _KEPT:
                        keep_tree_from_others(folder)
                    elif (keep_from_others(folder) or was_open) and any(folder.path.iterdir()):
                        _set_aside(held.path / name)
        self._incoming, self._jobs, self._trash, self._exports, self.temporary, self.models = (
            root / name for name in _FOLDERS
        )
        self._lock, self._listing, self._counting = threading.Lock(), threading.Lock(), threading.Lock()
        self.room = Room(self._measure)
        self._known: dict[str, tuple[int, Brief]] = {}
        self._left = set[Path]()
        self._word = ""

    def clean(self) -> None:
        """Remove what a killed service left half done, and nothing else: a deleted job's name may be another's now."""
        for folder in (self._incoming, self._trash, self._exports, self.temporary):
            for left in folder.iterdir():
                self.drop(left)

    def own_word(self) -> str:
        """What tells this folder's page from others of its broker. A file holds it from the first time on."""
        if not self._word:
            with self._lock:
                self._word = self._word or _word_in(self.root / "page-id")
        return self._word

    def new_upload(self) -> Path:
        """A fresh folder for one request's files: `upload` inside it."""
        folder = self._incoming / os.urandom(8).hex()
        try:
            folder.mkdir(mode=0o700)  # `parents` made it by the umask alone
            (folder / "upload").mkdir(mode=0o700)
        except BaseException:
            self.drop(folder)
            raise
        return folder

    def new_export(self) -> Path:
        """A fresh folder for one converted results file."""
        folder = self._exports / os.urandom(8).hex()
        folder.mkdir(mode=0o700)
        return folder

    def accept(self, folder: Path, name: str, job: WebJob) -> bool:
        """An upload becomes a job: from here on it survives everything. False: there is one of this name.

        Whatever else comes of it, nothing is left of the upload: it counted in the quota until the next start, and was
        in no list from which it could be deleted.

        Raises:
            OSError: the disk has no room for it, or worse; there is no such job.
        """
        try:
            write_atomically(folder / "web.json", msgspec.json.encode(job))
            try:
                folder.rename(self._jobs / name)
            except OSError:
                if (self._jobs / name).exists():
                    return False
                raise
            try:
                sync_to_disk(self._jobs)
            except BaseException:  # nobody would start it before the page's next start
                self.throw_away(name)
                raise
            return True
        finally:
            if os.path.lexists(folder):
                self.drop(folder)

    def has(self, name: str) -> bool:
        """Whether there is such a job."""
        return JOB_NAME.match(name) is not None and (self._jobs / name / "web.json").is_file()

    def folder(self, name: str) -> OutputFolder:
        """A job's output folder.

        Raises:
            Problem: 404.
        """
        if not self.has(name):
            raise no_such_job(name if JOB_NAME.match(name) else "of that name")
        return OutputFolder(self._jobs / name)

    def uploads(self, name: str) -> Path:
        """The folder of a job's files."""
        return self._jobs / name / "upload"

    def read(self, name: str) -> WebJob:
        """What is kept of a job.

        Raises:
            Problem: 404.
        """
        kept = self.folder(name).root / "web.json"
        try:
            return msgspec.json.decode(kept.read_bytes(), type=WebJob)
        except FileNotFoundError:
            raise no_such_job(name) from None
        except UNREADABLE:  # by a fault of the disk, or of a version to come. Its files may be fetched, or deleted
            return WebJob(created=kept.stat().st_mtime, state="refused", reason=UNREAD)

    def change(self, name: str, *, only: Callable[[WebJob], object] = lambda job: True, **fields: object) -> WebJob:
        """Write some fields of a job, `only` if it then is such a one."""
        with self._lock:
            job = self.read(name)
            if not only(job):
                return job
            job = msgspec.structs.replace(job, **fields)
            write_atomically(self.folder(name).root / "web.json", msgspec.json.encode(job))
        return job

    def names(self) -> list[str]:
        """All jobs, newest first; for one caller at a time: 20,000 are 3 MB, and eight lists may be asked for."""
        with self._listing:
            return [name for _, name in sorted(self._aged(), reverse=True)]

    def _aged(self) -> Iterator[tuple[float, str]]:
        return ((job.created, name) for name, job in self.all())

    def all(self) -> Iterator[tuple[str, Brief]]:
        """Each job and what is kept of it, in any order; one that is deleted meanwhile may be left out.

        What did not change since the last look is not read again: of 5,000 jobs that took 1.2 s, for each who asked.
        """
        seen: dict[str, tuple[int, Brief]] = {}
        for entry in os.scandir(self._jobs):
            with suppress(Problem, OSError):
                changed = Path(entry.path, "web.json").stat().st_mtime_ns
                known = self._known.get(entry.name)
                if known is None or known[0] != changed:
                    job = self.read(entry.name)
                    if job.reason == UNREAD:
                        logger.warning("%s: %s", entry.name, UNREAD)
                    known = changed, Brief(job.created, job.finished)
                seen[entry.name] = known
        self._known = seen
        return ((name, brief) for name, (_, brief) in seen.items())

    def check_places(self) -> None:
        """Whether one more job can be kept.

        Raises:
            Problem: 429.
        """
        # One by one, for one caller at a time: all names at once are 2 MB of 20,000 jobs, and 40 threads may ask.
        with self._counting, os.scandir(self._jobs) as entries:
            count = sum(1 for _ in entries)
        if count >= MOST_JOBS:
            raise Problem(429, f"{MOST_JOBS:,} jobs are kept already", "delete finished jobs", retry_after_s=600)

    def throw_away(self, name: str) -> None:
        """A job's files go: at once out of sight, then off the disk."""
        target = self._trash / f"{name}.{os.urandom(4).hex()}"  # one of its name may not have gone yet
        with self._lock:  # or `change` would write where nothing is any more
            if (self._jobs / name).exists():
                (self._jobs / name).rename(target)
        self.drop(target)

    def drop(self, folder: Path) -> None:
        """Remove a folder that is no job, now or, where that cannot be done (no file may be opened), `drop_left`."""
        with suppress(OSError):
            remove_tree(folder)
        if os.path.lexists(folder):
            self._left.add(folder)
        self.room.forget()

    def drop_left(self) -> None:
        """Try again to remove what could not be."""
        left, self._left = self._left, set()
        for folder in left:
            self.drop(folder)

    def taken_by_job(self, name: str) -> int:
        """Bytes of the quota that a job has: its uploads, its list and its results."""
        folder = self.folder(name).root
        return taken_by(folder) + sum(map(taken_by, entries_below(folder)))

    def _measure(self) -> tuple[int, int]:
        tops = (folder for folder in self.root.iterdir() if folder != self.temporary)
        taken = {top: taken_by(top) + sum(map(taken_by, entries_below(top))) for top in tops}
        found = taken_by(self.root) + sum(taken.values())
        return found, found - sum(taken.get(passing, 0) for passing in (self._incoming, self._trash, self._exports))


def _word_in(file: Path) -> str:
    """A random word that is kept there."""
    with suppress(FileNotFoundError):  # of a fault of the disk the page had another word, and each key a new job
        if word := read_small(file).decode("ascii", "replace").strip():
            return word
    word = os.urandom(16).hex()
    write_atomically(file, word.encode())
    return word


def _set_aside(folder: Path) -> None:
    """Of what is to be removed: a folder of the user's that others moved into it, with what they could not remove."""
    aside = folder.with_name(f"{folder.name}-foreign-{time.strftime('%Y%m%d-%H%M%S')}")
    folder.rename(aside)
    folder.mkdir(mode=0o700)
    logger.warning("others could write to %s: what lay there is in %s now", *map(as_named, map(str, (folder, aside))))


def taken_by(entry: Path | os.DirEntry[str]) -> int:
    """Bytes that a file or a folder takes of the quota: what it takes of the disk, and never nothing.

    By the sizes of files alone 24,299 files and folders of 3 bytes or none, 97 MB of disk, were 158 KB.
    """
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    return max(ENTRY_BYTES, status.st_size, status.st_blocks * 512)
