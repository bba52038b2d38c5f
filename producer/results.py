"""Reading ``results.jsonl``: one record a line, any order, possibly a torn last line after a crash."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from worker.messages import ImageRecord

# Failures shown by name; the rest is in the file and the report.
NAMED_FAILURES = 20
_decoder = msgspec.json.Decoder(ImageRecord)


class Histogram:
    """Counts in logarithmic bins, 20 to a decade: medians good to 6 %, in constant memory."""

    PER_DECADE = 20

    def __init__(self) -> None:
        self.bins: Counter[int] = Counter()
        self.count = 0
        self.largest = 0.0

    def add(self, value: float) -> None:
        """Count one value; values of zero and less land in the bin of one millionth."""
        self.bins[math.floor(math.log10(max(value, 1e-6)) * self.PER_DECADE)] += 1
        self.count += 1
        self.largest = max(self.largest, value)

    def quantile(self, share: float) -> float:
        """The value that this share of all values does not exceed (upper edge of its bin); 0 when empty."""
        left = share * self.count
        for number in sorted(self.bins):
            left -= self.bins[number]
            if left <= 0:
                return min(self.largest, 10 ** ((number + 1) / self.PER_DECADE))
        return 0.0

    def edges(self) -> list[tuple[float, float, int]]:
        """(low, high, count) of each bin between the lowest and the highest that is used."""
        if not self.bins:
            return []
        span = range(min(self.bins), max(self.bins) + 1)
        return [(10 ** (n / self.PER_DECADE), 10 ** ((n + 1) / self.PER_DECADE), self.bins[n]) for n in span]


@dataclass
class Totals:
    """A whole job in numbers, in constant memory.

    Attributes:
        ok, failed: pages.
        boxes: of all pages.
        errors: error type -> pages.
        flags: flag -> pages.
        seconds: distribution of the total seconds of a page (ok ones).
        peak_rss_mb: distribution of the worker child's peak RSS, MB.
        models: "name runtime sha256" -> pages.
        first_failures: the first ``NAMED_FAILURES`` failed records.
    """

    ok: int = 0
    failed: int = 0
    boxes: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    seconds: Histogram = field(default_factory=Histogram)
    peak_rss_mb: Histogram = field(default_factory=Histogram)
    models: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    first_failures: list[ImageRecord] = field(default_factory=list)

    def add(self, record: ImageRecord) -> None:
        """Count one record."""
        self.flags.update(record.flags)
        if record.peak_rss_mb:
            self.peak_rss_mb.add(record.peak_rss_mb)
        if record.error is not None:
            self.failed += 1
            self.errors[record.error.type] += 1
            if len(self.first_failures) < NAMED_FAILURES:
                self.first_failures.append(record)
            return
        self.ok += 1
        self.boxes += len(record.boxes)
        self.seconds.add(record.seconds.total)
        if record.model is not None:
            self.models[(record.model.name, record.model.runtime, record.model.sha256)] += 1

    def as_json(self) -> dict[str, Any]:
        """For job.json."""
        return {
            "boxes": self.boxes,
            "errors": dict(self.errors),
            "flags": dict(self.flags),
            "seconds_per_image": {
                "median": round(self.seconds.quantile(0.5), 4),
                "p95": round(self.seconds.quantile(0.95), 4),
                "max": round(self.seconds.largest, 4),
            },
            "peak_rss_mb": round(self.peak_rss_mb.largest, 1),
            "models": [
                {"name": name, "runtime": runtime, "sha256": sha256, "images": count}
                for (name, runtime, sha256), count in self.models.items()
            ],
        }


def truncate_torn_line(path: Path) -> int:
    """Cut off an incomplete last line (the process died while writing it). Returns how many bytes went."""
    with path.open("r+b") as handle:
        size = end = handle.seek(0, 2)
        while end > 0:
            start = max(0, end - 65536)
            handle.seek(start)
            newline = handle.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            handle.truncate(end)
        return size - end


def iter_records(path: Path) -> Iterator[ImageRecord]:
    """The records of a file, streaming. A torn last line is left out."""
    with path.open("rb") as handle:
        for line in handle:
            if line.endswith(b"\n"):
                yield _decoder.decode(line)


def summarise(path: Path) -> Totals:
    """Count a whole file."""
    totals = Totals()
    for record in iter_records(path):
        totals.add(record)
    return totals
