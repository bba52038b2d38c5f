"""Standard output and error where what they lead to takes no more: a full disk, a pipe whose reader has gone."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import Any


def set_up_streams(*, output_may_fail: bool = True) -> None:
    """For a program's start: a message that cannot be printed is left out, and an error of its output names it.

    `run 2>log` on a full disk ended at its first line of progress; once there is room, messages are there again.

    Args:
        output_may_fail: what is printed to standard output is what the command was asked for. A worker's is messages.
    """
    made: dict[Any, Any] = {}  # one may stand for both
    for name, kind in (("stdout", _Named if output_may_fail else _Forgiving), ("stderr", _Forgiving)):
        was = getattr(sys, name)
        if was not in made:
            made[was] = _instead_of(was, kind)
        setattr(sys, name, made[was])
        if was is getattr(sys, f"__{name}__"):
            setattr(sys, f"__{name}__", made[was])  # Celery prints what it is there


# Text files, not what lies below them: an interrupt in a raw file's Python comes after its bytes are on their way, and
# a buffer would send these again.
class _Forgiving(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


class _Named(io.TextIOWrapper):
    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            error.filename = "standard output"
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            error.filename = "standard output"
            raise


def _instead_of(stream: Any, kind: type[io.TextIOWrapper]) -> Any:
    """The same stream as this kind; as it is where it is somebody else's, or closed."""
    if type(stream) is not io.TextIOWrapper:  # one of pytest, say, whose owner goes on with it
        return stream
    encoding, errors, by_line, through = stream.encoding, stream.errors, stream.line_buffering, stream.write_through
    return kind(stream.detach(), encoding, errors, line_buffering=by_line, write_through=through)
