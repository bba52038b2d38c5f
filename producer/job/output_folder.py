"""The output folder of a job: where its files are, and its lock."""

from __future__ import annotations

import fcntl
import filecmp
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec

from detector.atomic import atomic_write
from detector.cache import others_above
from detector.errors import show
from detector.record import UNREADABLE
from producer.errors import ProducerError
from producer.held_folder import PRIVATE, SHARED_OUT, HeldFolder, as_named, is_shared, ours_to_write
from producer.no_links import (
    OthersFolderError,
    hold_out,
    is_open_to_others,
    keep_from_others,
    no_links,
    own_below,
    read_small,
    read_whose,
)
from producer.sources.remote import is_remote
from producer.sources.scan import STDIN, SourceMissingError, resolve
from producer.user_secret import is_stamped, state_base, write_stamp
from producer.whole_append import drop_parts, take_back
from worker.messages import JOB_NAME
from worker.page_options import PageOptions
from worker.storage.real_path import real_or_named

logger = logging.getLogger(__name__)
REQUEST_STAMP = "request-by"


class FolderBusyError(ProducerError):
    """Another process works in this output folder."""


class DamagedFolderError(ProducerError):
    """A file of a job's folder cannot be read. The message names it and the remedy."""


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, kept so that ``resume`` needs no arguments.

    Attributes:
        job: the job's name.
        sources: absolute paths, globs or archives, as given.
        limit_side: long side the network sees at most, pixels; 0 leaves it to the profile.
        profile: ``auto``, ``low``, ``standard`` or ``accurate``.
        model: name or absolute path; empty leaves it to the environment.
        runtime: ``auto``, ``onnxruntime``, ``openvino`` or ``torch``.
        workers: worker processes ``run`` starts.
        overlays: draw every image with its boxes.
        report: write report.html.
        transfer: ``uri`` (workers open the same address) or ``redis`` (the bytes travel through the broker).
        shrink: with ``redis``: make pages no larger than ``limit_side`` before they travel.
        urgent: its pages are taken before those of other jobs.
        output: an ``s3://`` prefix that gets ``results.jsonl`` at the end; empty for none.
        options: thresholds, tiles and memory that workers use instead of their own.
        sniff: in folders, also take files of unknown or no suffix that begin like an image or a PDF.
        zip_encoding: of names in zips that do not say theirs; empty to guess.
        follow_links: take links that lead out of the folder they lie in.
    """

    job: str
    sources: list[str]
    limit_side: Annotated[int, msgspec.Meta(ge=0, le=8192)] = 0  # as of `--limit-side`; so below
    profile: str = "auto"
    model: str = ""
    runtime: str = "auto"
    workers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1  # as of `--workers`: the file may be a stranger's
    overlays: bool = False
    report: bool = True
    transfer: str = "uri"
    shrink: bool = False
    output: str = ""
    options: PageOptions = PageOptions()
    urgent: bool = False
    sniff: bool = False
    zip_encoding: str = ""
    follow_links: bool = False


class OutputFolder:
    """Paths inside ``OUT`` (docs/architecture.md), and its private ``.ocrfleet`` folder."""

    def __init__(self, root: Path) -> None:
        """Make nothing: the folder need not exist."""
        self.root = root
        self._made_root = False
        self._is_at(root, root / PRIVATE)

    def _is_at(self, place: Path, private: Path) -> None:
        self.place = place
        self.results = place / "results.jsonl"
        self.manifest = place / "manifest.jsonl"
        self.job_json = place / "job.json"
        self.private = private
        self.request_file = private / "request.json"
        self.epoch_file = private / "epoch"
        self.heir_file = private / "heir"
        self.server_data = private / "server"
        self.passed_over_file = private / "passed-over.json"

    @property
    def known_as(self) -> str:
        """The manifest's name, for whoever is told of it."""
        return str(self.root / self.manifest.name)

    @contextmanager
    def held(self, *, make: bool = True) -> Iterator[None]:
        """In the block all paths lead into the folder as it is now, whatever becomes of its name, and of `.ocrfleet`'s.

        New folders are this user's alone: results name other people's files, `.ocrfleet` holds a server's data.

        Raises:
            OthersFolderError: it is another user's.
            FileNotFoundError: it is not there, and not to be made.
        """
        if self.place != self.root:
            yield
            return
        self._made_root |= make and not self.root.exists()
        with held_private(self.root, make=make) as (place, private):
            self._is_at(place.path, private.path)
            try:
                yield
            finally:
                self._is_at(self.root, self.root / PRIVATE)

    @property
    def epoch(self) -> str:
        """Which job of its name this folder's is; "" for one of a version that did not have epochs."""
        try:
            return read_small(self.epoch_file).decode("ascii").strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""

    @property
    def heir(self) -> str:
        """Not "" where the list of pages came from the broker: nothing that it names is opened on this machine."""
        try:
            return read_small(self.heir_file).decode("ascii").strip()
        except FileNotFoundError:
            return ""

    def exists(self) -> bool:
        """Whether a job was ever started here."""
        return self.request_file.is_file()

    def request(self) -> JobRequest:
        """What was asked for.

        Raises:
            DamagedFolderError: the file holds something else; a power cut may have left it empty.
            OthersFolderError: it is another user's, who chose what is read, and which model does it; or it may be.
            OSError: it is a link.
        """
        with self.held(make=False):
            (said, status), above = read_whose(self.request_file), self.private.stat()
            # In a folder that a group could write to until now anybody of it may have put one.
            if status.st_uid not in (os.geteuid(), 0, above.st_uid):
                raise OthersFolderError(
                    f"{as_named(str(self.request_file))} is another user's: name another output folder"
                )
            try:
                # After `chmod -R g+w` the group writes into the file itself.
                if is_open_to_others(status, above) and not is_stamped(self.private / REQUEST_STAMP, said):
                    raise OthersFolderError(
                        f"others can write to {as_named(str(self.request_file))}, and may have changed what is read: "
                        "look at it, then `chmod go-w` it"
                    )
                return msgspec.json.decode(said, type=JobRequest)
            except UNREADABLE as error:
                raise DamagedFolderError(
                    f"{self.request_file} is damaged ({error}): remove it and give the first command again; "
                    "the manifest and what is done are kept"
                ) from None

    def source_roots(self) -> tuple[Path, ...]:
        """Where the job's files must lie, also through a link; empty: anywhere.

        Nobody knows of a job that was collected on another machine, or whose files came as a list.
        """
        try:
            request = self.request()
        except (FileNotFoundError, DamagedFolderError, OthersFolderError):
            return ()
        return roots_of(request)

    def picture_list(self) -> tuple[Path, tuple[Path, ...] | None]:
        """The list of pages by which pictures are opened, and, as `source_roots`, where these must lie.

        None where it is not known to be of a scan of this user's. A folder that was copied from somebody has a list of
        his: any file of ours, and any address, can be in it. What `collect` left has no request, and the list that
        `enqueue` kept on this machine; that one is read: who may write into OUT changed its own after the comparison.
        """
        try:
            if self.exists():
                self.request()
                return self.manifest, None if self.heir else self.source_roots()
            job = msgspec.json.decode(read_small(self.job_json), type=dict[str, Any]).get("job", "")
            kept = state_folder(job if JOB_NAME.match(job) else "")
            if kept.exists() and not kept.heir and filecmp.cmp(kept.manifest, self.manifest, shallow=False):
                kept.request()
                return kept.manifest, kept.source_roots()
        except (OSError, ProducerError, msgspec.MsgspecError, TypeError, UnicodeDecodeError):
            pass
        return self.manifest, None

    def make(self) -> None:
        """Make it, if it is not there."""
        with self.held():
            pass

    def save_request(self, request: JobRequest) -> None:
        """Remember what was asked for."""
        said = msgspec.json.encode(request)
        with self.held():
            write_atomically(self.request_file, said)
            write_stamp(self.private / REQUEST_STAMP, said)

    def leave_unused(self) -> None:
        """Remove what `locked` made where no job was begun, and nothing else."""
        if self.exists():
            return
        with suppress(OSError):  # anything else of somebody's is in there
            for file in (self.private / "lock", self.private / "watched", self.passed_over_file):
                file.unlink(missing_ok=True)
            (self.place / PRIVATE).rmdir()
            if self._made_root:
                self.root.rmdir()

    def save_passed_over(self, counts: dict[str, int]) -> None:
        """Remember what the scan passed over, by kind."""
        with self.held():
            write_atomically(self.passed_over_file, msgspec.json.encode(dict(counts)))

    def passed_over(self) -> dict[str, int]:
        """What the scan passed over, by kind."""
        try:
            return msgspec.json.decode(read_small(self.passed_over_file), type=dict[str, int])
        except (OSError, *UNREADABLE):
            return {}

    def forget_pages(self) -> None:
        """Remove the list of pages and the records made from it: their indices mean nothing to a new list."""
        for file in (self.manifest, self.results, self.heir_file):
            file.unlink(missing_ok=True)

    def worker_log(self, number: int) -> Path:
        """Log of the n-th local worker."""
        return self.private / f"worker-{number}.log"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this folder; a killed process frees it by itself. Only a warning where the file system knows no locks.

        Raises:
            FolderBusyError: another process holds it.
            OthersFolderError: it is another user's.
        """
        with self.held(), open(self.private / "lock", "w", opener=no_links) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderBusyError(f"another ocr-producer works in {self.root}: wait for it, or stop it") from None
            except OSError as error:  # Lustre and NFS may be mounted without locks, and FUSE may know none
                reason = error.strerror or error
                logger.warning("%s: no locks there (%s); start no second ocr-producer in it", show(self.root), reason)
            else:  # Only the holder of this lock scans: these were left by a scan that was killed, and may be large.
                drop_parts(self.manifest)
            take_back(self.manifest)
            yield


def roots_of(request: JobRequest, *, gone: bool = False) -> tuple[Path, ...]:
    """Where the files of a job's sources must lie, also through a link; empty: anywhere, or nobody knows.

    Args:
        request: the job.
        gone: also where sources lay that are not there.
    """
    local = [source for source in request.sources if not is_remote(source)]
    if request.follow_links or STDIN in local:
        return ()
    roots = []
    for source in local:
        try:
            roots.append(real_or_named(resolve(source).path))
        except SourceMissingError:
            roots += [real_or_named(source)] if gone else []
    return tuple(roots)


@contextmanager
def held_private(root: Path, *, make: bool = True) -> Iterator[tuple[HeldFolder, HeldFolder]]:
    """An output folder and the private one in it, held open, and this user's own; made where they are not there.

    Nobody else writes into the private one from then on.

    Args:
        root: the output folder, or a link of this user's to it.
        make: False: they must be there.

    Raises:
        OthersFolderError: they are another user's or others can write to them, or the private one is a link.
        FileNotFoundError: they are not there, and not to be made.
    """
    if make:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with hold_out(root) as place, own_below(place, PRIVATE, 0o700 if make else None) as private:
        keep_from_others(private)
        yield place, private


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old one or the new one, never half of it."""
    with atomic_write(path, sync=True) as part, open(part, "wb", opener=ours_to_write) as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Write a readable JSON file atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def state_folder(job: str) -> OutputFolder:
    """Where ``enqueue`` keeps a job's manifest on this machine; an OthersFolderError, where it may be anybody's."""
    root = state_base() / job
    if not is_shared() and (above := others_above(root)) is not None:
        raise OthersFolderError(
            f"others can write into {above}, and so choose what is kept of jobs: `chmod go-w` it, set XDG_STATE_HOME, "
            f"or, where you trust all who can, {SHARED_OUT}=1"
        )
    return OutputFolder(root)
