"""Lists archives; as a program, one a line: ``python -m producer.archive_process.program``.

Answers each `messages.Question` on stdin with lines on stdout, the last of which is an `EndLine`; ends with its input.
What an archive may have it allocate is bounded, so that a hostile one costs itself, and never the job.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.images.regular_file import (
    Patience,
    ReadFile,
    SeenPath,
    close_another,
    raise_read_error,
    read_error,
    regular,
)
from detector.memory import limit_memory
from producer.answer_line import answer_line
from producer.archive_process.messages import AliveLine, EndLine, Line, MemberLine, Question
from producer.detector_process.page_counter import PageCounter
from producer.errors import CannotCountError
from producer.sources.allowance import Allowance
from producer.sources.archive import BrokenArchiveError, Member, members
from producer.sources.held_bytes import held_bytes
from producer.sources.page_count import CountPdf
from producer.sources.passed_over import PassedOver
from worker.storage.spool import MachineFault

MEMORY_BYTES = 256 << 20
"""Of which Python and its modules take 40 MiB. A zip's table of contents costs 500 bytes a member: 500,000 fit."""

ALIVE_BYTES = 8 << 20
"""Of the archive (as it lies on disk) that were read since the last sign of life. Not time: a few KB of .xz may unpack
for hours."""

MOST_READ_RATIO = 20
"""Times what the disk holds of it. What is read beyond that is holes, or the same again and again: no sign of life."""

TOO_MUCH = f"it cannot be listed within {MEMORY_BYTES >> 20} MiB; unpack it, or split it"


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""

    def say(line: Line) -> None:
        answers.write(answer_line(line))
        answers.flush()

    with closing(PageCounter()) as counter:
        for question in questions:
            limit_memory(MEMORY_BYTES)
            say(_listed(msgspec.json.decode(question, type=Question), say, counter.count))


def _listed(question: Question, say: Callable[[Line], None], count_pdf: CountPdf | None) -> EndLine:
    passed = PassedOver()
    path = SeenPath.to(os.fsdecode(unquote_to_bytes(question.path)), question.seen)
    broken = ""
    stream: _Watched | None = None
    try:
        held = held_bytes(path, path.stat())
        allowance = Allowance(held, question.counting_s)

        def read_on() -> None:
            say(AliveLine())
            allowance.check()

        with _Watched(path, read_on, ALIVE_BYTES + MOST_READ_RATIO * held) as stream:
            found = members(
                path,
                question.kind,
                passed=passed,
                count_pdf=count_pdf,
                zip_encoding=question.zip_encoding,
                stream=stream,
                allowance=allowance,
            )
            for member in found:
                line = _member_line(member)
                raise_read_error(stream)  # a member that "cannot be counted" for it
                say(line)
            raise_read_error(stream)
    except MachineFault as error:  # what counts PDFs cannot be started: pages would be missing
        return EndLine(dict(passed.counts), unread=error.strerror or str(error))
    except BrokenArchiveError as error:
        broken = str(error)
    except MemoryError:
        broken = TOO_MUCH
    except OSError as error:
        broken = error.strerror or type(error).__name__
    failed = read_error(stream)  # whatever was made of it: a zip without a table of contents, a tar that ends there
    return EndLine(dict(passed.counts), broken, (failed.strerror or str(failed)) if failed else "")


def _member_line(member: Member) -> MemberLine:
    name, shown = quote(member.name), quote(member.shown)
    try:
        count = member.look()
    except CannotCountError as error:
        return MemberLine(name, shown, uncounted=str(error), number=member.number)
    return MemberLine(name, shown, count.pages, count.broken, number=member.number)


class _Watched(ReadFile):
    """An archive that tells when it was read on, as long as that may be what it holds."""

    def __init__(self, path: Path, on_progress: Callable[[], None], most_bytes: int) -> None:
        # The scan has waited for who held it.
        super().__init__(path, opener=partial(regular, patience=Patience(0.0)))
        close_another(cast("BinaryIO", self), path)
        self._on_progress = on_progress
        self._most_bytes = most_bytes
        self._read_bytes = 0

    def _note(self, count: int) -> None:
        before = self._read_bytes // ALIVE_BYTES
        self._read_bytes += count
        if self._read_bytes // ALIVE_BYTES > before and self._read_bytes <= self._most_bytes:
            self._on_progress()

    def read(self, size: int | None = -1) -> bytes:
        """As `io.FileIO.read`."""
        data = super().read(-1 if size is None else size)
        self._note(len(data))
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """As `io.FileIO.readinto`."""
        count = super().readinto(buffer)
        self._note(count)
        return count


if __name__ == "__main__":
    # Also where it is full: the next that Python takes may be the current one.
    tempfile.tempdir = os.environ.get("TMPDIR")
    serve(sys.stdin.buffer, sys.stdout.buffer)
