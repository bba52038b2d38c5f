"""Pages made small before they travel, by a process of the detector: the producer itself never loads a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec


class ShrinkAnswer(msgspec.Struct, frozen=True):
    """One line of ``python -m detector.shrink``; see there."""

    ok: bool
    smaller: bool = False
    width: int = 0
    height: int = 0
    flags: tuple[str, ...] = ()
    type: str = "Internal"
    error: str = ""


class ShrinkerLost(RuntimeError):
    """The process died over a page (no memory, a broken decoder)."""


def can_shrink() -> bool:
    """Whether this machine has what it takes (the ``worker`` extra), found out without loading it."""
    return find_spec("cv2") is not None


class Shrinker:
    """A ``python -m detector.shrink`` process, started at the first page and again after it died. A context manager."""

    def __init__(self, limit_side: int, max_pixels: int) -> None:
        self.limit_side = limit_side
        self.max_pixels = max_pixels
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Shrinker:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def shrink(self, path: Path, page: int, out: Path) -> ShrinkAnswer:
        """Write the page to ``out`` as JPEG at the limit, if it is larger.

        Raises:
            ShrinkerLost: the process died; the next call starts a new one.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "detector.shrink"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "MALLOC_ARENA_MAX": "2"},
            )
        job = {
            "path": quote(os.fsencode(path)),
            "page": page,
            "limit_side": self.limit_side,
            "max_pixels": self.max_pixels,
            "out": str(out),
        }
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(job) + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except OSError:
            answer = b""
        if not answer:
            code = self._process.wait()
            self._process = None
            raise ShrinkerLost(f"the shrinking process died over {path} page {page} (exit {code})")
        return msgspec.json.decode(answer, type=ShrinkAnswer)
