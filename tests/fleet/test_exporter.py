"""The metrics endpoint: what it says is what the ledger holds, and a real worker shows up in it."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request
from pathlib import Path

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.ledger import Ledger
from worker.messages import ImageTask, encode, failed_record
from worker.ops import metrics_server, worker_registry
from worker.ops.exporter import MOST_KINDS, OTHER, FleetCollector, Sample, Shown, serve
from worker.ops.few_workers import FORGET_S, MOST_WORKERS
from worker.redis_keys import COUNTERS_KEY


def values(collector: FleetCollector) -> dict[tuple[str, tuple[str, ...]], float]:
    """(name, label values) -> value."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for metric in collector.collect()
        for sample in metric.samples
    }


def test_counts_of_the_ledger(ledger: Ledger) -> None:
    tasks = [ImageTask(job="job", index=index, image="i", uri="file:///i") for index in range(4)]
    ledger.create("job", 4, {})
    ledger.feed(tasks)
    for task in tasks[:3]:
        ledger.begin("job", task.index, redelivered=False)
    ledger.finish("job", 0, ok=True, record=b"{}")
    record = failed_record(tasks[1], "CorruptImage", "broken")
    ledger.finish("job", 1, ok=False, record=encode(record))
    ledger.finish("job", 1, ok=False, record=encode(record))  # a second writer is not counted
    seen = values(FleetCollector(ledger))
    assert seen["ocrfleet_images_total", ("ok", "")] == 1
    assert seen["ocrfleet_images_total", ("failed", "CorruptImage")] == 1
    assert seen["ocrfleet_results_uncollected", ()] == 2
    assert seen["ocrfleet_jobs_open", ()] == 1
    assert seen["ocrfleet_broker_up", ()] == 1
    assert seen["ocrfleet_last_progress_timestamp_seconds", ()] > 1e9


def test_unreadable_failed_record_still_finishes(ledger: Ledger) -> None:
    for index, record in enumerate((b"not json", b"[]", b'{"error": {"type": {}}}', b'{"error": null}')):
        ledger.create(f"j{index}", 1, {})
        ledger.feed([ImageTask(job=f"j{index}", index=0, image="i", uri="file:///i")])
        assert ledger.finish(f"j{index}", 0, ok=False, record=record)


def test_a_note_from_a_time_to_come_is_no_worker_at_work(ledger: Ledger) -> None:
    """Five of six places asked that of it; this one did not."""
    note = worker_registry.WorkerNote(at=time.time() + 3600, started=0, version="1", profile="low", temp_bytes=0)
    worker_registry.note_worker(ledger.client, "later:1", note)
    assert values(FleetCollector(ledger))["ocrfleet_worker_up", ("later:1", "1", "low")] == 0


def test_workers_are_up_by_the_brokers_clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: by the exporter's own, and where that was 80 s behind none was."""
    now = ledger.now()
    note = worker_registry.WorkerNote(at=now, started=now, version="1", profile="low", temp_bytes=0)
    worker_registry.note_worker(ledger.client, "host:1", note)
    monkeypatch.setattr(time, "time", lambda: now - 80)
    assert values(FleetCollector(ledger))["ocrfleet_worker_up", ("host:1", "1", "low")] == 1


def test_names_without_an_end_are_few_series(ledger: Ledger) -> None:
    """Before: each scrape had 60,000 new ones, and Prometheus was killed for its memory after 65 s."""
    note = worker_registry.WorkerNote(at=time.time(), started=0, version="1", profile="low", temp_bytes=0)
    worker_registry.note_worker(ledger.client, "real:1", note)
    collector = FleetCollector(ledger)
    shown = set[str]()
    for turn in range(4):
        seen = values(collector)
        shown |= {labels[0] for name, labels in seen if name == "ocrfleet_worker_up"}
        made_up = {f"a{turn}-{number}:1": encode(note) for number in range(MOST_WORKERS)}
        ledger.client.hset(worker_registry.WORKERS_KEY, mapping=made_up)
    assert len(shown) == MOST_WORKERS and "real:1" in shown
    assert seen["ocrfleet_workers_left_out", ()] == 1 + 3 * MOST_WORKERS - MOST_WORKERS


