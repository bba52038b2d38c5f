"""Where a producer opens pages again: files as they are, members of archives by a process with limits (`members`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.errors import CorruptImage, ImageError, NotFound, TooLarge, UnsupportedFormat, show
from detector.images.regular_file import facts_of, identity_of
from producer.detector_process.members import MemberTaken, MemberWanted
from producer.detector_process.turn_process import AtWorkError, TurnProcess, Turns
from producer.sources.held_bytes import held_bytes
from worker.storage.bound import Bound
from worker.storage.files import Fetch, Storage, suffix_of
from worker.storage.spool import MachineFault, machine_faults, make_private

MEMBER_S, MEMBER_S_PER_MIB = 30.0, 0.25
"""For one member, and for reading up to it: .tar.bz2, the slowest, is read at 5 MiB a second."""

MOST_LOST, MOST_LOST_OF_A_JOB = 2, 8
"""Members of one archive, and of a job, over which the process was lost: no other of it is asked for."""

KEPT_BYTES = 1 << 20  # of a page that was opened: the next takes its place
_ERRORS: dict[str, type[ImageError]] = {
    kind.type: kind for kind in (CorruptImage, NotFound, TooLarge, UnsupportedFormat)
}


_turns = Turns()


class _Members:
    """One job's process, and what it was lost over."""

    def __init__(self) -> None:
        self.process: TurnProcess[MemberWanted] = TurnProcess("producer.detector_process.members", _turns)
        self._lost: dict[str, int] = {}

    def take(self, wanted: MemberWanted, timeout_s: float, wait_s: float | None) -> MemberTaken:
        """Have a member written.

        Raises:
            NotYetError: it is not there after so long.
        """
        if self._lost.get(wanted.archive, 0) >= MOST_LOST or sum(self._lost.values()) >= MOST_LOST_OF_A_JOB:
            which = show(_name(wanted.archive)) if wanted.archive in self._lost else "what the job's archives hold"
            return MemberTaken("TooLarge", f"{which} takes too long to unpack, or too much memory; unpack it first")
        line = self.process.answer(wanted, timeout_s, wait_s)
        try:
            return msgspec.json.decode(line, type=MemberTaken)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # lost, or worse
            self.process.child.stop(kill=True)
            self._lost[wanted.archive] = self._lost.get(wanted.archive, 0) + 1
            where = f"{show(_name(wanted.member))!r} in {show(_name(wanted.archive))}"
            said = f"{where} was not unpacked within {timeout_s:.3g} s, or took its process down; unpack it first"
            return MemberTaken("TooLarge", said)


class ProducerStorage(Storage):
    """Opens pages on the producer's machine; nothing of an archive is read in this process. Close it.

    Attributes:
        patience_s: how long `open` may wait for a member before it raises `NotYetError`, seconds; None: for ever.
        bound_of: a member's name -> how large its copy may be; None: as `Storage` has it.
        copies: another number for each copy: they have one name, and one inode and time where those are coarse.
    """

    def __init__(
        self,
        roots: tuple[Path, ...],
        spool: Path,
        fetchers: Mapping[str, Fetch] | None = None,
        *,
        any_path: bool = True,
        outside: str = "add its folder to OCRFLEET_ROOTS on this worker",
        make_spool: Callable[[Path], None] = make_private,
    ) -> None:
        """As `Storage`."""
        super().__init__(roots, spool, fetchers, any_path=any_path, outside=outside, make_spool=make_spool)
        self.patience_s: float | None = None
        self.bound_of: Callable[[str], Bound] | None = None
        self._members = _Members()
        self.copies = 0
        self._there: tuple[MemberWanted, tuple[int, ...]] | None = None
        self._uri = ""
        self._copy: Path | None = None

    @contextmanager
    def open(self, uri: str, name: str = "") -> Iterator[Path]:
        """See `Storage.open`."""
        if uri != self._uri:  # an object of s3:// is fetched into the same file
            self._uri, self._there = uri, None
            self.copies += 1
            if self._members.process.asked is not None:  # of a copy that others take the place of now
                self._members.process.leave()
        with super().open(uri, name) as path:
            yield path

    @contextmanager
    def _copy_of(self, member: bytes) -> Iterator[Path]:
        """One file for all: a page at a time is open, and making and removing one for each takes a millisecond."""
        with machine_faults(self.spool):
            self.make_spool(self.spool)
        copy = self.spool / f"member{suffix_of(member)}"
        if self._copy not in (None, copy):
            self._copy.unlink(missing_ok=True)  # another suffix, and a stranger's zip may have any number of them
        self._copy = copy
        at_work = False
        try:
            yield copy
        except AtWorkError:
            # Written, or read by who takes a page out of it: it is asked for again. Taken from under one who had not
            # opened it yet, pages of sound PDFs were not to be had.
            at_work = True
            raise
        finally:
            if not at_work and copy.exists() and copy.stat().st_size > KEPT_BYTES:
                copy.unlink()

    def extract(
        self,
        scheme: str,
        archive: Path,
        member: str,
        copy: Path,
        bound: Bound | None = None,
        *,
        number: int | None = None,
    ) -> None:
        """See `Storage.extract`.

        Raises:
            NotYetError: not within `patience_s`.
        """
        with self._opened(archive) as file:
            seen = identity_of(file) if self.roots else None
            status = os.fstat(file.fileno())
        where, out = (quote(os.fsencode(name)) for name in (archive, copy))
        what = quote(member.encode("utf-8", "surrogateescape"))
        wanted = MemberWanted(scheme, where, what, out, seen, number=number)
        if bound := bound or (self.bound_of and self.bound_of(member)):
            wanted = msgspec.structs.replace(wanted, most_bytes=bound.most_bytes, remedy=bound.remedy)
        this = (wanted, facts_of(status))
        if self._there == this and copy.exists():
            return  # another page of the same PDF; perhaps it is being read at this moment
        self._there = None
        self.copies += 1
        timeout_s = MEMBER_S + MEMBER_S_PER_MIB * held_bytes(archive, status) / (1 << 20)
        taken = self._members.take(wanted, timeout_s, self.patience_s)
        if taken.errno:
            self._members.process.leave()  # the next begins anew: what it was told of the machine may have changed
            raise MachineFault(taken.errno, taken.error, _name(taken.path))
        if taken.type:
            raise _ERRORS.get(taken.type, CorruptImage)(taken.error)
        self._there = this

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._members.process.leave()
        super().close()


def _name(quoted: str) -> str:
    return os.fsdecode(unquote_to_bytes(quoted))
