"""Standard output and error where what they lead to takes no more: a full disk, a pipe whose reader has gone."""

from __future__ import annotations

import io
import select
import sys
from typing import Any, BinaryIO, cast


def set_up_streams(*, output_may_fail: bool = True) -> None:
    """For a program's start: a message that cannot be printed is left out, and an error of its output names it.

    `run 2>log` on a full disk ended at its first line of progress; the next message after somebody made room is there.

    Args:
        output_may_fail: what is printed to standard output is what the command was asked for. A worker's is messages.
    """
    for name, kind in (("stdout", _Named if output_may_fail else _Forgiving), ("stderr", _Forgiving)):
        was = getattr(sys, name)
        setattr(sys, name, _instead_of(was, kind))
        if was is getattr(sys, f"__{name}__"):
            setattr(sys, f"__{name}__", getattr(sys, name))  # Celery prints what it is there


class _Waiting(io.FileIO):
    def write(self, data: Any, /) -> int:
        left = memoryview(data).cast("B")
        while left:
            written = super().write(left)
            if written is None:  # a full pipe, which whoever shares it set not to block
                select.select((), (self,), ())
            left = left[written or 0 :]
        return memoryview(data).nbytes


class _Forgiving(_Waiting):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes  # nothing is kept for later: it would be printed twice


class _Named(_Waiting):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = "standard output"
            raise


def _instead_of(stream: Any, kind: type[io.FileIO]) -> Any:
    """The same stream over a file of this kind; as it is where it is closed, or no file of Python's own."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    raw = kind(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        cast(BinaryIO, raw) if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
