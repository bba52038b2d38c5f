"""`OUT/overlays`: every page of a job as a JPEG with its boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from producer.manifest import ManifestIndex
from producer.naming import safe_name
from producer.results import iter_records
from producer.thumbnails import OverlayProcess, can_draw

MAX_SIDE = 1600


@dataclass
class OverlayCount:
    """What was drawn.

    Attributes:
        written: JPEGs now in the folder.
        not_drawn: pages that were detected, but could not be drawn.
    """

    written: int = 0
    not_drawn: int = 0


class CannotDraw(RuntimeError):
    """This machine has no drawing libraries; the message says what to install."""


def write_overlays(
    out: Path, *, progress: Callable[[int, int], None] = lambda written, not_drawn: None, max_side: int = MAX_SIDE
) -> OverlayCount:
    """Draws every page that was detected, one after the other; memory does not grow with the job.

    `sub/a.png` becomes `overlays/sub/a.png.jpg`, page 2 of `b.pdf` becomes `overlays/b.pdf_p0002.jpg`.

    Args:
        out: a job's output folder with `results.jsonl` and `manifest.jsonl`.
        progress: told after each page how many are written and how many could not be drawn.
        max_side: longer side of the JPEGs at most, pixels.

    Raises:
        CannotDraw: the drawing libraries are not installed.
        FileNotFoundError: no results or no manifest.
    """
    if not can_draw():
        raise CannotDraw("no overlays: this machine lacks OpenCV; pip install 'ocrfleet[worker]' and run again")
    count = OverlayCount()
    with ManifestIndex(out / "manifest.jsonl") as manifest, OverlayProcess() as process:
        for record in iter_records(out / "results.jsonl"):
            line = manifest.line(record.index)
            if record.status != "ok" or line is None:
                continue
            paged = manifest.is_paged(record.index, record.image, record.page)
            name = safe_name(record.image, record.page, paged=paged, suffix=True)
            target = out / "overlays" / name.with_name(name.name.removesuffix(".jpg") + ".jpg")
            target.parent.mkdir(parents=True, exist_ok=True)
            drawn = process.draw(line.uri, record.page, record.boxes, target, max_side=max_side)
            count.written += drawn.ok
            count.not_drawn += not drawn.ok
            progress(count.written, count.not_drawn)
    return count
