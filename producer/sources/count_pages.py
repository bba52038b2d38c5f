"""Counts pages with pypdf, within limits; as a program, one file a line: ``python -m producer.sources.count_pages``.

For PDFs where pdfium is not installed (a bare producer). Reads JSON lines on stdin::

    {"path": "/data/a%20b.pdf"}

and answers each as ``detector.images.count_pages`` does, with ``broken`` (why there may be more pages) besides.
"""

from __future__ import annotations

import os
import sys
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

import msgspec

from detector.images.regular_file import Identity, SeenPath, open_regular
from detector.memory import limit_memory
from producer.answer_line import answer_line
from producer.errors import CannotCountError
from producer.sources.page_count import PageCount, count_pages

MEMORY_BYTES = 256 << 20
"""Python and pypdf take 40 MiB of it."""


class Question(msgspec.Struct, frozen=True):
    """What to count: a percent-encoded file name, its kind, and which file it was (device, inode); null: any."""

    path: str
    kind: str = "pdf"
    seen: Identity | None = None


class CountAnswer(msgspec.Struct, frozen=True):
    """One line of this program, and of ``python -m detector.images.count_pages``."""

    ok: bool
    pages: int = 0
    listed: int = 0
    most: int = 0
    broken: str = ""
    error: str = ""


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answers one line after the other until the input ends."""
    for line in questions:
        limit_memory(MEMORY_BYTES)
        try:
            count = _count(msgspec.json.decode(line, type=Question))
            answer = CountAnswer(True, count.pages, broken=count.broken)
        except CannotCountError as error:
            answer = CountAnswer(False, error=str(error))
        except MemoryError:
            answer = CountAnswer(False, error=f"its pages cannot be counted within {MEMORY_BYTES >> 20} MiB")
        answers.write(answer_line(answer))
        answers.flush()


def _count(question: Question) -> PageCount:
    try:
        with open_regular(SeenPath.to(os.fsdecode(unquote_to_bytes(question.path)), question.seen)) as stream:
            return count_pages(stream, question.kind)
    except OSError as error:
        raise CannotCountError(error.strerror or str(error)) from error


if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
