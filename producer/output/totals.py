"""What the records of `results.jsonl` add up to, read one at a time.

Totals are counts and fixed bins, and of what records say in words a bounded part: results may be a stranger's. Which
record of a page is its last takes 8 bytes of memory a page.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from producer.errors import UNCOUNTED
from producer.job.page_order import PageOrder
from producer.job.results_file import placed_records
from producer.results_there import open_there
from worker.messages import ImageRecord

FAILURES_KEPT = 500
LONGEST_SAID = 2000
"""Characters of a failed page's message, or of its name, that are kept. Ours have 300 besides the names in them; one of
1 MB, 60 times, was 2.3 GB of a report's memory."""
LONGEST_KEY, MOST_KEYS, OTHERS = 255, 1000, "others"
"""Characters of a flag, of a network's name or of a machine's (DNS has 253), and how many of each are counted by
themselves; what comes then is one more, of this name. 3.7 million flags were 500 MB."""
MOST_LISTED = 100
"""Of each that are listed for people."""
Key = TypeVar("Key")
_BUNDLE_BYTES = 64 << 20  # of some 200,000 pages, whose numbers take 14 MB
# 20 bins a decade from 1 ms to 1000 s: a median is right to about 6 %.
SECONDS_EDGES = tuple(10 ** (step / 20 - 3) for step in range(121))
# 4 MiB bins up to 4 GiB.
MEMORY_EDGES = tuple(float(step * 4) for step in range(1025))


@dataclass
class Histogram:
    """Counts in fixed bins.

    Attributes:
        edges: ascending; bin i counts values in [edges[i], edges[i + 1]), the first and last also those beyond.
        counts: one for each bin.
    """

    edges: tuple[float, ...]
    counts: list[int] = field(init=False)
    count: int = 0
    total: float = 0.0
    least: float = 0.0
    most: float = 0.0

    def __post_init__(self) -> None:
        """All bins are empty."""
        self.counts = [0] * (len(self.edges) - 1)

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[min(max(bisect_right(self.edges, value) - 1, 0), len(self.counts) - 1)] += 1
        self.least = value if self.count == 0 else min(self.least, value)
        self.most = max(self.most, value)
        self.count += 1
        self.total += value

    def quantile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of all values lie, to a bin's accuracy; 0 if there are none."""
        wanted, before = share * self.count, 0
        for number, count in enumerate(self.counts):
            if count and before + count >= wanted:
                low, high = self.edges[number], self.edges[number + 1]
                value = low + (high - low) * (wanted - before) / count
                return min(max(value, self.least), self.most)
            before += count
        return self.most

    def as_json(self, digits: int) -> dict[str, float | None]:
        """Median, 95th percentile, extremes and mean; nulls if nothing was counted."""
        if not self.count:
            return dict.fromkeys(("median", "p95", "min", "max", "mean"))
        return {
            "median": round(self.quantile(0.5), digits),
            "p95": round(self.quantile(0.95), digits),
            "min": round(self.least, digits),
            "max": round(self.most, digits),
            "mean": round(self.total / self.count, digits),
        }


def shortly(text: str, most: int = LONGEST_SAID) -> str:
    """At most so many characters: the beginning says what file it is about, the end what is wrong with it."""
    half = most // 2
    return text if len(text) <= most else f"{text[: half - 1]}…{text[-half:]}"


def _count(counter: Counter[Key], key: Key, others: Key) -> None:
    counter[key if key in counter or len(counter) < MOST_KEYS else others] += 1


@dataclass(frozen=True)
class Failure:
    """One failed page, for lists that people read: name and message have `LONGEST_SAID` characters at most."""

    image: str
    page: int
    type: str
    message: str


