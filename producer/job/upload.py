"""Page bytes on their way into Redis (``--transfer redis``): read, made small if asked, uploaded before their message.

Workers then need no access to the producer's folders. A page that cannot be read here gets its failed record here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import NamedTuple

from detector.images.regular_file import open_regular
from detector.images.suffixes import PDF_SUFFIXES
from producer.detector_process.member_fetcher import KEPT_BYTES
from producer.detector_process.originals import originals
from producer.detector_process.page_counter import can_count
from producer.detector_process.pdf_pages import PdfPages
from producer.detector_process.put_aside import PutAside
from producer.detector_process.remote_process import RemoteProcess
from producer.detector_process.shrink import Shrinker, ShrinkerLostError
from producer.detector_process.turn_process import NotYetError
from producer.job.manifest import ManifestLine
from producer.job.sending.kept_page import KeptPage
from producer.job.sending.late_count import LateCounter
from producer.job.sending.refusal import CannotSendError as CannotSendError
from producer.job.sending.refusal import known_type, refuse, refuse_others
from producer.job.sending.unsent import unsent
from producer.sources.page_count import paged_suffix_of
from worker.broker import blobs
from worker.broker.large_values import FromFile
from worker.ledger.ledger import JobReplacedError, Ledger
from worker.messages import MAX_BLOB_BYTES, ImageTask, Original
from worker.page_options import NO_OPTIONS, PageOptions
from worker.settings import settings
from worker.storage.bound import Bound
from worker.storage.files import MAX_MEMBER_BYTES
from worker.storage.remote import MAX_REMOTE_BYTES
from worker.storage.spool import MachineFault, want_of_the_machine

# Large enough that a round trip to a far-away broker does not dominate, small enough to fit in a 150 MB producer.
BATCH_BYTES = 4 << 20
BATCH_PAGES = 16
# For a member of an archive, or a page of a PDF; after it, others are served, and it is asked for again.
PATIENCE_S = 0.5
_HOW_ELSE = "use --shrink, or --transfer uri with a shared folder or s3://"


class Parcel(NamedTuple):
    """A page ready to travel.

    Attributes:
        line: whose page this is.
        data: what is uploaded; of a large page its file, open.
        page: page inside ``data``.
        original: what it was before it was made smaller; None if it was not.
        alone: taken out of its file.
        pages: of its file, of page 0 where its worker cannot count them.
    """

    line: ManifestLine
    data: bytes | FromFile
    page: int
    original: Original | None
    alone: bool = False
    pages: int = 0


class Uploader:
    """Uploads one job's pages. A context manager (it may run a shrinking process).

    Attributes:
        limit_side: what tasks ask for, pixels; with shrinking never 0.
        sent_bytes: uploaded by this object.
        kept: a page that found no room in Redis.
        largest: bytes that a page may have to travel.
        aside: pages that found no room in the temporary folder.
        turn: whether no other process of the job is sending, and is to wait meanwhile; None: there is no other.
    """

    def __init__(
        self,
        ledger: Ledger,
        job: str,
        *,
        limit_side: int,
        shrink: bool,
        options: PageOptions = NO_OPTIONS,
        epoch: str = "",
        roots: tuple[Path, ...] = (),
        most_copied: int = MAX_MEMBER_BYTES,
    ) -> None:
        """Start nothing yet.

        Args:
            ledger: of the broker.
            job: the job's name.
            limit_side: long side the network sees at most, pixels; 0 leaves it to the workers.
            shrink: make pages no larger than ``limit_side`` before they travel.
            options: what else the job asks of the workers.
            epoch: which job of that name.
            roots: where the pages' files must lie; empty: anywhere.
            most_copied: bytes of the temporary folder that one file may take which does not travel as it is: a PDF in
                an archive, of which single pages do, and what is made smaller. All else may have what may travel.
        """
        if shrink and not limit_side:
            raise ValueError("shrinking needs a limit")
        self._ledger = ledger
        self._job = job
        self._epoch = epoch
        self.limit_side = limit_side
        self._options = options
        self._shrinker = Shrinker(limit_side, settings().max_pixels) if shrink else None
        self._pdf_pages, self._counter = PdfPages(), LateCounter()
        self._folder = tempfile.TemporaryDirectory(prefix="ocrfleet-upload-")
        self._most_copied = most_copied
        self._remote = RemoteProcess()
        self._storage = originals(roots, Path(self._folder.name), {"s3": self._fetch})
        self._storage.patience_s, self._storage.bound_of = PATIENCE_S, self._bound_of
        self.aside = PutAside[ManifestLine](Path(self._folder.name), ledger.max_attempts)
        self.turn: Callable[[], AbstractContextManager[bool]] | None = None
        self.sent_bytes = 0
        self.largest = MAX_BLOB_BYTES
        self.kept = KeptPage[Parcel]()
        self._files: list[FromFile] = []

    def __enter__(self) -> Uploader:
        """The shrinking process starts at the first page."""
        return self

    def __exit__(self, *details: object) -> None:
        """End the shrinking process and remove temporary files."""
        if self._shrinker is not None:
            self._shrinker.__exit__(None, None, None)
        self.kept.close()
        self._close_files()
        self._pdf_pages.close()
        self._remote.close()
        self._storage.close()
        self._folder.cleanup()

    def alone(self) -> AbstractContextManager[bool]:
        """Whether this process may send now; while inside no other does."""
        return nullcontext(True) if self.turn is None else self.turn()

    def unsent(self, lines: Sequence[ManifestLine]) -> list[ManifestLine]:
        """Of a few manifest lines those whose bytes must be uploaded."""
        return unsent(self._ledger, self._job, lines, self._epoch)

    def waiting_bytes(self, most: int) -> int:
        """Bytes of this job's blobs in Redis.

        Other jobs whose pages are on their way have their own part of the window; what else others left there is what
        `Window.memory` is for. Before: one size of 1,000,000,000 in a job that somebody made up stopped all jobs.

        Args:
            most: with more than that, sizes of pages that are not on their way go: nobody else would drop them.
        """
        return blobs.own_bytes(self._ledger.client, self._job, most, self._epoch)

    def send(self, parcels: Sequence[Parcel]) -> list[ImageTask]:
        """Upload pages, then mark them as queued. Returns the tasks whose messages may be sent."""
        if self.turn is not None:  # another may have sent some since they were looked at, in another form perhaps
            still = {line.index for line in self.unsent([parcel.line for parcel in parcels])}
            parcels = [parcel for parcel in parcels if parcel.line.index in still]
        data = {parcel.line.index: parcel.data for parcel in parcels}
        try:
            lost = blobs.put(self._ledger.client, self._job, data, self._ledger.ttl_s, self._epoch)
        finally:
            self._close_files()
        for line in (parcel.line for parcel in parcels if parcel.line.index in lost):
            self.refuse(line, CannotSendError("NotFound", f"{line.image}: {lost[line.index]}"))
        parcels = [parcel for parcel in parcels if parcel.line.index not in lost]
        self.sent_bytes += sum(len(parcel.data) for parcel in parcels)
        tasks = [self._task(one.line, one.page, one.original, one.alone, one.pages) for one in parcels]
        client, indices = self._ledger.client, [task.index for task in tasks]
        try:
            fresh = set(self._ledger.feed(tasks))
        except JobReplacedError:
            blobs.remove(client, self._job, indices, self._epoch, replaced=True)
            raise
        if len(fresh) < len(tasks):
            status = self._ledger.status(self._job)
            if status is None or status.state == "cancelled":  # meanwhile
                blobs.remove(client, self._job, [index for index in indices if index not in fresh], self._epoch)
        return [task for task in tasks if task.index in fresh]

    def is_dear(self, line: ManifestLine, size: int) -> bool:
        """Whether a page of about so many bytes, if there is no room for it, must be made again at a cost.

        A small one is kept; opening a file costs nothing, but an archive may have to be read from its beginning.
        """
        made = self._shrinker is not None or line.page > 0 or not line.uri.startswith("file:")
        return made and size > KEPT_BYTES

    def keep(self, parcel: Parcel) -> bool:
        """Keep a page for which there is no room. False: it is to be read again; a large one never is in memory."""
        if isinstance(parcel.data, bytes):
            return self.kept.keep(parcel, len(parcel.data))
        parcel.data.close()
        return False

    def _close_files(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    def refuse(self, line: ManifestLine, reason: CannotSendError) -> None:
        """Write the failed record of a page that cannot be sent."""
        refuse(self._ledger, self._task(line, line.page, None), reason.type, str(reason))

    def put_aside(self, line: ManifestLine, fault: MachineFault) -> None:
        """Try a page again later for which there was no room, or write its failed record.

        Raises:
            MachineFault: ``fault``, where there is no room for any page.
        """
        if reason := self.aside.put(line.index, line, fault):
            self.refuse(line, CannotSendError("TooLarge", f"{line.image}: {reason}"))

    def _bound_of(self, name: str) -> Bound:
        """How much of the temporary folder a member of an archive may take."""
        if self._shrinker is not None or Path(name).suffix.lower() in PDF_SUFFIXES:
            return Bound(self._most_copied, "unpack the archive")
        return Bound(self.largest, f"no more travels through Redis: {_HOW_ELSE}")

    def _fetch(self, uri: str, target: Path) -> None:
        most, remedy = self._bound_of(uri)
        bound = Bound(min(most, MAX_REMOTE_BYTES), "copy it to a folder first" if most > MAX_REMOTE_BYTES else remedy)
        self._remote.fetch(uri, target, bound)

    def _task(
        self, line: ManifestLine, page: int, original: Original | None, alone: bool = False, pages: int = 0
    ) -> ImageTask:
        return ImageTask(
            job=self._job,
            index=line.index,
            image=line.image,
            uri=blobs.blob_uri(self._job, line.index, self._epoch),
            page=line.page,
            blob_page=page if alone or page != line.page else -1,
            limit_side=self.limit_side,
            original=original,
            options=self._options,
            pages=pages if line.page == 0 and pages > 1 else 0,
            epoch=self._epoch,
        )

    def pack(self, line: ManifestLine) -> Parcel:
        """Read a page's bytes, small enough to travel.

        Raises:
            CannotSendError: not there, damaged, or too large.
            MachineFault: this machine's disk is full or broken, or it has no more files or memory; whether for this
                page alone, `put_aside` looks.
            NotYetError: it lies in an archive or a PDF, and is not there yet: ask again.
        """
        from detector.errors import ImageError

        if line.problem is not None:
            raise CannotSendError(known_type(line.problem.type), line.problem.message)
        try:
            with self._storage.open(line.uri) as path:
                refuse_others(path, line.image)
                try:
                    return self._shrunk(line, path) or self._whole(line, path)
                except CannotSendError as error:
                    if line.uri.startswith("file:"):
                        raise
                    # A copy in the spool, whose name tells nobody anything.
                    raise CannotSendError(error.type, str(error).replace(str(path), line.image)) from None
        except (MachineFault, NotYetError):
            raise
        except ImageError as error:
            if (fault := want_of_the_machine(error)) is not None:  # a page that a descriptor more would have read
                raise fault from None
            raise CannotSendError(known_type(error.type), str(error)) from None
        except OSError as error:
            if (fault := want_of_the_machine(error)) is not None:
                raise fault from None
            raise CannotSendError("NotFound", f"{line.image}: {error.strerror or error}") from None

    def _shrunk(self, line: ManifestLine, path: Path) -> Parcel | None:
        if self._shrinker is None:
            return None
        out = Path(self._folder.name) / "page.jpg"
        try:
            answer = self._shrinker.shrink(path, line.page, out)
        except ShrinkerLostError:
            return None  # more than this machine can take; the workers have a ladder for such pages
        if not answer.ok:
            raise CannotSendError(known_type(answer.type), answer.error)
        if not answer.smaller or (line.uncounted and not answer.pages):  # its worker counts, in the whole file
            return None
        data = self._content(out, out.stat().st_size)
        out.unlink()
        if len(data) >= path.stat().st_size and not paged_suffix_of(path):
            return None  # well compressed as it is: fewer pixels, but more bytes
        return Parcel(
            line, data, 0, Original(answer.width, answer.height, answer.flags, answer.share), pages=answer.pages
        )

    def _whole(self, line: ManifestLine, path: Path) -> Parcel:
        size = path.stat().st_size
        # Not counted, or by pypdf, a PDF's first page travels in the whole file: its worker says how many there are.
        # Of a larger PDF pages travel alone, and its count was taken only where it can be relied upon (page_count.py).
        uncertain = line.page == 0 and size <= self.largest and (line.uncounted or not can_count())
        single = Path(self._folder.name) / "page.pdf"
        is_pdf = paged_suffix_of(path) in PDF_SUFFIXES
        may_travel = size <= self.largest
        take = partial(self._pdf_pages.take, whose=line.uri, copy=self._storage.copies, travels_whole=may_travel)
        if is_pdf and not uncertain and take(path, line.page, single, PATIENCE_S):
            # Never what the PDF says of itself: of 461 bytes that said 2,000,000 a list had 100,001 pages.
            pages = self._counter.count(path, line.image) if line.page == 0 and line.uncounted else 0
            taken = single.stat().st_size
            data = self._content(single, taken) if taken <= self.largest else None
            single.unlink()
            if data is not None:
                return Parcel(line, data, 0, None, True, pages)
        if not may_travel:
            raise CannotSendError(
                "TooLarge",
                f"{line.image}: {size / 1e6:.0f} MB, more than the {self.largest >> 20} MB that travel through "
                f"Redis; {_HOW_ELSE}",
            )
        return Parcel(line, self._content(path, size), line.page, None)

    def _content(self, path: Path, size: int) -> bytes | FromFile:
        """The bytes of a file, which may be removed then: those of a large one stay where they are."""
        file = open_regular(path)
        if size > KEPT_BYTES:
            self._files.append(FromFile(file, size))
            return self._files[-1]
        with file:
            return file.read(size)
