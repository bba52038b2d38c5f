"""Pictures with boxes, drawn by a process of its own.

The producer decodes no pixels: `python -m detector.overlay` does, one JSON line a picture. A page that takes it down
or keeps it busy for too long costs that one picture; the process is started again for the next.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec

from detector.errors import DetectorError
from worker.messages import BoxRecord
from worker.storage import Storage

ANSWER_TIMEOUT_S = 60.0  # an 80 MP progressive JPEG takes a few seconds on the slowest machine


class _Answer(msgspec.Struct):
    ok: bool
    error: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class Drawn:
    """What became of one picture.

    Attributes:
        ok: the JPEG is there.
        width: of the JPEG, pixels.
        height: of the JPEG, pixels.
        error: one line, if not ok.
    """

    ok: bool
    width: int = 0
    height: int = 0
    error: str = ""


def can_draw() -> bool:
    """Whether the drawing process can run on this machine (its libraries are looked up, not imported)."""
    return all(find_spec(name) is not None for name in ("detector", "numpy", "cv2"))


class OverlayProcess:
    """Draws pages with their boxes as JPEGs. A context manager; nothing runs before the first picture.

    Args:
        timeout_s: how long one picture may take, seconds.
    """

    def __init__(self, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._spool = tempfile.TemporaryDirectory(prefix="ocrfleet-draw-", ignore_cleanup_errors=True)
        self._storage = Storage((), Path(self._spool.name))

    def __enter__(self) -> OverlayProcess:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop(kill=exc_type is not None)
        self._spool.cleanup()

    def draw(self, uri: str, page: int, boxes: Sequence[BoxRecord], out: Path, *, max_side: int = 1600) -> Drawn:
        """Writes one JPEG; its folder must exist.

        Args:
            uri: the page's file or archive member, as in the manifest.
            page: 0-based page.
            boxes: in original upright pixels.
            out: the JPEG to write.
            max_side: its longer side at most, pixels.
        """
        drawn_to = Path(self._spool.name) / "drawn.jpg"  # `out` may have a name JSON cannot carry
        try:
            with self._storage.open(uri) as path:
                job = {
                    "path": quote(os.fsencode(path)),
                    "page": page,
                    "boxes": [box.points for box in boxes],
                    "out": str(drawn_to),
                    "max_side": max_side,
                }
                answer = self._ask(msgspec.json.encode(job) + b"\n")
            if answer.ok:
                _move(drawn_to, out)
        except (DetectorError, OSError) as error:
            return Drawn(False, error=str(error))
        return Drawn(answer.ok, answer.width, answer.height, answer.error)

    def _ask(self, job: bytes) -> _Answer:
        process = self._running()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(job)
            process.stdin.flush()
            line = self._read_line(process)
        except BrokenPipeError:
            line = b""
        if not line:
            self._stop(kill=True)
            return _Answer(False, "the drawing process was lost on this page, or took too long")
        try:
            return msgspec.json.decode(line, type=_Answer, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._stop(kill=True)
            return _Answer(False, "the drawing process gave an answer that cannot be read")

    def _read_line(self, process: subprocess.Popen[bytes]) -> bytes:
        """One answer, empty if the process died or did not answer in time."""
        assert process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            return process.stdout.readline() if selector.select(self._timeout_s) else b""

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop(kill=True)
            self._process = subprocess.Popen(
                # -P: a folder named `detector` where the user happens to stand must not be taken for ours.
                [sys.executable, "-P", "-m", "detector.overlay"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
                start_new_session=True,  # Ctrl-C reaches the producer, which then ends this in order
            )
        return self._process

    def _stop(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        assert process.stdin and process.stdout
        try:
            process.stdin.close()
            process.wait(5)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        process.stdout.close()


def _move(source: Path, target: Path) -> None:
    """Across file systems too, and never half of it under the target's name."""
    part = target.with_name(f".{os.getpid()}.part")
    try:
        part.write_bytes(source.read_bytes())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
        source.unlink(missing_ok=True)
