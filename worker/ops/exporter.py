"""Metrics of a whole fleet for Prometheus, read from Redis at each scrape. One per fleet is enough.

Nothing is counted here: the ledger counts, so a restart of the exporter loses nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import get_args
from wsgiref.simple_server import WSGIServer

import msgspec
import redis
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detector.errors import printable
from worker.app import UNACKED_INDEX
from worker.broker import blobs, queue
from worker.broker.whole import read_hash
from worker.ledger import Ledger
from worker.ledger.ledger import MOST_LOOKED_AT
from worker.ledger.share import MOST_SHARING
from worker.messages import ErrorType
from worker.ops import worker_registry
from worker.ops.few_workers import FewWorkers
from worker.ops.metrics_server import MetricsServer
from worker.redis_keys import COUNTERS_KEY, DEAD_KEY, number_in

OTHER = "other"
MOST_KINDS, MOST_TEXT = 3, 64
"""Versions and profiles that a worker is shown with within an hour, and characters of one: Prometheus holds each that
it ever saw for two hours. 500 new ones at each scrape took its 256 MB in nine minutes, and again at each start."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What Redis says at one moment. Sizes in bytes, ages in seconds, times in Unix time."""

    counters: dict[str, int]
    waiting: int
    unacked: int
    oldest_unacked_s: float
    uncollected: int
    blob_bytes: int
    jobs_open: int
    jobs_finished: int
    last_progress: float
    dead_letters: int
    redis_bytes: int
    workers: dict[str, worker_registry.WorkerNote]
    images: dict[str, worker_registry.ImageNote]


def take_sample(ledger: Ledger, now: float) -> Sample:
    """Ask Redis. A few dozen commands, none of which looks at more than the feed window.

    Raises:
        redis.RedisError: no answer.
    """
    client = ledger.client
    names = ledger.jobs(MOST_LOOKED_AT)  # whoever may write to Redis can make up 50,000 in a second
    uncollected, jobs_open, jobs_finished, last_progress = 0, 0, 0, 0.0
    for status in map(ledger.status, names):  # one at a time: a stranger's may have 2 MB
        if status is not None:
            uncollected += status.uncollected
            jobs_open += not status.finished and status.state == "open"
            jobs_finished += status.finished
            last_progress = max(last_progress, status.progress_s)
    waiting, unacked = queue.depth(client)
    oldest = client.zrange(UNACKED_INDEX, 0, 0, withscores=True)
    return Sample(
        counters={
            name.decode(errors="replace"): number_in(value) or 0
            for name, value in read_hash(client, COUNTERS_KEY).items()
        },
        waiting=waiting,
        unacked=unacked,
        oldest_unacked_s=max(0.0, now - oldest[0][1]) if oldest else 0.0,
        uncollected=uncollected,
        blob_bytes=blobs.waiting_bytes(client, names[-MOST_SHARING:]),
        jobs_open=jobs_open,
        jobs_finished=jobs_finished,
        last_progress=last_progress,
        dead_letters=client.xlen(DEAD_KEY),
        redis_bytes=int(client.info("memory")["used_memory"]),
        workers=worker_registry.workers(client),
        images=worker_registry.images(client),
    )


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"ocrfleet_{name}", text, value=value)


