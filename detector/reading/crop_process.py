"""``python -m detector.reading.crop_process``: cuts the boxes of pages out, one JSON line a page.

In: {"path": percent-encoded file, "page": 0, "boxes": [[[x, y], ...], ...], "out": folder, "names": [...]}, boxes in
original upright pixels, in reading direction or clockwise from top-left. Out: {"ok": true}, or false and an "error".
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

import cv2
import msgspec
import numpy as np

from detector.errors import DetectorError, TooLarge, first_line, is_out_of_memory, json_line
from detector.images.budget import DEFAULT_MAX_BYTES
from detector.images.page import open_page
from detector.images.regular_file import Identity, SeenPath
from detector.memory import configure_process, limit_memory
from detector.overlay import write_jpeg
from detector.reading.crop import cut, reading_quad, size_of

MEMORY_BYTES = DEFAULT_MAX_BYTES + (160 << 20)
"""What a page at its full size may be estimated to take, and what Python, OpenCV and the strips take besides."""

MOST_CUT, MOST_CUT_OF_SMALL = 8, 4_000_000
"""Boxes of a page together have so many times its pixels at most, or so many pixels. Lines hardly overlap; a forged box
of 50 bytes may be the whole page, and 100,000 of them were hundreds of gigabytes."""


class CropJob(msgspec.Struct, frozen=True):
    """One line."""

    path: str
    page: int
    boxes: list[list[tuple[float, float]]]
    out: str
    names: list[str]
    seen: Identity | None = None


def write_crops(job: CropJob) -> None:
    """Opens a page at its full size and writes every box as an upright JPEG.

    Raises:
        ImageError: the page cannot be opened, or boxes have many times its pixels: nothing is written.
        OSError: a file cannot be written.
    """
    page = open_page(SeenPath.to(os.fsdecode(unquote_to_bytes(job.path)), job.seen), job.page, limit_side=sys.maxsize)
    size = np.array([page.pixels.shape[1], page.pixels.shape[0]])
    # Boxes lie inside the page; a forged one would be as large as it says.
    quads = [np.clip(np.array(box, np.float64) * size / (page.width, page.height), 0, size) for box in job.boxes]
    pixels = sum(wide * high for wide, high in map(size_of, quads))
    if pixels > max(MOST_CUT * size.prod(), MOST_CUT_OF_SMALL):
        raise TooLarge(f"its boxes together have {pixels / size.prod():,.0f} times its pixels")
    for quad, name in zip(quads, job.names, strict=True):
        strip = cut(page.pixels, reading_quad(quad))
        write_jpeg(np.ascontiguousarray(strip), Path(job.out) / name)


def answer(line: str) -> dict[str, object]:
    """Does one line; whatever goes wrong is in the answer."""
    try:
        job = msgspec.json.decode(line, type=CropJob)
        write_crops(msgspec.structs.replace(job, out=os.fsdecode(unquote_to_bytes(job.out))))
    except (msgspec.MsgspecError, DetectorError, OSError, MemoryError, cv2.error) as error:
        reason = "not enough memory" if is_out_of_memory(error) else first_line(error)
        return {"ok": False, "error": reason}
    return {"ok": True}


def main() -> int:
    """Answers lines until they end."""
    configure_process()
    for line in sys.stdin:
        if line.strip():
            limit_memory(MEMORY_BYTES)
            sys.stdout.write(json_line(answer(line)))
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
