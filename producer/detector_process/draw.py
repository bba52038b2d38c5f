"""Pictures with boxes, drawn by a process of its own.

The producer decodes no pixels: `python -m detector.overlay` does, one JSON line a picture. A page that takes it down
or keeps it busy for too long costs that one picture; the process is started again for the next.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import msgspec

from detector.atomic import atomic_write
from detector.errors import ImageError, NotFound
from detector.images.regular_file import seen_as
from producer.detector_process.line_process import ANSWER_TIMEOUT_S, LineProcess
from producer.detector_process.originals import NOT_ONES_OWN, originals
from producer.detector_process.remote_process import RemoteProcess
from worker.messages import BoxRecord
from worker.settings import settings
from worker.storage.remote import SCHEMES

MOST_LOST = 8
"""Pictures in a row that the process is lost over, or a minute each, before no more are asked for."""


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
    """Draws pages with their boxes as JPEGs. A context manager."""

    def __init__(
        self, timeout_s: float = ANSWER_TIMEOUT_S, roots: tuple[Path, ...] | None = (), *, may_fetch: bool = True
    ) -> None:
        """Start nothing yet.

        Args:
            timeout_s: how long one picture may take, seconds.
            roots: see `originals`; None: nothing is opened.
            may_fetch: whether addresses are asked for.
        """
        self._child = LineProcess("detector.overlay", timeout_s)
        self._lost = 0  # in a row
        self._spool = tempfile.TemporaryDirectory(prefix="ocrfleet-draw-", ignore_cleanup_errors=True)
        self._is_own = roots is not None
        self._remote = RemoteProcess()
        fetchers = dict.fromkeys(SCHEMES, self._fetch if may_fetch else _refuse)
        self._storage = originals(roots or (), Path(self._spool.name), fetchers)

    def __enter__(self) -> OverlayProcess:
        """Nothing runs before the first picture."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process (in order, or at once after an error) and remove its temporary files."""
        self._child.stop(kill=exc_type is not None)
        self._remote.close()
        self._storage.close()
        self._spool.cleanup()

    def draw(self, uri: str, page: int, boxes: Sequence[BoxRecord], out: Path, *, max_side: int = 1600) -> Drawn:
        """Writes one JPEG; its folder must exist.

        Args:
            uri: the page's file, archive member or address, as in the manifest; empty where nobody knows it.
            page: 0-based page.
            boxes: in original upright pixels.
            out: the JPEG to write.
            max_side: its longer side at most, pixels.
        """
        if not uri:
            return Drawn(False, error="the image is on the machine that enqueued the job")
        if self._lost >= MOST_LOST:
            return Drawn(False, error=f"not drawn: the drawing process was lost on {MOST_LOST} pages before it")
        if self._remote.late >= MOST_LOST and uri.startswith(tuple(f"{scheme}:" for scheme in SCHEMES)):
            return Drawn(False, error=f"not drawn: servers did not send the {MOST_LOST} pictures before it in time")
        if not self._is_own:
            return Drawn(False, error=NOT_ONES_OWN)
        drawn_to = Path(self._spool.name) / "drawn.jpg"  # `out` may have a name JSON cannot carry
        try:
            with self._storage.open(uri) as path:
                job = {
                    "path": quote(os.fsencode(path)),
                    "page": page,
                    "boxes": [box.outline for box in boxes],
                    "out": str(drawn_to),
                    "max_side": max_side,
                    "seen": seen_as(path),
                }
                answer = self._ask(msgspec.json.encode(job))
            if answer.ok:
                _move(drawn_to, out)
        except (ImageError, OSError) as error:
            return Drawn(False, error=str(error))
        return Drawn(answer.ok, answer.width, answer.height, answer.error)

    def _fetch(self, uri: str, target: Path) -> None:
        # The manifest is of this user's own scan: what it names may be fetched. What a server names may not.
        self._remote.fetch(uri, target, url_roots=settings().url_roots)

    def _ask(self, job: bytes) -> _Answer:
        line = self._child.ask(job)
        self._lost = 0 if line else self._lost + 1
        if not line:
            return _Answer(False, "the drawing process was lost on this page, or took too long")
        try:
            return msgspec.json.decode(line, type=_Answer, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._child.stop(kill=True)
            return _Answer(False, "the drawing process gave an answer that cannot be read")


def _refuse(uri: str, target: Path) -> None:
    raise NotFound(f"{uri} is not asked for: others can write to manifest.jsonl; look at it, then `chmod go-w` it")


def _move(source: Path, target: Path) -> None:
    """Across file systems too, and never half of it under the target's name."""
    try:
        with atomic_write(target) as part:
            part.write_bytes(source.read_bytes())
    finally:
        source.unlink(missing_ok=True)
