"""Draws boxes over pages; as a program, one JPEG per job line.

``python -m detector.overlay`` reads JSON lines on stdin::

    {"path": "/data/a%20b.jpg", "page": 0, "boxes": [[[x, y], [x, y], [x, y], [x, y]]], "out": "/abs/out.jpg",
     "max_side": 1600, "scores": [0.9]}

(`path` is the percent-encoded file name, so that every name fits; `page`, `max_side` and `scores` may be left out) and
answers each with one line on stdout: ``{"out": "...", "ok": true, "width": 1200, "height": 1600}`` or
``{"out": "...", "ok": false, "error": "..."}``. It goes on after errors and ends with its input.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from detector.atomic import atomic_write
from detector.errors import DetectorError, first_line, is_out_of_memory, json_line, printable_lines
from detector.images.page import Page, open_page
from detector.images.regular_file import Identity, SeenPath
from detector.memory import configure_process, limit_memory
from detector.profile import memory_limit

Boxes = Sequence[Sequence[Sequence[float]]] | Sequence[npt.NDArray[np.float64]] | npt.NDArray[np.float64]
"""Polygons, (N, 2) corners each."""

MAX_SIDE = 1600
_JPEG = (  # full colour resolution: JPEG's usual half would wash the thin lines out
    cv2.IMWRITE_JPEG_QUALITY,
    82,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)
RED = (255, 45, 85)  # rare in photos and in print
GREEN = (0, 170, 80)
GREY = (130, 130, 130)
_HALO = (255, 255, 255)
_FRACTION_BITS = 4  # cv2 takes coordinates in 1/16 pixel with shift=4
_FILL = 0.12


class BoxesError(DetectorError):
    """Boxes that cannot be drawn."""


def draw(
    pixels: npt.NDArray[np.uint8],
    boxes: Boxes,
    *,
    scores: Sequence[float] | None = None,
    colour: tuple[int, int, int] = RED,
) -> npt.NDArray[np.uint8]:
    """A copy of a picture with the boxes on it: thin anti-aliased outlines on a white halo, faintly filled.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        boxes: polygons, (N, 2) each, in pixels of `pixels`.
        scores: written beside the boxes when given.
        colour: RGB of the lines.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = np.ascontiguousarray(pixels).copy()
    if not len(boxes):
        return canvas
    width = max(1, round(max(canvas.shape[:2]) / 700))
    boxes = [_near(np.asarray(box, dtype=np.float64), canvas) for box in boxes]
    outlines = [np.round((box - 0.5) * (1 << _FRACTION_BITS)).astype(np.int32) for box in boxes]
    filled = canvas.copy()
    for outline in outlines:
        cv2.fillPoly(filled, [outline], colour, cv2.LINE_AA, _FRACTION_BITS)
    cv2.addWeighted(filled, _FILL, canvas, 1 - _FILL, 0, dst=canvas)
    cv2.polylines(canvas, outlines, True, _HALO, width + 2, cv2.LINE_AA, _FRACTION_BITS)
    cv2.polylines(canvas, outlines, True, colour, width, cv2.LINE_AA, _FRACTION_BITS)
    for box, score in zip(boxes, scores or (), strict=False):
        _write_score(canvas, box, score)
    return canvas


