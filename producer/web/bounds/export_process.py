"""Converts a job's results; as a program, in memory of its own: ``python -m producer.web.bounds.export_process``.

A record of 4 MiB (85,000 boxes) is 60 MB once it is read, and 300 as Label Studio has it. So what a job of more than
`SMALL_BYTES` becomes is not made in the page's own process, but in one with a limit, two at a time.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from detector.errors import first_line
from detector.memory import limit_memory, raise_oom_score
from detector.record import UNREADABLE
from producer.errors import ProducerError
from producer.output.formats import export_results
from producer.web.problem import Problem

MEMORY_BYTES = 384 << 20
SMALL_BYTES = 256 << 10
"""Of results: 6,000 boxes, 20 MB as Label Studio has them. A process takes half a second to start."""

AT_ONCE, PATIENCE_S, MOST_S = 2, 20.0, 3600.0
_converting = threading.Semaphore(AT_ONCE)


class Wanted(msgspec.Struct, frozen=True):
    """What is to be converted: the arguments of `export_results`."""

    out: str
    format_name: str
    destination: str
    hide: str


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


def convert(out: Path, format_name: str, destination: Path, hide: str) -> Path:
    """`export_results`, where that may be large in a process of its own.

    Args:
        out: the job's folder.
        format_name: one that opens no pictures.
        destination: what is written.
        hide: see `export_results`.

    Raises:
        Problem: 429, others are being converted; 409, it takes more memory or time than there is.
        ProducerError: this job cannot be had in that format.
        OSError: it cannot be written.
    """
    if (out / "results.jsonl").stat().st_size <= SMALL_BYTES:
        return export_results(out, format_name, destination, hide=hide)
    if not _converting.acquire(timeout=PATIENCE_S):
        raise Problem(429, "other results are being converted", "try again in a moment", retry_after_s=10)
    try:
        told = _ask(Wanted(str(out), format_name, str(destination), hide))
    finally:
        _converting.release()
    if told.refused:
        raise RefusedError(told.refused)
    if told.errno:
        raise OSError(told.errno, "cannot be written", told.file)
    return destination


def _ask(wanted: Wanted) -> Converted:
    # -P: a folder named `producer` where the service happens to stand must not be taken for ours.
    command = [sys.executable, "-P", "-m", "producer.web.bounds.export_process"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        raise_oom_score(process.pid)
        try:
            said, _ = process.communicate(msgspec.json.encode(wanted), MOST_S)
        except subprocess.TimeoutExpired:
            process.kill()
            said = b""
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
    try:
        export_results(Path(wanted.out), wanted.format_name, Path(wanted.destination), hide=wanted.hide)
    except ProducerError as error:
        return Converted(first_line(error))
    except OSError as error:
        return Converted(errno=error.errno or 5, file=str(error.filename or ""))
    return Converted()


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(answer(sys.stdin.buffer.read())))
