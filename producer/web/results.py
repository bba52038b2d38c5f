"""A job's results on their way to a client: the existing writers, streamed from disk."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import anyio
import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from producer.errors import ProducerError
from producer.job.output_folder import OutputFolder
from producer.output.formats import FORMATS
from producer.results_there import name_of
from producer.web.bounds.answers import AllReaders, Reader
from producer.web.bounds.export_process import convert
from producer.web.bounds.makings import Making
from producer.web.problem import Problem

JSONL = "jsonl"
ALL_FORMATS = (JSONL, *FORMATS)
BLOCK = 1 << 15
_MEDIA = {"coco": "application/json", "labelstudio": "application/json", "csv": "text/csv; charset=utf-8"}
_ENDINGS = {"coco": "coco.json", "labelstudio": "labelstudio.json", "csv": "csv"}


class LentResponse(StreamingResponse):
    """An answer from files that are removed when it ends, however it does: read to its end, cut off, never begun.

    It has what it holds from its making on. Should it be dropped, by whatever goes wrong before it is begun, that is
    given back: six answers behind which something failed had all places until the page was started anew.
    """

    def __init__(
        self,
        blocks: Iterator[bytes],
        done: Callable[[], object],
        *,
        media_type: str,
        headers: dict[str, str],
        readers: AllReaders | None = None,
    ) -> None:
        """Begin nothing.

        Args:
            blocks: of the answer.
            done: called once, in a thread, at the end; by who drops this, where it is not begun. It must not hold this.
            media_type: of the answer.
            headers: of the answer.
            readers: among whom the slowest is sent away where another needs his place; none: nobody does.
        """
        self._done = weakref.finalize(self, done)  # calls it once
        self._done.atexit = False
        super().__init__(blocks, media_type=media_type, headers=headers)
        self._readers = AllReaders() if readers is None else readers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and then call ``done``: the ``finally`` of a generator that was never begun is not run."""
        reader = Reader()
        self._readers.add(reader)
        try:
            with reader.scope:
                await super().__call__(scope, receive, reader.through(send))
        finally:
            self._readers.discard(reader)
            with anyio.CancelScope(shield=True):
                await run_in_threadpool(self._done)


def lines_response(name: str, folder: OutputFolder, start: int = 0) -> Response:
    """The results as they are, JSON lines.

    Args:
        name: the job's.
        folder: the job's.
        start: first byte: results that came since the last call, or what was cut off of that.

    Raises:
        Problem: 404, there are no results yet.
    """
    _check_results(name, folder)
    stream = folder.results.open("rb")  # once: a retry may put another file there meanwhile
    try:
        end = _end_of_lines(stream)
        place = {"Ocrfleet-Next": str(end), "Ocrfleet-File": name_of(stream.fileno())}
        # Behind a proxy that speaks HTTP/1.0 (nginx's default) what was cut off had an end like any other.
        length = {"Content-Length": str(end - min(start, end))}
        blocks = line_blocks(stream, start, end, hide=f"{folder.root / 'upload'}/")
    except BaseException:
        stream.close()
        raise
    headers = place | length | _attachment(f"{name}.jsonl")
    return LentResponse(blocks, stream.close, media_type="application/jsonl", headers=headers)


def converted_response(
    name: str,
    folder: OutputFolder,
    format_name: str,
    exports: Path,
    held: ExitStack,
    roots: tuple[Path, ...] = (),
    making: Making | None = None,
    readers: AllReaders | None = None,
) -> Response:
    """The results in another format.

    Args:
        name: the job's.
        folder: the job's.
        format_name: one of `FORMATS`; what is a folder of files comes as a zip.
        exports: an empty folder for the converted file.
        held: what is given back when the client has it, or is gone; it stays as it is if this raises.
        roots: where pictures that are opened again must lie; empty: anywhere.
        making: ends it before it is made.
        readers: who is sent such.

    Raises:
        Problem: 404, there are no results yet; 409, this job cannot be had in that format; 429, others are made; what
            it was ended for.
    """
    _check_results(name, folder)
    hide = f"{folder.root / 'upload'}/"
    try:
        target = convert(folder.root, format_name, exports / format_name, hide, roots, making)
    except ProducerError as error:  # texts of a job that was not read, a library that is not installed
        said = str(error).replace(f"{folder.root}/", "")
        raise Problem(409, f"{format_name}: {said}", "take another format") from None
    zipped = target.suffix == ".zip"
    ending, media = (
        (f"-{format_name}.zip", "application/zip") if zipped else (f".{_ENDINGS[format_name]}", _MEDIA[format_name])
    )
    size = target.stat().st_size
    headers = {"Content-Length": str(size), **_attachment(f"{name}{ending}")}
    blocks = file_blocks(target, 0, size)
    return LentResponse(blocks, held.pop_all().close, media_type=media, headers=headers, readers=readers)


