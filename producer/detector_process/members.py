"""Takes members out of strangers' archives, within limits; as a program, one member a line.

``python -m producer.detector_process.members`` reads JSON lines (`MemberWanted`) on stdin and answers each with a
`MemberTaken`. What an archive has it allocate (a dictionary, a table of contents, a name of 1.5 GB) or unpack on the
way costs this process, and never who sends or draws pages: the page's process has 96 MB for all its jobs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.errors import ImageError, TooLarge, show
from detector.images.regular_file import Identity, SeenPath
from detector.memory import limit_memory
from producer.answer_line import answer_line
from worker.storage.bound import Bound
from worker.storage.files import MAX_MEMBER_BYTES, Storage
from worker.storage.spool import MachineFault

MEMORY_BYTES = 192 << 20
"""Of which Python takes 15 MiB; a dictionary of 64 MiB (xz -9, 7-Zip's ultra) and what is unpacked with it fit."""


class MemberWanted(msgspec.Struct, frozen=True):
    """One line: an archive's scheme, and percent-encoded: its path, the member, the file to write; bound and number."""

    scheme: str
    archive: str
    member: str
    out: str
    seen: Identity | None = None
    most_bytes: int = MAX_MEMBER_BYTES
    remedy: str = "unpack the archive"
    number: int | None = None


class MemberTaken(msgspec.Struct, frozen=True):
    """Its answer.

    Attributes:
        type: of a failed record; empty: it is there.
        error: what a person reads.
        errno: not 0: this machine is at fault, and `error` says what the system said about `path`.
        path: percent-encoded.
    """

    type: str = ""
    error: str = ""
    errno: int = 0
    path: str = ""


def serve(lines: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""
    storage = Storage((), Path(os.devnull))
    limit_memory(MEMORY_BYTES)  # once: nothing that is loaded later counts beside it, and it takes 0.2 ms
    for line in lines:
        answers.write(answer_line(_take(storage, msgspec.json.decode(line, type=MemberWanted))))
        answers.flush()


def _take(storage: Storage, wanted: MemberWanted) -> MemberTaken:
    archive, out = (os.fsdecode(unquote_to_bytes(name)) for name in (wanted.archive, wanted.out))
    member = unquote_to_bytes(wanted.member).decode("utf-8", "surrogateescape")
    try:
        bound = Bound(wanted.most_bytes, wanted.remedy)
        storage.extract(
            wanted.scheme, SeenPath.to(archive, wanted.seen), member, Path(out), bound, number=wanted.number
        )
    except MachineFault as error:
        return MemberTaken(
            "Internal", error.strerror or str(error), error.errno or 5, quote(os.fsencode(error.filename or out))
        )
    except ImageError as error:
        return MemberTaken(error.type, str(error))
    except MemoryError:
        storage.close()
        said = f"{member!r} in {show(archive)} cannot be unpacked within {MEMORY_BYTES >> 20} MiB"
        return MemberTaken(TooLarge.type, f"{said}; unpack the archive first")
    except Exception as error:  # readers of hostile files raise whatever they like
        storage.close()
        return MemberTaken("CorruptImage", f"{member!r} in {show(archive)} is damaged ({type(error).__name__})")
    return MemberTaken()


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