def test_what_was_ever_shown_is_few_series(ledger: Ledger) -> None:
    """Before: 756 new series a scrape of one worker's password, and Prometheus was killed for its memory for good."""
    collector, ever = FleetCollector(ledger), set[tuple[str, tuple[str, ...]]]()
    client, tricks = ledger.client, ("\x7f" * 2000, "\u202e" * 1000, "v" * 4000, "é" * 1500, "a\nb", "", OTHER)
    note = worker_registry.WorkerNote(at=time.time(), started=0, version="0.1.0", profile="low", temp_bytes=0)
    worker_registry.note_worker(client, "real:1", note)
    client.hset(COUNTERS_KEY, mapping={"ok": 5, "failed:TimedOut": 2})
    for turn in range(12):
        fill = tricks[turn % len(tricks)]
        for number in range(8):
            odd = msgspec.structs.replace(note, version=f"{turn}{fill}"[:2000], profile=f"{fill[:500]}{turn}")
            client.hset(worker_registry.WORKERS_KEY, f"a{number}:1", encode(odd)[: worker_registry.MOST_NOTE])
        client.hset(COUNTERS_KEY, mapping={f"failed:{turn}.{number}{fill}": 1 for number in range(300)})
        client.hset(COUNTERS_KEY, mapping={f"{turn}{fill}": 1, f"ok:{turn}": 1, f"ok{turn}": 1})
        worker_registry.note_worker(client, fill[:100] + "\x7f" * 80, note)  # 320 characters when it is shown
        ever |= (seen := values(collector)).keys()
    per_worker = [labels for name, labels in ever if name == "ocrfleet_worker_up" and labels[0] == "a1:1"]
    assert len(per_worker) == MOST_KINDS + 1 and ("a1:1", OTHER, OTHER) in per_worker
    assert seen["ocrfleet_worker_up", ("real:1", "0.1.0", "low")] == 1
    assert {labels for name, labels in ever if name == "ocrfleet_images_total"} == {
        ("ok", ""), ("failed", "TimedOut"), ("failed", OTHER), (OTHER, "")}  # fmt: skip
    assert seen["ocrfleet_images_total", ("failed", "TimedOut")] == 2
    assert seen["ocrfleet_images_total", ("failed", OTHER)] == 12 * 300
    assert max(len(label.encode()) for _, labels in ever for label in labels) <= worker_registry.MOST_NAME
    assert len(ever) < 100


def test_an_upgraded_worker_is_shown_with_its_version() -> None:
    """Of the same name, as a container of a fixed host name has: what it was an hour ago makes room."""
    time_s = 0.0
    shown = Shown(clock=lambda: time_s)
    for number in range(20):
        note = worker_registry.WorkerNote(at=1, started=1, version=f"0.{number}", profile="low", temp_bytes=0)
        sample = Sample({}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {"fixed:7": note}, {})
        for _ in range(3):
            time_s += FORGET_S / 4
            assert shown.of(sample) == (sample, 0)


def test_slow_clients_have_few_threads_and_keep_nobody_out(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: 1,000 with half a header were 180 threads, as long as they liked."""
    monkeypatch.setattr(metrics_server, "MOST_S", 0.3)
    server, thread = serve(ledger, "127.0.0.1", 0)
    before = threading.active_count()
    try:
        slow = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(40)]
        for line in slow:
            line.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        address = f"http://127.0.0.1:{server.server_port}/metrics"
        assert b"ocrfleet_broker_up 1.0" in urllib.request.urlopen(address, timeout=10).read()
        assert threading.active_count() - before <= metrics_server.AT_ONCE
        wait_until(lambda: threading.active_count() == before, seconds=10, what="the slow to be sent away")
        assert b"ocrfleet_broker_up 1.0" in urllib.request.urlopen(address, timeout=10).read()
        for line in slow:
            line.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_broker_away() -> None:
    import redis

    away = Ledger(redis.Redis(unix_socket_path="/nonexistent/redis.sock"), ttl_s=60)
    assert values(FleetCollector(away)) == {("ocrfleet_broker_up", ()): 0}


def test_over_http_with_a_real_worker(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    write_images(tmp_path / "in", 3)
    server, thread = serve(ledger, "127.0.0.1", 0)
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        told = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "m", "--watch", "--quiet")
        assert told.returncode == 0, told.stderr
        address = f"http://127.0.0.1:{server.server_port}/metrics"

        def scrape() -> dict[str, list[float]]:
            text = urllib.request.urlopen(address, timeout=10).read().decode()
            return {
                metric.name: [sample.value for sample in metric.samples]
                for metric in text_string_to_metric_families(text)
            }

        wait_until(lambda: scrape()["ocrfleet_worker_up"] == [1.0], seconds=30, what="the worker to report")
        seen = scrape()
        assert seen["ocrfleet_images"] == [3.0]
        assert 50e6 < seen["ocrfleet_peak_rss_bytes"][0] < 2e9
        # Before: one such note of a stranger had every probe restart the workers of a machine.
        silent = worker_registry.WorkerNote(at=1, started=1, version="1", profile="low", temp_bytes=0)
        pids = (1, os.getpid(), *(child.pid for child in worker.children()), "9" * 5000, "x\0")
        strangers = [f"{socket.gethostname()}:{pid}" for pid in pids]
        for name in strangers:
            worker_registry.note_worker(ledger.client, name, silent)
        alive = command(environment, "ocr-worker", "doctor", "--alive")
        assert alive.returncode == 0, alive.stderr
        ledger.client.hdel(worker_registry.WORKERS_KEY, *strangers)
        # Likewise the worker's own, removed or written otherwise; asked with another spool's folder, too.
        own = f"{socket.gethostname()}:{worker.process.pid}"
        elsewhere = environment | {"OCRFLEET_SPOOL_DIR": str(tmp_path / "elsewhere")}
        for asked in (environment, elsewhere):
            worker_registry.note_worker(ledger.client, own, silent)
            alive = command(asked, "ocr-worker", "doctor", "--alive")
            assert alive.returncode == 0, alive.stderr
            ledger.client.hdel(worker_registry.WORKERS_KEY, own)
        assert worker.stop() == 0
        assert scrape()["ocrfleet_worker_up"] == []
    finally:
        worker.stop()
        server.shutdown()
        server.server_close()
        thread.join()