def metrics(sample: Sample, now: float) -> Iterator[Metric]:
    """A sample as Prometheus metrics."""
    done = CounterMetricFamily("ocrfleet_images", "Images done.", labels=["status", "type"])
    for kind, value in sorted(_images_done(sample.counters).items()):
        done.add_metric(kind, value)
    yield done
    yield _gauge("queue_waiting", "Messages no worker has taken.", sample.waiting)
    yield _gauge("queue_unacked", "Messages that workers hold.", sample.unacked)
    yield _gauge("oldest_unacked_seconds", "Age of the message held longest.", sample.oldest_unacked_s)
    yield _gauge("results_uncollected", "Records that were not collected yet.", sample.uncollected)
    yield _gauge("blob_bytes", "Page bytes waiting in Redis.", sample.blob_bytes)
    yield _gauge("jobs_open", "Jobs that are not finished.", sample.jobs_open)
    yield _gauge("jobs_finished", "Finished jobs that Redis still remembers.", sample.jobs_finished)
    yield _gauge("last_progress_timestamp_seconds", "When any image was last done.", sample.last_progress)
    yield _gauge("dead_letters", "Images given up after too many tries (the latest 1000).", sample.dead_letters)
    yield _gauge("redis_memory_bytes", "Memory of the broker.", sample.redis_bytes)
    up = GaugeMetricFamily("ocrfleet_worker_up", "1 while the worker reports.", labels=["worker", "version", "profile"])
    temp = GaugeMetricFamily("ocrfleet_temp_bytes", "Temporary files of a worker.", labels=["worker"])
    for name, note in sorted(sample.workers.items()):
        labels = [printable(text) for text in (name, note.version, note.profile)]
        up.add_metric(labels, float(worker_registry.is_alive(note, now)))
        temp.add_metric(labels[:1], note.temp_bytes)
    yield up
    yield temp
    peak = GaugeMetricFamily("ocrfleet_peak_rss_bytes", "Peak memory over a worker's last image.", labels=["worker"])
    progress = GaugeMetricFamily(
        "ocrfleet_worker_progress_timestamp_seconds", "When a worker last finished an image.", labels=["worker"]
    )
    for name, image in sorted(sample.images.items()):
        peak.add_metric([printable(name)], image.peak_rss_mb * 1024 * 1024)
        progress.add_metric([printable(name)], image.at)
    yield peak
    yield progress


def _images_done(counters: dict[str, int]) -> dict[tuple[str, str], int]:
    """(status, type of error) -> images. Of what somebody made up, or a later version has, only how many there are."""
    done: dict[tuple[str, str], int] = {}
    for name, value in counters.items():
        status, _, error_type = name.partition(":")
        if status != "failed":
            labels = ("ok", "") if name == "ok" else (OTHER, "")
        else:
            labels = ("failed", error_type if error_type in get_args(ErrorType) else OTHER)
        done[labels] = done.get(labels, 0) + value
    return done


class Shown:
    """What is said of workers: no more names, versions and profiles an hour, whatever somebody makes up.

    Who was first stays; so do the first few versions and profiles of each, and then it has the "other" one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._few = FewWorkers(clock=clock)
        self._kinds: dict[str, FewWorkers] = {}

    def of(self, sample: Sample) -> tuple[Sample, int]:
        """A sample with these alone, and how many were left out."""
        names = sorted({*sample.workers, *sample.images})
        shown = {name for name in names if self._is_shown(name)}
        workers = {name: self._few_kinds(name, note) for name, note in sample.workers.items() if name in shown}
        images = {name: note for name, note in sample.images.items() if name in shown}
        return replace(sample, workers=workers, images=images), len(names) - len(shown)

    def _is_shown(self, name: str) -> bool:
        if len(printable(name).encode()) > worker_registry.MOST_NAME:  # an escape is four times as long
            return False
        is_admitted, forgotten = self._few.admit(name)
        self._kinds.pop(forgotten, None)
        return is_admitted

    def _few_kinds(self, name: str, note: worker_registry.WorkerNote) -> worker_registry.WorkerNote:
        """A worker's note with a version and profile that Prometheus may hear of."""
        version, profile = (printable(text)[:MOST_TEXT] for text in (note.version, note.profile))
        kinds = self._kinds.setdefault(name, FewWorkers(MOST_KINDS, clock=self._clock))
        if not kinds.admit(f"{version}\n{profile}")[0]:
            version = profile = OTHER
        return msgspec.structs.replace(note, version=version, profile=profile)


class FleetCollector(Collector):
    """Takes a sample at each scrape; without a broker only ``ocrfleet_broker_up 0``."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._shown = Shown()

    def collect(self) -> Iterator[Metric]:
        """What prometheus_client calls at each scrape."""
        try:
            now = self._ledger.now()  # by which workers' notes are
            sample = take_sample(self._ledger, now)
        except (redis.RedisError, OSError):
            yield _gauge("broker_up", "1 if the broker answers.", 0)
            return
        yield _gauge("broker_up", "1 if the broker answers.", 1)
        sample, left_out = self._shown.of(sample)
        yield _gauge("workers_left_out", "Workers that are not shown one by one: too many names.", left_out)
        yield from metrics(sample, now)


def serve(ledger: Ledger, address: str, port: int) -> tuple[WSGIServer, threading.Thread]:
    """Serve ``/metrics`` in a thread. Returns the server and its thread.

    Raises:
        OSError: the address is taken or not ours.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(ledger))
    server = MetricsServer(address, port, registry)
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    return server, thread
