"""ocr-worker doctor: facts of a real broker, and what is said about bad ones."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from detector.machine import Machine
from tests.processes import command
from worker.ledger import Ledger
from worker.ops import worker_registry
from worker.ops.doctor import (
    BrokerFacts,
    Finding,
    ask_broker,
    judge_broker,
    judge_fleet,
    judge_machine,
    judge_model,
    judge_safety,
)
from worker.redis_keys import WORKERS_KEY
from worker.settings import Settings

NOW = 1_000_000.0
GOOD = BrokerFacts(
    info={"redis_version": "7.0.15", "aof_enabled": 1, "maxmemory_policy": "noeviction", "used_memory": 10},
    ping_s=0.001,
    clock_ahead_s=0.01,
    workers={},
    models={},
    producers={},
    last_cleanup=None,
)


def verdicts(facts: BrokerFacts) -> dict[str, str]:
    return {finding.check: finding.verdict for finding in judge_broker(facts, NOW)}


def test_a_good_broker() -> None:
    assert set(verdicts(GOOD).values()) == {"ok"}


def test_a_server_whose_lua_has_holes(ledger: Ledger) -> None:
    """Before: "ok" to any from 6.2 on. (The probe finds them in Redis 6.2.14; there is none here.)"""
    assert not ask_broker(ledger).lua_holes
    [server] = [one for one in judge_broker(replace(GOOD, lua_holes=True), NOW) if one.check == "server"]
    assert server.verdict == "warn" and "7.4.6" in server.message


def test_a_certificate_that_ends_soon() -> None:
    """Before: nobody said so, until no machine reached the broker."""
    assert "certificate" not in verdicts(replace(GOOD, certificate_until=NOW + 30 * 86400))
    assert verdicts(replace(GOOD, certificate_until=NOW + 20 * 86400))["certificate"] == "warn"


@pytest.mark.parametrize(
    ("info", "check"),
    [
        ({"redis_version": "6.0.9"}, "server"),
        ({"aof_enabled": 0}, "append-only file"),
        ({"maxmemory_policy": "allkeys-lru"}, "eviction"),
        ({"maxmemory": 11}, "broker memory"),
    ],
)
def test_a_bad_broker(info: dict[str, object], check: str) -> None:
    assert verdicts(replace(GOOD, info={**GOOD.info, **info}))[check] != "ok"


def test_slow_line_and_wrong_clock() -> None:
    assert verdicts(replace(GOOD, ping_s=0.3))["latency"] == "warn"
    assert verdicts(replace(GOOD, clock_ahead_s=-3))["clock"] == "warn"
    assert verdicts(replace(GOOD, clock_ahead_s=20))["clock"] == "bad"


def test_versions_and_models_of_the_fleet() -> None:
    note = worker_registry.WorkerNote(at=NOW, started=NOW, version="0.1.0", profile="low", temp_bytes=0)
    facts = replace(
        GOOD, workers={"a:1": note, "gone:2": replace_struct(note, at=NOW - 9999)}, models={"a:1": "other"},
        producers={"job": "0.0.9"},
    )  # fmt: skip
    found = {finding.check: finding for finding in judge_fleet(facts, "0.1.0", "mine", NOW)}
    assert found["versions"].verdict == "warn" and "0.0.9" in found["versions"].message
    assert found["fleet's model"].verdict == "warn" and "a:1" in found["fleet's model"].message
    assert found["workers"].message == "1 reporting; gone without signing off: gone:2"


def test_recognisers_of_the_fleet() -> None:
    note = worker_registry.WorkerNote(NOW, NOW, "1", "low", 0, ("ppocr-v6-rec-small",))

    def of(**workers: worker_registry.WorkerNote) -> Finding:
        found = judge_fleet(replace(GOOD, workers=workers), "1", "", NOW)
        return next(finding for finding in found if finding.check == "recognisers")

    assert of(a=note, b=note).message == "ppocr-v6-rec-small on every worker"
    lacking = of(a=note, b=replace_struct(note, readers=()))
    assert lacking.verdict == "warn"
    assert lacking.message.startswith("ppocr-v6-rec-small is not on b: ")
    assert of(a=replace_struct(note, readers=())).verdict == "ok"
    # vanished workers count for nothing
    assert of(a=note, gone=replace_struct(note, at=NOW - 9999, readers=())).verdict == "ok"


def replace_struct(note: worker_registry.WorkerNote, **changes: object) -> worker_registry.WorkerNote:
    import msgspec

    return msgspec.structs.replace(note, **changes)


def test_machine(settings: Settings, tmp_path: Path) -> None:
    found = {finding.check: finding.verdict for finding in judge_machine(settings, Machine(1, 128, "cgroup"))}
    assert found == {"memory": "bad", "spool": "ok"}
    (tmp_path / "file").touch()
    blocked = replace(settings, spool_dir=tmp_path / "file" / "spool")
    found = {finding.check: finding.verdict for finding in judge_machine(blocked, Machine(1, 2048, "RAM"))}
    assert found == {"memory": "ok", "spool": "bad"}


def test_safety(settings: Settings) -> None:
    def of(url: str, who: str = "", **changes: object) -> dict[str, str]:
        here = replace(settings, redis_url=url, **changes)
        return {finding.check: finding.verdict for finding in judge_safety(here, who)}

    assert of("redis://10.0.0.1/0", "whoever")["password"] == "bad"
    assert of("redis://:secret@10.0.0.1/0")["encryption"] == "warn"
    assert of("rediss://:secret@10.0.0.1/0")["encryption"] == "ok"
    assert of("redis://127.0.0.1/0")["encryption"] == "ok" and "password" not in of("redis://127.0.0.1/0")
    # Before: not a word of it where Redis is this machine's own.
    assert of("redis://127.0.0.1/0", "every user")["password"] == "warn"
    assert of("redis://127.0.0.1/0", "every user", roots=(Path("/srv"),))["password"] == "warn"


def test_model_is_there_and_whole(settings: Settings) -> None:
    finding, sha256 = judge_model(settings)
    assert finding.verdict == "ok" and len(sha256) == 64
    finding, sha256 = judge_model(replace(settings, model="nonsense"))
    assert finding.verdict == "bad" and "no model 'nonsense'" in finding.message and sha256 == ""


def test_facts_of_a_real_broker(ledger: Ledger) -> None:
    ledger.create("job", 1, {"version": "9.9"})
    facts = ask_broker(ledger)
    assert 0 < facts.ping_s < 1 and abs(facts.clock_ahead_s) < 1
    assert facts.producers == {"job": "9.9"}
    assert {finding.verdict for finding in judge_broker(facts, time.time())} == {"ok"}


def test_command(environment: dict[str, str], ledger: Ledger) -> None:
    told = command(environment, "ocr-worker", "doctor", "--json")
    assert told.returncode == 0, told.stdout
    assert {"clock", "eviction", "model", "versions"} <= {finding["check"] for finding in json.loads(told.stdout)}


def test_liveness_is_progress(ledger: Ledger) -> None:
    client = ledger.client

    def reason(waiting: int) -> str | None:
        is_first = (1).__eq__
        return worker_registry.why_not_alive(client, waiting=waiting, patience_s=100, host="me", is_worker=is_first)

    assert reason(0) == "no running worker of this machine has reported"
    now = time.time()
    gone = worker_registry.WorkerNote(at=now - 600, started=now - 1000, version="1", profile="low", temp_bytes=0)
    worker_registry.note_worker(client, "me:4194304", gone)  # above the largest process id: was killed
    assert reason(0) == "no running worker of this machine has reported"
    note = worker_registry.WorkerNote(at=now, started=now - 1000, version="1", profile="low", temp_bytes=0)
    worker_registry.note_worker(client, "me:1", note)
    worker_registry.note_worker(client, "me:01", gone)  # a stranger's note of the same process
    client.hset(WORKERS_KEY, mapping=dict.fromkeys(map(str, range(70_000)), "1"))  # more than a reply keeps
    client.hset(WORKERS_KEY, "n" * 40_000, msgspec.json.encode(note))
    assert reason(0) is None, "nothing to do is no fault"
    assert worker_registry.workers(client) == {}, "what holds so many is dropped"
    worker_registry.note_worker(client, "me:1", note)  # as it does every 15 s
    assert "finished no image" in (reason(5) or "")
    worker_registry.note_image(client, "me:1", worker_registry.ImageNote(now - 50, 180.0, "sha"))
    assert reason(5) is None
    worker_registry.note_worker(client, "me:1", replace_struct(note, at=now - 600))
    assert "has not reported" in (reason(0) or "")