@dataclass
class Totals:
    """What a results file adds up to.

    Attributes:
        errors: failed pages by error type.
        without_text: pages that are fine and have no box.
        retried: pages that took more than one attempt.
        seconds: a page's whole time, of pages that are fine.
        peak_rss_mb: the worker's peak memory after a page, MiB.
        stages: seconds of all pages together, by stage.
        flags: pages by flag; of these, and of the next two, `MOST_KEYS` are counted by themselves.
        models: pages by (name, sha256, runtime).
        hosts: pages by worker machine.
        failures: the first `FAILURES_KEPT` failed pages.
        damaged: lines that are no record.
        uncertain: files of which some pages could not even be counted; each has one failed record.
    """

    ok: int = 0
    failed: int = 0
    boxes: int = 0
    without_text: int = 0
    retried: int = 0
    damaged: int = 0
    uncertain: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    models: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS_EDGES))
    peak_rss_mb: Histogram = field(default_factory=lambda: Histogram(MEMORY_EDGES))
    failures: list[Failure] = field(default_factory=list)

    @property
    def images(self) -> int:
        """Pages with a record."""
        return self.ok + self.failed

    def add(self, record: ImageRecord) -> None:
        """Counts one record."""
        if record.status == "ok":
            self.ok += 1
            self.boxes += len(record.boxes)
            self.without_text += not record.boxes
            self.seconds.add(record.seconds.total)
            for stage in ("fetch", "open", "infer", "post"):
                self.stages[stage] += getattr(record.seconds, stage)
            turn: Any = record.seconds.turn
            if turn:  # it lay on its side
                self.stages["turn"] += turn
        else:
            self.failed += 1
            kind = record.error.type if record.error else "Internal"
            self.errors[kind] += 1
            self.uncertain += record.error is not None and UNCOUNTED in record.error.message
            if len(self.failures) < FAILURES_KEPT:
                message = record.error.message if record.error else "no reason was recorded"
                self.failures.append(Failure(shortly(record.image), record.page, kind, shortly(message)))
        self.retried += record.attempts > 1
        for flag in record.flags:
            _count(self.flags, flag[:LONGEST_KEY], OTHERS)
        if record.peak_rss_mb > 0:
            self.peak_rss_mb.add(record.peak_rss_mb)
        if record.model:
            name, sha256, runtime = record.model.name, record.model.sha256, record.model.runtime
            key = name[:LONGEST_KEY], sha256[:LONGEST_KEY], runtime[:LONGEST_KEY]
            _count(self.models, key, (OTHERS, "", ""))
        if record.worker:
            _count(self.hosts, (record.worker.rpartition(":")[0] or record.worker)[:LONGEST_KEY], OTHERS)

    def as_json(self) -> dict[str, Any]:
        """The part of `job.json` that comes from the records."""
        return {
            "boxes": self.boxes,
            "without_text": self.without_text,
            "retried": self.retried,
            "errors": dict(self.errors.most_common()),
            "flags": dict(self.flags.most_common(MOST_LISTED)),
            "seconds_per_image": self.seconds.as_json(4),
            "stage_seconds": {stage: round(value, 3) for stage, value in self.stages.items()},
            "peak_rss_mb": round(self.peak_rss_mb.most, 1),
            "peak_rss_mb_median": round(self.peak_rss_mb.quantile(0.5), 1),
            "models": [
                {"name": name, "sha256": sha256, "runtime": runtime, "images": count}
                for (name, sha256, runtime), count in self.models.most_common(MOST_LISTED)
            ],
            "hosts": dict(self.hosts.most_common(MOST_LISTED)),
            "damaged_lines": self.damaged,
            "uncertain_files": self.uncertain,
        }


@dataclass
class SummedUp:
    """Totals of a results file as far as it was read: who keeps them reads on where it has grown."""

    totals: Totals = field(default_factory=Totals)
    file: tuple[int, int] = (0, 0)
    place: int = 0
    pages: int = 0


def summarise(path: Path, before: SummedUp | None = None) -> Totals:
    """Adds up a results file: of each page its last record.

    Args:
        path: the file.
        before: of an earlier pass, after which nothing but whole lines was added; a file that took that one's place, or
            in which a page has a second record by now, is read from its beginning. Afterwards it is of this pass.
    """
    read = before or SummedUp()
    if not _read_on(path, read):
        _read_all(path, read)
    return read.totals


def _read_all(path: Path, read: SummedUp) -> None:
    status, read.pages = path.stat(), 0
    with PageOrder(path) as order:
        read.totals = Totals(damaged=order.damaged)
        for record in order.records():
            read.totals.add(record)
            read.pages = max(read.pages, record.index + 1)
    read.file, read.place = (status.st_dev, status.st_ino), status.st_size


def _read_on(path: Path, read: SummedUp) -> bool:
    """False: all must be read, since it is another file, or a page is there twice, or there is more than a bundle."""
    status = path.stat()
    added = status.st_size - read.place
    if read.file != (status.st_dev, status.st_ino) or not 0 <= added <= _BUNDLE_BYTES:
        return False
    new: set[int] = set()

    def damaged(line: int) -> None:
        read.totals.damaged += 1

    with open_there(path) as stream:
        for _, record in placed_records(stream, damaged, read.place):
            if record.index < read.pages or record.index in new:
                return False
            new.add(record.index)
            read.totals.add(record)
    read.pages, read.place = max(new, default=read.pages - 1) + 1, status.st_size
    return True
