"""How good boxes are against ground truth: over a data folder, by running a detector or from finished records."""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from detector.errors import DetectorError, read_json
from detector.evaluation.annotations import Sample
from detector.evaluation.intervals import Table, hmean_interval, paired_gain
from detector.evaluation.isolated_run import Found, IsolatedRun, run_isolated
from detector.evaluation.metrics import Counts, evaluate_image
from detector.exit_codes import ExitCode
from detector.predictor import TextDetector

Quads = npt.NDArray[np.float64]


class EvaluateError(DetectorError):
    """What is evaluated does not fit together; one line that names the file and the remedy."""

    exit_code = ExitCode.NOTHING


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image's result.

    Attributes:
        sample: image and ground-truth file.
        counts: hits and misses.
        boxes: (N, 4, 2) detections, original pixels.
        seconds: time the detector took; 0 when read from records.
    """

    sample: Sample
    counts: Counts
    boxes: Quads
    seconds: float = 0.0


MOST_LINE_CHARACTERS = 16 * 2**20
"""Of a record: ours have 4 MiB at most."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A whole data set's result.

    Attributes:
        label: what was evaluated, such as "640".
        images: how many images.
        counts: hits and misses of all images together.
        median_ms: median time of an image, milliseconds; 0 when unknown.
        runtime: what ran the network, such as "onnxruntime-int8"; "" when unknown.
        peak_mb: largest resident memory of the process that ran it, MiB; 0 when unknown.
        interval: of the hmean, see `detector.evaluation.intervals`; None without images.
        gain: in hmean over another summary of the same images, and its interval; see `compare`.
        by_image: (N, 3) counts of each image.
    """

    label: str
    images: int
    counts: Counts
    median_ms: float
    runtime: str = ""
    peak_mb: float = 0.0
    interval: tuple[float, float] | None = None
    gain: tuple[float, float, float] | None = None
    by_image: Table | None = field(default=None, compare=False, repr=False)

    def plain(self) -> dict[str, Any]:
        """As an object for JSON; what is unknown is null."""
        names = ("matched", "gt", "det", "precision", "recall", "hmean")
        gain = {"gain": [round(value, 4) for value in self.gain]} if self.gain else {}
        return {
            "label": self.label,
            "runtime": self.runtime or None,
            "images": self.images,
            **{name: round(getattr(self.counts, name), 4) for name in names},
            "hmean_95": [round(value, 4) for value in self.interval] if self.interval else None,
            **gain,
            "median_ms": round(self.median_ms, 1) or None,
            "peak_rss_mb": round(self.peak_mb, 1) or None,
        }


class Tally:
    """Adds scores up one by one and lets go of them, but for the worst ones: a million images need no more memory.

    Args:
        keep: how many of the worst images to keep.
    """

    def __init__(self, keep: int = 0) -> None:
        self.worst: list[ImageScore] = []
        self._keep = keep
        self._counts = Counts()
        self._by_image = array("q")
        self._seconds = array("d")

    def add(self, score: ImageScore) -> None:
        """Takes one image's result."""
        self._counts += score.counts
        self._by_image.extend((score.counts.matched, score.counts.gt, score.counts.det))
        self._seconds.append(score.seconds)
        self.worst = worst([*self.worst, score], self._keep)

    def summary(self, label: str, runtime: str = "", peak_mb: float = 0.0) -> Summary:
        """The sum so far; precision and recall are over all boxes of all images, as the protocol has it."""
        median = float(np.median(self._seconds)) * 1000 if self._seconds else 0.0
        by_image = np.array(self._by_image, np.int64).reshape(-1, 3)
        interval = hmean_interval(by_image) if len(by_image) else None
        return Summary(label, len(by_image), self._counts, median, runtime, peak_mb, interval, by_image=by_image)


def compare(first: Summary, other: Summary) -> Summary:
    """``other`` with its gain over ``first``, two summaries of the same images in the same order."""
    assert first.by_image is not None and other.by_image is not None
    return replace(other, gain=paired_gain(first.by_image, other.by_image))


def score_isolated(
    settings: IsolatedRun, samples: Sequence[Sample], label: str, keep: int = 0
) -> tuple[Summary, list[ImageScore]]:
    """Runs a detector over samples in a process of its own; returns the sum and the `keep` worst images.

    Raises:
        AnnotationError, ModelError, ModuleNotFoundError, IsolatedRunError: see `run_isolated`.
    """
    tally, runtime, peak_mb = Tally(keep), "", 0.0
    for message in run_isolated(settings, [sample.image for sample in samples]):
        if isinstance(message, Found):
            boxes = np.array(message.boxes, dtype=np.float64).reshape(-1, 4, 2)
            tally.add(score_image(samples[message.image], boxes, message.seconds))
        else:
            runtime, peak_mb = message.runtime, message.peak_mb
    return tally.summary(label, runtime, peak_mb), tally.worst


