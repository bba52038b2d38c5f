"""What a stranger wrote into Redis is shown, and never obeyed by the operator's terminal: no ESC, CSI or newline."""

from __future__ import annotations

import logging
import re
import time

import pytest
import redis

from tests.processes import command
from worker.ledger import Ledger
from worker.ledger.dead_letters import DEAD_KEY
from worker.log_format import PrintableFormatter
from worker.messages import ImageTask, encode, failed_record
from worker.ops import worker_registry
from worker.ops.cleanup import REPORTS_KEY
from worker.ops.exporter import metrics, take_sample
from worker.redis_keys import JobKeys

EVIL = "\x1b]0;owned\x07\x9b2J\u202egpj\nforged: ok"
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]")


@pytest.fixture
def poisoned(ledger: Ledger) -> Ledger:
    """Every name that a command shows is the stranger's."""
    client = ledger.client
    ledger.create("good", 2, {"version": EVIL})
    client.hset(JobKeys.of("good").job, "state", EVIL)
    now = time.time()
    worker_registry.note_worker(client, f"{EVIL}:1", worker_registry.WorkerNote(now - 999, now, EVIL, EVIL, 0))
    worker_registry.note_image(client, f"{EVIL}:1", worker_registry.ImageNote(now, 1.0, "f" * 64))
    client.hset(REPORTS_KEY, EVIL, '{"files": 1, "bytes": 1, "at": 1}')
    task = ImageTask(job="good", index=0, image=EVIL, uri="file:///a")
    client.xadd(DEAD_KEY, {"record": encode(failed_record(task, "WorkerLost", EVIL))})
    return ledger


@pytest.mark.parametrize(
    "words",
    [
        ("ocr-worker", "doctor"),
        ("ocr-worker", "doctor", "--json"),
        ("ocr-worker", "cleanup", "--report"),
        ("ocr-worker", "deadletters"),
        ("ocr-worker", "deadletters", "--json"),
        ("ocr-producer", "jobs"),
        ("ocr-producer", "status", "good"),
        ("ocr-producer", "status", "--json"),
    ],
    ids=" ".join,
)
def test_commands_show_it_harmless(poisoned: Ledger, environment: dict[str, str], words: tuple[str, ...]) -> None:
    shown = command(environment, *words)
    assert OBEYED.search(shown.stdout + shown.stderr) is None, ascii(shown.stdout + shown.stderr)
    assert ("owned" in shown.stdout) == (words[0] == "ocr-worker"), "it is shown, but for a state that is none of ours"
    assert not any(line.startswith("forged") for line in shown.stdout.splitlines())


def test_metrics_show_it_harmless(poisoned: Ledger) -> None:
    now = time.time()
    labels = [
        text
        for each in metrics(take_sample(poisoned, now), now)
        for one in each.samples
        for text in one.labels.values()
    ]
    assert any("owned" in text for text in labels)
    assert not any(OBEYED.search(text) or "\n" in text for text in labels)


def test_log_lines_show_it_harmless() -> None:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "refused: %s", (EVIL,), None)
    text = PrintableFormatter().format(record)
    assert OBEYED.search(text) is None
    assert "\nforged" not in text and "owned" in text


def test_errors_of_commands_show_it_harmless(environment: dict[str, str], client: redis.Redis) -> None:
    shown = command(environment, "ocr-producer", "run", f"/nowhere/{EVIL}", "-o", "/nowhere/out")
    assert shown.returncode != 0 and OBEYED.search(shown.stderr) is None
