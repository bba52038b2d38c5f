"""Which runtime is the fastest here? Each candidate runs some pages for a few seconds in a process of its own."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from detector.errors import ModelError
from detector.evaluation.isolated_run import (
    Ended,
    Found,
    IsolatedRun,
    IsolatedRunError,
    TooMuchMemoryError,
    run_isolated,
)
from detector.evaluation.metrics import Counts, evaluate_image
from detector.runtimes.tuned import RUNTIMES, Candidate

MOST_THREADS = 16
TOO_LARGE = "too large"
SHAPES = ((1.0, 0.75), (0.75, 1.0), (1.0, 1.0))
"""Height and width of the pages, of the limit side: a page in another shape than the last is what costs memory."""

_WORDS = ("The", "quick", "brown", "fox", "jumps", "over", "13", "lazy", "dogs;", "total", "48.50", "EUR")
Quads = list[npt.NDArray[np.float64]]


def thread_counts(cores: float) -> list[int]:
    """1, 2, 4, ... and all cores; more than 16 never pay for one page of this network."""
    most = max(1, min(int(cores), MOST_THREADS))
    return sorted({count for count in (1, 2, 4, 8, 16) if count <= most} | {most})


def draw_pages(folder: Path, limit_side: int) -> list[Path]:
    """Writes some pages with lines of text in several sizes, the longest side being limit_side pixels."""
    paths = []
    for number, (tall, wide) in enumerate(SHAPES):
        height, width = max(64, round(limit_side * tall)), max(64, round(limit_side * wide))
        page = np.full((height, width, 3), 245, np.uint8)
        x, y, word = 20, 0, number
        size = 0.5
        while True:
            if x == 20:
                y += round(70 * size)
                if y > height - 20:
                    break
            text = _WORDS[word % len(_WORDS)]
            cv2.putText(page, text, (x, y), cv2.FONT_HERSHEY_DUPLEX, size, (40, 30, 30), 1 + round(size), cv2.LINE_AA)
            x += round(len(text) * 21 * size) + 12
            word += 1
            if x > width - 120:
                x, size = 20, 0.5 + 0.25 * (word % 4)
        paths.append(folder / f"page{number}.png")
        if not cv2.imwrite(str(paths[-1]), page):
            raise OSError(f"{paths[-1]}: cannot be written")
    return paths


def measure_all(
    model: str, limit_side: int, memory_limit_mb: int | None, seconds: float, threads: Sequence[int], folder: Path
) -> Iterator[Candidate]:
    """Times every runtime with every number of threads; the first that runs is the reference for the boxes.

    Args:
        model: name or path of an .onnx file.
        limit_side: longest side of the pages, pixels.
        memory_limit_mb: candidates that hold more are stopped, MiB.
        seconds: for each candidate, its start not counted.
        threads: numbers of threads to try.
        folder: for the pages.

    Raises:
        ModelError: no such model (not: a runtime that cannot load it).
    """
    pages = draw_pages(folder, limit_side)
    reference: list[Quads] | None = None
    for runtime in RUNTIMES:
        if find_spec(runtime) is None:
            yield Candidate(runtime, threads[0], note="not installed")
            continue
        for count in threads:
            settings = IsolatedRun(model=model, runtime=runtime, threads=count, limit_side=limit_side, seconds=seconds)
            try:
                milliseconds, peak_mb, boxes = _run(settings, pages, memory_limit_mb)
            except TooMuchMemoryError as error:
                yield Candidate(runtime, count, note=f"{TOO_LARGE}: {error}")
            except (ModelError, IsolatedRunError, ModuleNotFoundError) as error:
                yield Candidate(runtime, count, note=str(error))
                break  # with more threads it would fail the same way
            else:
                reference = reference or boxes
                yield Candidate(runtime, count, milliseconds, peak_mb, agreement(reference, boxes))


def _run(settings: IsolatedRun, pages: list[Path], memory_limit_mb: int | None) -> tuple[float, float, list[Quads]]:
    """(median ms, peak MiB, boxes of each page); the first round only warms up."""
    boxes: list[Quads] = []
    seconds: list[float] = []
    peak_mb = 0.0
    for message in run_isolated(settings, pages, stop_above_mb=memory_limit_mb):
        if isinstance(message, Ended):
            peak_mb = message.peak_mb
        elif len(boxes) < len(pages):
            boxes.append(_quads(message))
        else:
            seconds.append(message.seconds)
    if memory_limit_mb and peak_mb > memory_limit_mb:  # too short a peak for the watch to see
        raise TooMuchMemoryError(f"held {peak_mb:.0f} MiB")
    return round(statistics.median(seconds) * 1000, 2), round(peak_mb, 1), boxes


def _quads(found: Found) -> Quads:
    return [np.array(points, dtype=np.float64) for points in found.boxes]


def agreement(reference: list[Quads], boxes: list[Quads]) -> float:
    """hmean of boxes against the reference's over all pages; 1 if neither found any."""
    total = Counts()
    for truth, found in zip(reference, boxes, strict=True):
        total += evaluate_image(truth, [False] * len(truth), found)
    return 1.0 if total.gt == total.det == 0 else round(total.hmean, 4)


HEADING = f"{'runtime':12}  {'threads':>7}  {'ms/page':>8}  {'peak MiB':>7}  same boxes"


def table_line(candidate: Candidate) -> str:
    """A candidate as a line below `HEADING`."""
    name = f"{candidate.runtime:12}  {candidate.threads:7}"
    if candidate.ms is None:
        return f"{name}  {'–':>8}  {'–':>7}  {candidate.note}"
    return f"{name}  {candidate.ms:8.1f}  {candidate.peak_mb or 0:7.0f}  {candidate.agreement or 0:9.1%}"