def score_detector(detector: TextDetector, samples: Iterable[Sample], limit_side: int) -> Iterator[ImageScore]:
    """Runs the detector over samples.

    Args:
        detector: the loaded network.
        samples: images with ground truth.
        limit_side: longest side shown to the network, pixels.

    Raises:
        ImageError: an image cannot be opened.
        AnnotationError: a ground-truth file cannot be read.
    """
    for sample in samples:
        started = time.perf_counter()
        detection = detector.detect(sample.image, limit_side=limit_side)
        seconds = time.perf_counter() - started
        boxes = np.array([box.points for box in detection.boxes], dtype=np.float64).reshape(-1, 4, 2)
        yield score_image(sample, boxes, seconds)


def score_records(find: Callable[[Path], Quads], samples: Iterable[Sample]) -> Iterator[ImageScore]:
    """Scores boxes of finished records; see `read_results`."""
    for sample in samples:
        yield score_image(sample, find(sample.image))


def score_image(sample: Sample, boxes: Quads, seconds: float = 0.0) -> ImageScore:
    """Compares (N, 4, 2) boxes with the sample's ground truth."""
    regions = sample.regions()
    counts = evaluate_image([np.array(r.points) for r in regions], [r.ignore for r in regions], boxes)
    return ImageScore(sample, counts, boxes, seconds)


def summarise(label: str, scores: Iterable[ImageScore]) -> Summary:
    """Adds up; see `Tally`."""
    tally = Tally()
    for score in scores:
        tally.add(score)
    return tally.summary(label)


def worst(scores: list[ImageScore], count: int) -> list[ImageScore]:
    """The images with the lowest hmean; of equal ones those with more missed and false boxes first."""

    def badness(score: ImageScore) -> tuple[float, int]:
        counts = score.counts
        nothing_wrong = counts.gt == counts.det == 0
        return (1.0 if nothing_wrong else counts.hmean, 2 * counts.matched - counts.gt - counts.det)

    return sorted(scores, key=badness)[:count]


HEADING = f"{'runtime':16}  {'limit':>7}  images      gt     det  precision  recall   hmean  ms/image  peak MB"


def table_line(item: Summary) -> str:
    """A summary as a line below `HEADING`."""
    counts = item.counts
    time_ms = f"{item.median_ms:8.0f}" if item.median_ms else "       –"
    peak_mb = f"{item.peak_mb:7.0f}" if item.peak_mb else "      –"
    return (
        f"{item.runtime or '–':16}  {item.label:>7}  {item.images:6}  {counts.gt:6}  {counts.det:6}"
        f"  {counts.precision:9.3f}  {counts.recall:6.3f}  {counts.hmean:6.3f}  {time_ms}  {peak_mb}{_intervals(item)}"
    )


def _intervals(item: Summary) -> str:
    """What a row says after its numbers: how far the hmean may be off, and whether it differs from the first row's."""
    words = f"  hmean {item.interval[0]:.3f} to {item.interval[1]:.3f} (95 %)" if item.interval else ""
    if item.gain:
        gain, low, high = item.gain
        words += f", {gain:+.3f} on the first row ({low:+.3f} to {high:+.3f})"
    return words


def read_results(path: Path) -> Callable[[Path], Quads]:
    """Boxes by image from a results.jsonl.

    An image belongs to the record whose name shares the longest tail with its path; failed records have no boxes.

    Args:
        path: results.jsonl of `ocr-producer run` or of `ocr-detector detect`.

    Returns:
        A function from an image's path to its (N, 4, 2) boxes. It raises EvaluateError when there is no record.

    Raises:
        EvaluateError: the file cannot be read, with the line that is wrong.
    """
    by_name: dict[str, list[tuple[tuple[str, ...], Quads]]] = {}
    try:
        with path.open(encoding="utf-8") as lines:
            whole = iter(lambda: lines.readline(MOST_LINE_CHARACTERS), "")
            for number, line in enumerate(whole, start=1):
                if not line.strip():
                    continue
                try:
                    record = read_json(line)
                    boxes = np.array([box["points"] for box in record["boxes"]], dtype=np.float64).reshape(-1, 4, 2)
                    parts = PurePosixPath(record["image"]).parts
                    if not np.isfinite(boxes).all():  # Python's JSON has NaN and Infinity
                        raise ValueError("a corner is not finite")
                except (ValueError, KeyError, TypeError, OverflowError) as error:  # the last: a number of 400 digits
                    raise EvaluateError(f"{path}:{number}: not a record of schema 1 ({error})") from error
                if record.get("page", 0) == 0 and parts:
                    by_name.setdefault(parts[-1], []).append((parts, boxes))
    except OSError as error:
        raise EvaluateError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EvaluateError(f"{path}: not UTF-8 text ({error.reason}), so not a results.jsonl") from error

    def find(image: Path) -> Quads:
        candidates = by_name.get(image.name)
        if not candidates:
            raise EvaluateError(f"{path}: has no record of {image.name}; were these results made from this data?")
        # As it is named, as the record is. Path.resolve follows links one by one: 1,000 were a RecursionError.
        parts = Path(os.path.abspath(image)).parts  # noqa: PTH100  # Path.absolute keeps `..`
        return max(candidates, key=lambda item: _shared_tail(item[0], parts))[1]

    return find


def _shared_tail(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    count = 0
    while count < min(len(one), len(other)) and one[-1 - count] == other[-1 - count]:
        count += 1
    return count
