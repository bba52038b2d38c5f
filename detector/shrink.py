"""Makes pages small for a slow line; as a program, one page per job line.

``python -m detector.shrink`` reads JSON lines on stdin::

    {"path": "/data/a%20b.jpg", "page": 0, "limit_side": 640, "max_pixels": 200000000, "out": "/abs/out.jpg"}

(`path` is the percent-encoded file name, so that every name fits) and answers each with one line on stdout:
``{"ok": true, "smaller": true, "width": 4000, "height": 3000, "flags": ["downscaled"]}``, the size being the original
upright one, or ``{"ok": false, "type": "CorruptImage", "error": "..."}``. ``"smaller": false`` means that the page is
within the limit as it is and nothing was written. The program ends with its input.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote_to_bytes

import cv2

from detector.errors import DetectorError
from detector.image import DEFAULT_MAX_PIXELS, open_page

JPEG_QUALITY = 92
"""Boxes from a page at this quality are those of the original to a fraction of a pixel; 95 doubles the bytes."""


def shrink(
    path: Path, page: int, out: Path, *, limit_side: int, max_pixels: int = DEFAULT_MAX_PIXELS
) -> dict[str, Any]:
    """Writes a page as JPEG, upright and at the size the network will see it, unless it is that small already.

    Args:
        path: image, TIFF or PDF.
        page: counted from 0.
        out: the JPEG.
        limit_side: longest side wanted, pixels.
        max_pixels: refuse pages that claim more.

    Returns:
        "smaller" (whether `out` was written), "width" and "height" (original upright pixels), "flags".

    Raises:
        DetectorError: the page cannot be opened.
        OSError: `out` cannot be written.
    """
    opened = open_page(path, page, limit_side=limit_side, max_pixels=max_pixels)
    smaller = bool({"downscaled", "page_rendered"} & set(opened.flags))
    if smaller:
        ok, data = cv2.imencode(
            ".jpg", cv2.cvtColor(opened.pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        if not ok:
            raise OSError(f"cannot encode {opened.pixels.shape} pixels as JPEG")
        out.write_bytes(data.tobytes())
    return {"smaller": smaller, "width": opened.width, "height": opened.height, "flags": list(opened.flags)}


def serve(lines: TextIO, answers: TextIO) -> None:
    """Does one job per line until the input ends."""
    for line in lines:
        try:
            job = json.loads(line)
            path = Path(os.fsdecode(unquote_to_bytes(job["path"])))
            limits = {name: int(job[name]) for name in ("limit_side", "max_pixels")}
            answer = {"ok": True, **shrink(path, int(job["page"]), Path(job["out"]), **limits)}
        except DetectorError as error:
            answer = {"ok": False, "type": error.type, "error": str(error)}
        except (OSError, ValueError, KeyError, TypeError, MemoryError, cv2.error) as error:
            answer = {"ok": False, "type": "Internal", "error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