def _check_results(name: str, folder: OutputFolder) -> None:
    if not folder.results.exists():
        raise Problem(404, f"job {name} has no results yet", "wait for its events", retry_after_s=2)


def file_name(results: Path) -> str:
    """Tells a results file from the one that takes its place after a retry; empty if there is none."""
    try:
        with results.open("rb") as stream:
            return name_of(stream.fileno())
    except FileNotFoundError:
        return ""


def size_of(results: Path) -> int:
    """Bytes; 0 if there is none. Asked once: it may go meanwhile, with its job."""
    try:
        return results.stat().st_size
    except FileNotFoundError:
        return 0


def _attachment(filename: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{filename}"'}


def _end_of_lines(stream: BinaryIO, before: int | None = None) -> int:
    """Where the last whole line ends, before a place in the file: the collector may be writing the next one."""
    end = stream.seek(0, os.SEEK_END) if before is None else before
    while end > 0:
        begin = max(0, end - BLOCK)
        stream.seek(begin)
        if (newline := stream.read(end - begin).rfind(b"\n")) >= 0:
            return begin + newline + 1
        end = begin
    return 0


def file_blocks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file from ``start`` to ``end``."""
    with path.open("rb") as stream:
        yield from _blocks(stream, start, end)


def _blocks(stream: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    stream.seek(start)
    left = end - start
    while left > 0 and (block := stream.read(min(BLOCK, left))):
        left -= len(block)
        yield block


def line_blocks(stream: BinaryIO, start: int, end: int, *, hide: str) -> Iterator[bytes]:
    """What lies from ``start`` to ``end``, without where our folder lies: reasons of failed pages name their file.

    It is looked for from the beginning of the line on: who asked from its second byte was told the rest of it. And each
    line stays as long as it is, so that who was cut off, and asks from the byte he came to, gets what he lacks.
    A line may have 4 MiB: it comes in blocks like the others.
    """
    start = max(0, min(start, end))
    begin = _end_of_lines(stream, start)
    return _after(without(_blocks(stream, begin, end), msgspec.json.encode(hide)[1:-1]), start - begin)


def without(blocks: Iterator[bytes], hidden: bytes) -> Iterator[bytes]:
    """Bytes without a text, also where it lies across blocks; before the end of its line are as many blanks instead."""
    rest, owed = b"", 0
    for block in blocks:
        *pieces, last = (rest + block).split(hidden)
        kept = next((size for size in range(len(hidden) - 1, 0, -1) if last.endswith(hidden[:size])), 0)
        rest = last[len(last) - kept :]
        shown: list[bytes] = []
        for number, piece in enumerate((*pieces, last[: len(last) - kept])):
            owed += len(hidden) if number else 0
            if owed and (end := piece.find(b"\n")) >= 0:
                yield b"".join((*shown, piece[:end]))
                while owed:
                    yield (blanks := b" " * min(owed, BLOCK))
                    owed -= len(blanks)
                shown, piece = [], piece[end:]
            shown.append(piece)
        yield b"".join(shown)
    yield rest


def _after(blocks: Iterator[bytes], passed_over: int) -> Iterator[bytes]:
    for block in blocks:
        yield block[passed_over:]
        passed_over = max(0, passed_over - len(block))


def record_blocks(results: Path) -> tuple[int, Iterator[bytes]] | None:
    """The one record of a file, as it is but for where our folder lies, and its size; None if there are several.

    It may have 4 MiB: in one piece that was as much for each of 32 who wait, as Python's lists and numbers 60 MB.
    """
    hide = f"{results.parent / 'upload'}/"
    size = 0
    with results.open("rb") as stream:
        end = _end_of_lines(stream) - 1
        for block in line_blocks(stream, 0, end, hide=hide):
            if b"\n" in block:
                return None
            size += len(block)

    def again() -> Iterator[bytes]:
        with results.open("rb") as stream:
            yield from line_blocks(stream, 0, end, hide=hide)

    return size, again()
