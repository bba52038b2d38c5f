"""Where a producer opens pages again: files as they are, members of archives by a process with limits (`members`).

A process of the producer has a few of them at most, whatever the number of its jobs. Who waits for one gets it in turn;
one that is asked nothing is ended for the next.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.errors import CorruptImage, ImageError, NotFound, TooLarge, UnsupportedFormat, show
from detector.images.regular_file import identity_of
from producer.detector_process.line_process import LineProcess
from producer.detector_process.members import MemberTaken, MemberWanted
from producer.sources.held_bytes import held_bytes
from worker.storage.bound import Bound
from worker.storage.files import Fetch, Storage, suffix_of
from worker.storage.spool import MachineFault, machine_faults, make_private

AT_ONCE = 4
"""Processes of about 20 MB, at most `members.MEMORY_BYTES`."""

MEMBER_S, MEMBER_S_PER_MIB = 30.0, 0.25
"""For one member, and for reading up to it: .tar.bz2, the slowest, is read at 5 MiB a second."""

MOST_LOST, MOST_LOST_OF_A_JOB = 2, 8
"""Members of one archive, and of a job, over which the process was lost: no other of it is asked for."""

HOLD_S, ABANDONED_S = 2.0, 5.0
"""A process is not ended for another job before it has served so long; nor while somebody asks for its answer."""

POLL_S = 0.05
KEPT_BYTES = 1 << 20  # of a page that was opened: the next takes its place
_ERRORS: dict[str, type[ImageError]] = {
    kind.type: kind for kind in (CorruptImage, NotFound, TooLarge, UnsupportedFormat)
}


class NotYetError(Exception):
    """The member is not there yet, and others are not to be kept waiting: ask for it again."""


class _Turns:
    """Who may have a process: a few, the others in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._having: list[_Members] = []
        self._waiting: list[_Members] = []

    def enter(self, member: _Members) -> bool:
        """It is looked after again. Whether it still has its process."""
        with self._lock:
            member.busy = True
            return member in self._having

    def rest(self, member: _Members) -> None:
        """Until it is looked after again."""
        with self._lock:
            member.busy, member.seen = False, time.monotonic()

    def take(self, member: _Members) -> bool:
        """Whether it may have a process now; perhaps another's is ended for it."""
        with self._lock:
            now = time.monotonic()
            if member not in self._having:
                self._waiting = [one for one in self._waiting if one.busy or now - one.seen < ABANDONED_S]
                if member not in self._waiting:
                    self._waiting.append(member)
                place = self._waiting.index(member)
                if place >= AT_ONCE - len(self._having):
                    other = next((one for one in self._having if one.is_idle(now)), None)
                    if other is None or place:
                        return False
                    self._having.remove(other)
                    other.end()
                self._waiting.remove(member)
                self._having.append(member)
                member.since = now
            return True

    def leave(self, member: _Members) -> None:
        """It needs none any more."""
        with self._lock:
            for those in (self._having, self._waiting):
                if member in those:
                    those.remove(member)
            member.end()


_turns = _Turns()


