"""The files for Prometheus and Grafana: checked by promtool, and against what the exporter says."""

from __future__ import annotations

import json
import re
import time
from typing import get_args

import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.test_files import DEPLOY, passes
from tests.tools import tool
from worker.ledger import Ledger
from worker.messages import ErrorType, ImageTask, encode
from worker.ops import worker_registry
from worker.ops.exporter import FleetCollector
from worker.ops.few_workers import MOST_WORKERS
from worker.redis_keys import COUNTERS_KEY, IMAGES_KEY


def test_prometheus() -> None:
    checker = tool("promtool", "apt-get install prometheus")
    passes(checker, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    passes(checker, "test", "rules", "rules_test.yml", cwd=DEPLOY / "prometheus")


def test_prometheus_takes_what_the_exporter_may_say(ledger: Ledger) -> None:
    """And not much more: beyond one of these limits it takes nothing of a scrape."""
    now, longest = time.time(), "h" * worker_registry.MOST_NAME
    note = worker_registry.WorkerNote(at=now, started=0, version="é" * 100, profile="é" * 100, temp_bytes=1)
    names = [f"{number}{longest}"[: worker_registry.MOST_NAME] for number in range(100, 101 + MOST_WORKERS)]
    image = encode(worker_registry.ImageNote(at=now, peak_rss_mb=1, model=""))
    ledger.client.hset(worker_registry.WORKERS_KEY, mapping=dict.fromkeys(names, encode(note)))
    ledger.client.hset(IMAGES_KEY, mapping=dict.fromkeys(names, image))
    types = [*get_args(ErrorType), "Made up"]
    ledger.client.hset(COUNTERS_KEY, mapping={"ok": 1, "made up": 1} | {f"failed:{name}": 1 for name in types})
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(ledger))
    text = generate_latest(registry)
    samples = [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    for scrape in config["scrape_configs"]:
        assert len(samples) < scrape["sample_limit"] < 4 * len(samples)
        assert len(text) < int(scrape["body_size_limit"].removesuffix("MB")) * 1_000_000 < 8 * len(text)
        labels = {name: value for sample in samples for name, value in sample.labels.items()}
        assert len(labels) + 3 < scrape["label_limit"]  # and its own: instance, job, __name__
        names = [*(sample.name for sample in samples), *(v for s in samples for v in s.labels.values())]
        assert max(len(name.encode()) for name in names) < scrape["label_value_length_limit"]
        assert max(map(len, labels)) < scrape["label_name_length_limit"]


def test_rules_and_dashboard_use_metrics_that_exist(ledger: Ledger) -> None:
    ledger.create("job", 1, {})
    ledger.feed([ImageTask(job="job", index=0, image="i", uri="file:///i")])
    ledger.finish("job", 0, ok=True, record=b"{}")
    exported = {metric.name for metric in FleetCollector(ledger).collect()}
    exported |= {f"{name}_total" for name in exported}
    rules = (DEPLOY / "prometheus" / "rules.yml").read_text()
    dashboard = json.loads((DEPLOY / "grafana" / "ocrfleet.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    recorded = set(re.findall(r"record: (\S+)", rules))
    used = set(re.findall(r"\bocrfleet[_:][a-z0-9_:]+", " ".join([*re.findall(r"expr: (.+)", rules), *expressions])))
    assert used - recorded - exported == set()
    for metric in ("images_total", "queue_waiting", "queue_unacked", "oldest_unacked_seconds", "peak_rss_bytes",
                   "temp_bytes", "last_progress_timestamp_seconds", "results_uncollected"):  # fmt: skip
        assert any(f"ocrfleet_{metric}" in expression for expression in expressions), metric
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
