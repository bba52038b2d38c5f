"""The members of archives, listed by a process that may be lost: whatever an archive does to it, the scan goes on."""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.images.regular_file import seen_as
from detector.memory import raise_oom_score
from producer.archive_process.messages import AliveLine, EndLine, Line, MemberLine, Question
from producer.errors import CannotCountError
from producer.sources.archive import BrokenArchiveError, Kind, Member, UnreadArchiveError
from producer.sources.page_count import CountPdf, PageCount
from producer.sources.passed_over import PassedOver
from producer.sources.scan_time import USED_UP, ScanTime

PATIENCE_S = 60.0
"""Without a member, and without 8 MiB of the archive that were read."""

PAUSES_S = (1.0, 5.0)
"""Before an archive is listed once more whose reading met an error of the disk or the network."""

MOST_PAUSES_S = 60.0
"""In a row: of a folder whose file server is away every archive meets one."""

MOST_LINE_BYTES = 1 << 20
_BLOCK = 1 << 16
_USED_UP = f"{USED_UP}; send it in a job of its own, or unpack it first"


class ArchiveLister:
    """A ``python -m producer.archive_process.program``, started at the first archive and again after it was lost."""

    def __init__(self, patience_s: float = PATIENCE_S, scan_time: ScanTime | None = None) -> None:
        """Start nothing yet.

        Args:
            patience_s: how long an archive may be read without progress, seconds.
            scan_time: what all archives of the scan may take; default: they begin to use it with the first.
        """
        self._patience_s = patience_s
        self._time = scan_time or ScanTime()
        self._pauses_left_s = MOST_PAUSES_S
        self.process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def members(
        self,
        archive: Path,
        kind: Kind,
        *,
        passed: PassedOver | None = None,
        count_pdf: CountPdf | None = None,
        zip_encoding: str = "",
    ) -> Iterator[Member]:
        """As `producer.sources.archive.members`; `count_pdf` is not asked, the process counts by itself.

        Raises:
            BrokenArchiveError: it is damaged, or asks for too much memory or time, or the archives before it did;
                perhaps after some members.
            UnreadArchiveError: the disk or the network did not give it, however often it was asked.
        """
        self._time.grant(archive)
        if not self._time.left_s():
            raise BrokenArchiveError(f"after 0 members: {_USED_UP}")
        done = 0
        for pause_s in (*PAUSES_S, 0.0):
            try:
                with closing(self._listed(archive, kind, passed, zip_encoding)) as found:
                    for member in islice(found, done, None):
                        yield member
                        done += 1
                self._pauses_left_s = MOST_PAUSES_S
                return
            except UnreadArchiveError as error:
                if not pause_s or pause_s > min(self._pauses_left_s, self._time.left_s()):
                    raise UnreadArchiveError(f"after {done} members: {error}") from None
            self._pauses_left_s -= pause_s
            time.sleep(pause_s)

    def _listed(self, archive: Path, kind: Kind, passed: PassedOver | None, zip_encoding: str) -> Generator[Member]:
        counting_s = self._time.counting_s()
        question = Question(quote(os.fsencode(archive)), kind, zip_encoding, counting_s, seen_as(archive))
        done, ended = 0, False
        try:
            for line in self._answers(msgspec.json.encode(question)):
                if isinstance(line, MemberLine):
                    yield _member(line)
                    done += 1
                elif isinstance(line, EndLine):
                    ended = True
                    if line.unread:
                        raise UnreadArchiveError(line.unread)
                    if passed is not None:
                        for what, count in line.passed.items():
                            passed.add(what, count)
                    if line.broken:
                        raise BrokenArchiveError(line.broken)
        finally:
            if not ended:  # given up in the middle, by us or by the caller
                self.stop(kill=True)
        if not ended and not self._time.left_s():
            raise BrokenArchiveError(f"after {done} members: {_USED_UP}")
        if not ended:
            raise BrokenArchiveError(
                f"after {done} members: the listing process was lost over it, or came no further for "
                f"{self._patience_s:.0f} s; unpack it first"
            )

    def close(self) -> None:
        """End the process. Safe to call twice."""
        self.stop()

    def stop(self, *, kill: bool = False) -> None:
        """End the process. Safe to call twice."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin and process.stdout
        if kill:
            process.kill()
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._folder is not None:  # what it was unpacking when it was killed, up to 256 MB, nobody else removes
            self._folder.cleanup()

    def _answers(self, question: bytes) -> Iterator[Line]:
        """The lines of one answer, up to its end or to the loss of the process."""
        process = self._running()
        assert process.stdin and process.stdout
        decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(MemberLine | AliveLine | EndLine)
        rest = b""
        try:
            process.stdin.write(question + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                while len(rest) < MOST_LINE_BYTES and self._is_answered(selector):
                    block = os.read(process.stdout.fileno(), _BLOCK)
                    if not block:
                        return
                    *lines, rest = (rest + block).split(b"\n")
                    yield from map(decoder.decode, lines)
                    if not rest and lines and lines[-1].startswith(b'{"type":"end"'):
                        return
        except (BrokenPipeError, msgspec.MsgspecError, UnicodeDecodeError):
            return

    def _is_answered(self, selector: selectors.BaseSelector) -> bool:
        """Whether there is more to read, within our patience and what the scan has left."""
        left = self._time.left_s()
        most_s = min(self._patience_s, left)
        with self._time.spending(most_s):
            ready = selector.select(most_s)
        if not ready and left < self._patience_s:
            self._time.use_up()
        return bool(ready)

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.stop(kill=True)
            self._folder = tempfile.TemporaryDirectory(prefix="ocrfleet-list-", ignore_cleanup_errors=True)
            self.process = subprocess.Popen(
                # -P: a folder named `producer` where the user happens to stand must not be taken for ours.
                [sys.executable, "-P", "-m", "producer.archive_process.program"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "MALLOC_ARENA_MAX": "2", "TMPDIR": self._folder.name},
                start_new_session=True,  # Ctrl-C reaches the producer, which then ends this in order
            )
            raise_oom_score(self.process.pid)
        return self.process


def _member(line: MemberLine) -> Member:
    def look() -> PageCount:
        if line.uncounted:
            raise CannotCountError(line.uncounted)
        return PageCount(line.pages, line.broken)

    return Member(unquote_to_bytes(line.name), unquote_to_bytes(line.shown), look, line.number)