class _Members:
    """One job's process.

    Attributes:
        child: the process.
        busy: somebody waits for it at this moment.
        seen: when somebody last did, by `time.monotonic`.
        since: when it got its process, likewise.
    """

    def __init__(self) -> None:
        self.child = LineProcess("producer.detector_process.members")
        self.busy = False
        self.seen = self.since = 0.0
        self._asked: MemberWanted | None = None
        self._lost: dict[str, int] = {}

    @property
    def is_pending(self) -> bool:
        """Whether a member was asked for that is not there yet."""
        return self._asked is not None

    def is_idle(self, now: float) -> bool:
        """Whether its process may be ended for another's."""
        served = self._asked is None and now - self.since > HOLD_S
        return not self.busy and (served or now - self.seen > ABANDONED_S)

    def take(self, wanted: MemberWanted, timeout_s: float, until: float | None) -> MemberTaken:
        """Have a member written.

        Raises:
            NotYetError: it is not there at that time (of `time.monotonic`).
        """
        if self._lost.get(wanted.archive, 0) >= MOST_LOST or sum(self._lost.values()) >= MOST_LOST_OF_A_JOB:
            which = show(_name(wanted.archive)) if wanted.archive in self._lost else "what the job's archives hold"
            return MemberTaken("TooLarge", f"{which} takes too long to unpack, or too much memory; unpack it first")
        try:
            if not _turns.enter(self):
                self._asked = None
            elif self._asked not in (None, wanted):
                self.child.stop(kill=True)
                self._asked = None
            if self._asked is None:
                self._begin(wanted, timeout_s, until)
            line = self.child.answer(None if until is None else max(0.0, until - time.monotonic()))
            if line is None:
                raise NotYetError
            self._asked = None
        finally:
            _turns.rest(self)
        try:
            return msgspec.json.decode(line, type=MemberTaken)
        except (msgspec.MsgspecError, UnicodeDecodeError):  # lost, or worse
            self.child.stop(kill=True)
            self._lost[wanted.archive] = self._lost.get(wanted.archive, 0) + 1
            where = f"{show(_name(wanted.member))!r} in {show(_name(wanted.archive))}"
            said = f"{where} was not unpacked within {timeout_s:.3g} s, or took its process down; unpack it first"
            return MemberTaken("TooLarge", said)

    def _begin(self, wanted: MemberWanted, timeout_s: float, until: float | None) -> None:
        while not _turns.take(self):
            if until is not None and time.monotonic() >= until:
                raise NotYetError
            time.sleep(POLL_S)
        self.child.begin(msgspec.json.encode(wanted), timeout_s)
        self._asked = wanted

    def end(self) -> None:
        """End the process, with the half copy that it was writing: those of a few jobs are hundreds of MB."""
        self.child.stop(kill=True)
        if self._asked is not None:
            Path(_name(self._asked.out)).unlink(missing_ok=True)

    def leave(self) -> None:
        """Nothing is wanted of it any more."""
        _turns.leave(self)
        self._asked = None


class ProducerStorage(Storage):
    """Opens pages on the producer's machine; nothing of an archive is read in this process. Close it.

    Attributes:
        patience_s: how long `open` may wait for a member before it raises `NotYetError`, seconds; None: for ever.
        bound_of: a member's name -> how large its copy may be; None: as `Storage` has it.
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
        self._there: tuple[MemberWanted, int, int] | None = None
        self._copy: Path | None = None

    @contextmanager
    def _copy_of(self, member: bytes) -> Iterator[Path]:
        """One file for all: a page at a time is open, and making and removing one for each takes a millisecond."""
        with machine_faults(self.spool):
            self.make_spool(self.spool)
        copy = self.spool / f"member{suffix_of(member)}"
        if self._copy not in (None, copy):
            self._copy.unlink(missing_ok=True)  # another suffix, and a stranger's zip may have any number of them
        self._copy = copy
        try:
            yield copy
        finally:
            # While it is being written it is asked for again.
            if not self._members.is_pending and copy.exists() and copy.stat().st_size > KEPT_BYTES:
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
        this = (wanted, status.st_mtime_ns, status.st_size)
        if self._there == this and copy.exists():
            return  # another page of the same PDF; perhaps it is being read at this moment
        self._there = None
        until = None if self.patience_s is None else time.monotonic() + self.patience_s
        timeout_s = MEMBER_S + MEMBER_S_PER_MIB * held_bytes(archive, status) / (1 << 20)
        taken = self._members.take(wanted, timeout_s, until)
        if taken.errno:
            self._members.leave()  # the next begins anew: what it was told of the machine may have changed
            raise MachineFault(taken.errno, taken.error, _name(taken.path))
        if taken.type:
            raise _ERRORS.get(taken.type, CorruptImage)(taken.error)
        self._there = this

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self._members.leave()
        super().close()


def _name(quoted: str) -> str:
    return os.fsdecode(unquote_to_bytes(quoted))
