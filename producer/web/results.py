"""A job's results on their way to a client: the existing writers, streamed from disk."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
from starlette.responses import Response, StreamingResponse

from producer.errors import ProducerError
from producer.job.output_folder import OutputFolder
from producer.output.formats import FORMATS, export_results
from producer.web.problem import Problem

JSONL = "jsonl"
ALL_FORMATS = (JSONL, *FORMATS)
BLOCK = 1 << 16
_MEDIA = {"coco": "application/json", "labelstudio": "application/json", "csv": "text/csv; charset=utf-8"}
_ENDINGS = {"coco": "coco.json", "labelstudio": "labelstudio.json", "csv": "csv"}


def results_response(name: str, folder: OutputFolder, format_name: str, exports: Path, start: int = 0) -> Response:
    """The results in a format.

    Args:
        name: the job's.
        folder: the job's.
        format_name: one of `ALL_FORMATS`; what is a folder of files comes as a zip.
        exports: an empty folder for the converted file; removed when the client has it.
        start: first byte, for `jsonl`: results that came since the last call.

    Raises:
        Problem: 404, there are no results yet; 409, this job cannot be had in that format.
    """
    if not folder.results.exists():
        shutil.rmtree(exports, ignore_errors=True)
        raise Problem(404, f"job {name} has no results yet", "wait for its events", retry_after_s=2)
    if format_name == JSONL:
        shutil.rmtree(exports, ignore_errors=True)
        end = _end_of_lines(folder.results)
        place = {"Ocrfleet-Next": str(end), "Ocrfleet-File": file_name(folder.results)}
        return StreamingResponse(
            line_blocks(folder.results, start, end, hide=f"{folder.root / 'upload'}/"),
            media_type="application/jsonl",
            headers=place | _attachment(f"{name}.jsonl"),
        )
    try:
        target = export_results(folder.root, format_name, exports / format_name, hide=f"{folder.root / 'upload'}/")
    except BaseException as error:
        shutil.rmtree(exports, ignore_errors=True)
        if isinstance(error, ProducerError):  # texts of a job that was not read, a library that is not installed
            said = str(error).replace(f"{folder.root}/", "")
            raise Problem(409, f"{format_name}: {said}", "take another format") from None
        raise
    if target.is_dir():
        headers = _attachment(f"{name}-{format_name}.zip")
        return StreamingResponse(
            then_remove(exports, zip_blocks(target)), media_type="application/zip", headers=headers
        )
    headers = {"Content-Length": str(target.stat().st_size), **_attachment(f"{name}.{_ENDINGS[format_name]}")}
    blocks = then_remove(exports, file_blocks(target, 0, target.stat().st_size))
    return StreamingResponse(blocks, media_type=_MEDIA[format_name], headers=headers)


def file_name(results: Path) -> str:
    """Tells a results file from the one that takes its place after a retry; empty if there is none."""
    try:
        return f"{results.stat().st_ino:x}"
    except FileNotFoundError:
        return ""


def _attachment(filename: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{filename}"'}


def _end_of_lines(path: Path) -> int:
    """Where the last whole line ends: the collector may be writing the next one."""
    with path.open("rb") as stream:
        end = stream.seek(0, os.SEEK_END)
        while end > 0:
            begin = max(0, end - BLOCK)
            stream.seek(begin)
            if (newline := stream.read(end - begin).rfind(b"\n")) >= 0:
                return begin + newline + 1
            end = begin
    return 0


def then_remove(folder: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks; the folder goes after the last one, or when the client has gone."""
    try:
        yield from blocks
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def file_blocks(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a file from ``start`` to ``end``."""
    with path.open("rb") as stream:
        stream.seek(start)
        left = end - start
        while left > 0 and (block := stream.read(min(BLOCK, left))):
            left -= len(block)
            yield block


def line_blocks(path: Path, start: int, end: int, *, hide: str) -> Iterator[bytes]:
    """Whole lines from ``start`` to ``end``, without where our folder lies: reasons of failed pages name their file."""
    hidden = msgspec.json.encode(hide)[1:-1]
    waiting = bytearray()
    with path.open("rb") as stream:
        stream.seek(start)
        left = end - start
        while left > 0 and (line := stream.readline(left)):
            left -= len(line)
            waiting += line.replace(hidden, b"") if hidden in line else line
            if len(waiting) > BLOCK:
                yield bytes(waiting)
                waiting.clear()
    yield bytes(waiting)


class _Pipe:
    """What zipfile writes to, a block at a time. It cannot be seeked in: sizes follow each file's data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, block: bytes) -> int:
        self.data += block
        return len(block)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        taken, self.data = bytes(self.data), bytearray()
        return taken


def zip_blocks(folder: Path) -> Iterator[bytes]:
    """A folder's files as a zip, in blocks. Memory: the names."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(folder))
                if len(pipe.data) > BLOCK:
                    yield pipe.take()
    yield pipe.take()