def _near(box: npt.NDArray[np.float64], canvas: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Corners no farther outside than the page is large: boxes lie inside, and for far ones OpenCV takes seconds."""
    height, width = canvas.shape[:2]
    return np.clip(np.nan_to_num(box), (-width, -height), (2 * width, 2 * height))


def _write_score(canvas: npt.NDArray[np.uint8], box: npt.NDArray[np.float64], score: float) -> None:
    size = max(0.35, max(canvas.shape[:2]) / 2600)
    text = f"{score:.2f}".lstrip("0")
    (_, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    x, y = box[0]
    corner = (max(0, int(x)), max(high + 1, int(y) - 3))
    cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, _HALO, 3, cv2.LINE_AA)
    cv2.putText(canvas, text, corner, cv2.FONT_HERSHEY_SIMPLEX, size, RED, 1, cv2.LINE_AA)


def write_jpeg(pixels: npt.NDArray[np.uint8], out: Path) -> None:
    """Writes (H, W, 3) uint8 RGB as JPEG: complete, or not at all. Parent folders are made.

    Raises:
        OSError: the file cannot be written.
    """
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _JPEG)
    if not ok:
        raise OSError(f"cannot encode {pixels.shape} pixels as JPEG")
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(out) as unfinished:
        unfinished.write_bytes(data.tobytes())


def write_overlay(
    path: Path,
    page: int,
    boxes: Boxes,
    out: Path,
    *,
    max_side: int = MAX_SIDE,
    scores: Sequence[float] | None = None,
) -> tuple[int, int]:
    """Opens a page no larger than `max_side`, draws its boxes (original upright pixels), writes a JPEG.

    Returns:
        (width, height) of the JPEG in pixels.

    Raises:
        BoxesError: a box is not a polygon.
        ImageError: the page cannot be opened.
        OSError: the JPEG cannot be written.
    """
    opened = open_page(path, page, limit_side=max_side, max_pixels=sys.maxsize)  # who has boxes has passed the limit
    write_jpeg(draw(opened.pixels, _scaled(boxes, opened), scores=scores), out)
    height, width = opened.pixels.shape[:2]
    return width, height


def write_comparison(path: Path, found: Boxes, truth: Sequence[tuple[Any, bool]], out: Path) -> None:
    """Draws ground truth (green; grey where it is "do not care") under what was found (red) and writes a JPEG.

    Args:
        path: the image.
        found: boxes in its original upright pixels.
        truth: (corners, ignore) pairs in the same pixels.
        out: the JPEG.

    Raises:
        ImageError: the image cannot be opened.
        OSError: the JPEG cannot be written.
    """
    opened = open_page(path, limit_side=MAX_SIDE)
    pixels = opened.pixels
    for ignored, colour in ((True, GREY), (False, GREEN)):
        corners = [np.asarray(points, dtype=np.float64) for points, ignore in truth if ignore is ignored]
        pixels = draw(pixels, _scaled(corners, opened), colour=colour)
    write_jpeg(draw(pixels, _scaled(found, opened)), out)


def _scaled(boxes: Boxes, opened: Page) -> list[npt.NDArray[np.float64]]:
    """Boxes in original pixels -> in the opened page's pixels."""
    height, width = opened.pixels.shape[:2]
    scale = np.array([width / opened.width, height / opened.height])
    polygons = [np.asarray(box, dtype=np.float64) for box in boxes]
    if any(polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3 for polygon in polygons):
        raise BoxesError("a box is not a list of three or more [x, y] corners")
    return [polygon * scale for polygon in polygons]


class Job(msgspec.Struct, frozen=True):
    """One job line, see the module's description."""

    path: str
    boxes: list[list[tuple[float, float]]]
    out: str
    page: int = 0
    max_side: int = MAX_SIDE
    scores: list[float] | None = None
    seen: Identity | None = None


def answer(line: str) -> dict[str, Any]:
    """Does one job line; whatever goes wrong is in the answer, and a fault of ours also on stderr."""
    out = None
    try:
        job = msgspec.json.decode(line, type=Job)
        out = job.out
        path = SeenPath.to(os.fsdecode(unquote_to_bytes(job.path)), job.seen)
        width, height = write_overlay(path, job.page, job.boxes, Path(out), max_side=job.max_side, scores=job.scores)
    except msgspec.MsgspecError as error:
        return {"out": out, "ok": False, "error": f"bad overlay job: {first_line(error)}"}
    except (DetectorError, OSError) as error:
        return {"out": out, "ok": False, "error": str(error)}
    except MemoryError:
        return {"out": out, "ok": False, "error": "not enough memory to draw this page"}
    except Exception as error:  # the other pages can still be drawn
        if is_out_of_memory(error):
            return {"out": out, "ok": False, "error": "not enough memory to draw this page"}
        with suppress(OSError):  # stderr may be on a full disk
            sys.stderr.write(printable_lines(traceback.format_exc()))
        return {"out": out, "ok": False, "error": f"a bug in drawing: {type(error).__name__}: {first_line(error)}"}
    return {"out": out, "ok": True, "width": width, "height": height}


def serve(jobs: TextIO, answers: TextIO, limit: int | None = None) -> None:
    """Answers job lines until they end, using at most ``limit`` bytes of memory."""
    for line in jobs:
        if line.strip():
            if limit is not None:
                limit_memory(limit)
            answers.write(json_line(answer(line)))
            answers.flush()


def main() -> int:
    """``python -m detector.overlay``."""
    configure_process()
    try:
        serve(sys.stdin, sys.stdout, memory_limit(os.environ))
    except (BrokenPipeError, KeyboardInterrupt):
        # Whoever asked is gone; a second error while Python flushes stdout at exit would only be noise.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
