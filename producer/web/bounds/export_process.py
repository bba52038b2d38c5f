"""Converts a job's results; as a program, in memory of its own: ``python -m producer.web.bounds.export_process``.

A record of 4 MiB (85,000 boxes) is 60 MB once it is read, and 300 as Label Studio has it. So what a job of more than
`SMALL_BYTES` becomes is not made in the page's own process, but in one with a limit, two at a time. Nor is what opens
pictures again, however small: it takes as long as strangers' pages do, and ends with who asked for it.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import msgspec

from detector.errors import first_line
from detector.memory import limit_memory
from detector.record import UNREADABLE
from producer.detector_process import line_process
from producer.errors import ProducerError
from producer.output.documents import NEED_IMAGES, NEED_TEXT
from producer.output.formats import export_results
from producer.web.bounds.makings import Making, end_with_the_page
from producer.web.bounds.zip_file import pack
from producer.web.problem import Problem

MEMORY_BYTES = 384 << 20
SMALL_BYTES = 256 << 10
"""Of results: 6,000 boxes, 20 MB as Label Studio has them. A process takes half a second to start."""

SMALL_TEXT_BYTES = 32 << 10
"""Where lines are put in reading order: 150 of them. How long that takes is their layout's affair, and a thread of the
page cannot be ended."""

AT_ONCE, PATIENCE_S, MOST_S = 2, 20.0, 3600.0
_POLL_S = 0.2
_converting = threading.Semaphore(AT_ONCE)


class Wanted(msgspec.Struct, frozen=True):
    """What is to be converted: the arguments of `export_results`. Paths are percent-encoded."""

    out: str
    format_name: str
    destination: str
    hide: str
    roots: list[str] = []


class Converted(msgspec.Struct, frozen=True):
    """Why it was not; empty if it was.

    Attributes:
        refused: by us, in one line.
        errno: by the system, over `file`.
    """

    refused: str = ""
    errno: int = 0
    file: str = ""


class RefusedError(ProducerError):
    """What the process said. One line."""


def convert(
    out: Path,
    format_name: str,
    destination: Path,
    hide: str,
    roots: tuple[Path, ...] = (),
    making: Making | None = None,
) -> Path:
    """`export_results` as one file, where that may be large in a process of its own.

    Args:
        out: the job's folder.
        format_name: those of `NEED_IMAGES` do not wait for others: who calls lets few through.
        destination: what is written; what is a folder, as a zip beside it.
        hide: see `export_results`.
        roots: likewise.
        making: ends it.

    Returns:
        The file.

    Raises:
        Problem: 429, others are being converted; what it was ended for.
        ProducerError: this job cannot be had in that format; it takes more memory or time than there is.
        OSError: it cannot be written.
    """
    making = making or Making()
    opens_pictures = format_name in NEED_IMAGES
    small = SMALL_TEXT_BYTES if format_name in NEED_TEXT else SMALL_BYTES
    if not opens_pictures and (out / "results.jsonl").stat().st_size <= small:
        return _make(out, format_name, destination, hide, roots)
    wanted = Wanted(_text(out), format_name, _text(destination), _text(hide), list(map(_text, roots)))
    if not opens_pictures:
        _wait_for_a_place(making)
    try:
        told = _ask(wanted, making)
    finally:
        if not opens_pictures:
            _converting.release()
    if told.refused:
        raise RefusedError(told.refused)
    if told.errno:
        raise OSError(told.errno, "cannot be written", told.file)
    return destination if destination.exists() else destination.with_name(f"{destination.name}.zip")


def _wait_for_a_place(making: Making) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while not _converting.acquire(timeout=min(_POLL_S, PATIENCE_S)):
        making.check()
        if time.monotonic() > ends_at:
            raise Problem(429, "other results are being converted", "try again in a moment", retry_after_s=10)


def _make(out: Path, format_name: str, destination: Path, hide: str, roots: tuple[Path, ...]) -> Path:
    target = export_results(out, format_name, destination, hide=hide, roots=roots)
    return pack(target) if target.is_dir() else target


def _text(path: Path | str) -> str:
    return quote(os.fsencode(path))


def _path(text: str) -> Path:
    return Path(os.fsdecode(unquote_to_bytes(text)))


def _ask(wanted: Wanted, making: Making) -> Converted:
    said = making.ask("producer.web.bounds.export_process", msgspec.json.encode(wanted), MOST_S)
    making.check()
    try:
        return msgspec.json.decode(said, type=Converted)
    except UNREADABLE:  # lost over it
        return Converted(
            f"these results take more than {MEMORY_BYTES >> 20} MiB or an hour to convert; take jsonl, and convert it "
            "with `ocr-producer export`"
        )


def answer(question: bytes) -> Converted:
    """Converts what is asked for."""
    wanted = msgspec.json.decode(question, type=Wanted)
    limit_memory(MEMORY_BYTES)
    hide, roots = os.fsdecode(unquote_to_bytes(wanted.hide)), tuple(map(_path, wanted.roots))
    try:
        _make(_path(wanted.out), wanted.format_name, _path(wanted.destination), hide, roots)
    except ProducerError as error:
        return Converted(first_line(error))
    except OSError as error:
        return Converted(errno=error.errno or 5, file=str(error.filename or ""))
    return Converted()


if __name__ == "__main__":
    asked = end_with_the_page()
    # Also where it is full: the next that Python takes may be the current one.
    tempfile.tempdir = os.environ.get("TMPDIR")
    line_process.OWN_SESSIONS = False  # what opens pictures is killed with this one's group
    sys.stdout.buffer.write(msgspec.json.encode(answer(asked)) + b"\n")
    sys.stdout.buffer.flush()
