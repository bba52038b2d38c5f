"""What a stranger wrote into Redis is shown, and never obeyed by the operator's terminal: no ESC, CSI or newline."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path

import msgspec
import pytest
import redis

from detector.cli.say import PrintableFormatter, tell_json
from detector.errors import printable_json
from producer.output.terminal import print_summary
from producer.output.totals import Totals
from tests.processes import command
from worker.ledger import Ledger
from worker.ledger.dead_letters import DEAD_KEY
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
    dead = encode(failed_record(task, "WorkerLost", EVIL))
    client.xadd(DEAD_KEY, {"record": dead})
    client.xadd(DEAD_KEY, {"record": dead[:-1] + b',"x":' + b"9" * 5001 + b"}"})  # more than Python reads
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
    assert "Traceback" not in shown.stderr
    assert ("owned" in shown.stdout) == (words[0] == "ocr-worker"), "it is shown, but for a state that is none of ours"
    assert not any(line.startswith("forged") for line in shown.stdout.splitlines())


def test_collect_shows_it_harmless(ledger: Ledger, environment: dict[str, str], tmp_path: Path) -> None:
    """A job's host, and the name of a file of which pages were missed. Before: obeyed, title and clipboard."""
    client, keys = ledger.client, JobKeys.of("evil")
    ledger.create("evil", 1, {"host": EVIL})
    task = ImageTask(job="evil", index=0, image=f"{EVIL}.pdf", uri="file:///a")
    record = msgspec.structs.replace(failed_record(task, "WorkerLost", EVIL), pages=3)
    client.xadd(keys.results, {"record": encode(record)})
    client.hset(keys.job, mapping={"failed": 1, "finished_ms": 1})
    client.set(keys.state, b"f")
    shown = command(environment, "ocr-producer", "collect", "evil", "--overlays", "-o", str(tmp_path / "out"))
    said = shown.stdout + shown.stderr
    assert OBEYED.search(said) is None, ascii(said)
    assert "no overlays" in said and "not complete" in said and said.count("owned") >= 3, ascii(said)
    assert not any(line.startswith("forged") for line in said.splitlines())


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


def test_the_console_of_progress_shows_it_harmless(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / EVIL.replace("\n", "")
    print_summary(folder, Totals(), fresh=0, seconds=0)
    print_summary(folder, Totals(), fresh=0, seconds=0, quiet=True)
    said = capsys.readouterr().err
    assert OBEYED.search(said) is None and "owned" in said, ascii(said)


def test_json_means_the_same_and_shows_it_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    tell_json({EVIL: "\x7f"})
    said = capsys.readouterr().out
    raw = json.dumps(EVIL + "\x7fé", ensure_ascii=False)
    assert json.loads(said) == {EVIL: "\x7f"} and json.loads(printable_json(raw)) == EVIL + "\x7fé"
    assert OBEYED.search(said + printable_json(raw)) is None and "é" in printable_json(raw)


def test_errors_of_commands_show_it_harmless(environment: dict[str, str], client: redis.Redis) -> None:
    shown = command(environment, "ocr-producer", "run", f"/nowhere/{EVIL}", "-o", "/nowhere/out")
    assert shown.returncode != 0 and OBEYED.search(shown.stderr) is None
