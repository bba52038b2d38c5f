"""Makes pages small for a slow line; as a program, one page per job line.

``python -m detector.shrink`` reads JSON lines on stdin::

    {"path": "/data/a%20b.jpg", "page": 0, "limit_side": 640, "max_pixels": 200000000, "out": "/abs/out.jpg"}

(`path` is the percent-encoded file name, so that every name fits) and answers each with one line on stdout:
``{"ok": true, "smaller": true, "width": 4000, "height": 3000, "flags": ["downscaled"]}``, the size being the original
upright one, or ``{"ok": false, "type": "CorruptImage", "error": "..."}``. ``"smaller": false`` means that the page is
within the limit as it is and nothing was written. ``"pages"`` is how many the file has, in the answer about page 0;
0 where they cannot be counted. Type ``"Internal"`` means that the page may be good, but cannot be
made small here. The program ends with its input, and keeps to ``OCRFLEET_MEMORY_LIMIT_MB`` or the profile's limit.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes

import cv2
import msgspec

from detector.errors import ImageError, first_line, is_out_of_memory, json_line, printable_lines
from detector.images.page import DEFAULT_MAX_BYTES, DEFAULT_MAX_PIXELS, count_pages, open_page
from detector.images.regular_file import Identity, SeenPath
from detector.memory import configure_process, decode_budget, limit_memory, resident_bytes
from detector.profile import memory_limit

JPEG_QUALITY = 92
"""Boxes from a page at this quality are those of the original to a fraction of a pixel; 95 doubles the bytes."""


def shrink(
    path: Path,
    page: int,
    out: Path,
    *,
    limit_side: int,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    max_bytes: int = DEFAULT_MAX_BYTES,
) -> dict[str, Any]:
    """Writes a page as JPEG, upright and at the size the network will see it, unless it is that small already.

    Args:
        path: image, TIFF or PDF.
        page: counted from 0.
        out: the JPEG.
        limit_side: longest side wanted, pixels.
        max_pixels: refuse pages that claim more.
        max_bytes: of memory, for decoding.

    Returns:
        "smaller" (whether `out` was written), "width" and "height" (original upright pixels), "flags",
        "share" (of its rows that could be read, of a damaged page).

    Raises:
        ImageError: the page cannot be opened.
        MemoryError: it cannot be decoded within `max_bytes`, at least not to `limit_side`.
        OSError: `out` cannot be written.
    """

    def refuse(needed: int) -> None:  # rather than decode smaller: whoever takes the whole page may have the memory
        if needed > max_bytes:
            raise MemoryError(f"decoding takes about {needed >> 20} MiB, {max_bytes >> 20} MiB are free")

    opened = open_page(
        path, page, limit_side=limit_side, max_pixels=max_pixels, max_bytes=sys.maxsize, make_room=refuse
    )
    smaller = bool({"downscaled", "page_rendered"} & set(opened.flags))
    if smaller:
        ok, data = cv2.imencode(
            ".jpg", cv2.cvtColor(opened.pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not ok:
            raise OSError(f"cannot encode {opened.pixels.shape} pixels as JPEG")
        out.write_bytes(data.tobytes())
    size = {"width": opened.width, "height": opened.height}
    return {"smaller": smaller, **size, "flags": list(opened.flags), "share": opened.share}


class Job(msgspec.Struct, frozen=True):
    """One job line, see the module's description."""

    path: str
    page: int
    limit_side: int
    max_pixels: int
    out: str
    seen: Identity | None = None


def serve(lines: TextIO, answers: TextIO, limit: int | None = None) -> None:
    """Does one job per line until the input ends, using at most ``limit`` bytes of memory."""
    for line in lines:
        answers.write(json_line(answer(line, limit)))
        answers.flush()


def answer(line: str, limit: int | None = None) -> dict[str, Any]:
    """Does one job line; whatever goes wrong is in the answer, and a fault of ours also on stderr."""
    budget = DEFAULT_MAX_BYTES
    if limit is not None:
        budget = decode_budget(limit, resident_bytes())
        limit_memory(limit)
    try:
        job = msgspec.json.decode(line, type=Job)
        path = SeenPath.to(os.fsdecode(unquote_to_bytes(job.path)), job.seen)
        limits = {"limit_side": job.limit_side, "max_pixels": job.max_pixels}
        made = shrink(path, job.page, Path(job.out), max_bytes=budget, **limits)
        return {"ok": True, **made, "pages": _pages(path) if made["smaller"] and not job.page else 0}
    except ImageError as error:
        return {"ok": False, "type": error.type, "error": str(error)}
    except (OSError, MemoryError, msgspec.MsgspecError) as error:
        return {"ok": False, "type": "Internal", "error": f"{type(error).__name__}: {first_line(error)}"}
    except Exception as error:  # the other pages can still be made small
        if not is_out_of_memory(error):
            with suppress(OSError):  # stderr may be on a full disk
                sys.stderr.write(printable_lines(traceback.format_exc()))
        return {"ok": False, "type": "Internal", "error": f"{type(error).__name__}: {first_line(error)}"}


def _pages(path: Path) -> int:
    """How many pages the file has, which whoever gets the small page cannot tell; 0 if they cannot be counted."""
    try:
        return count_pages(path)
    except ImageError:  # of a TIFF whose chain of directories is broken behind its first page
        return 0


if __name__ == "__main__":
    configure_process()
    serve(sys.stdin, sys.stdout, memory_limit(os.environ))
