"""TLS, users with the least rights, wrong passwords, and messages that a stranger put on the queue by hand."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis

from tests.fleet.tls import SecureServer, administrator, refusals, secure_server
from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.app import DETECT_TASK, IMAGE_QUEUE, FleetApp, configuration
from worker.broker import queue
from worker.ledger import Ledger
from worker.settings import read_settings

COUNT = 10


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[SecureServer]:
    with secure_server(tmp_path) as running:
        yield running


@pytest.fixture
def base(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "OCRFLEET_SPOOL_DIR": str(tmp_path / "spool"),
        "OCRFLEET_PROFILE": "low",
        "OCRFLEET_NICE": "0",
        "OCRFLEET_ROOTS": str(tmp_path / "nothing"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }


@pytest.mark.slow
def test_a_whole_job_with_the_shipped_users(secure: SecureServer, base: dict[str, str], tmp_path: Path) -> None:
    """Everything a fleet does, a killed child included, and Redis refused nothing."""
    write_images(tmp_path / "in", COUNT)
    producer, hub = secure.environment(base, "producer"), secure.environment(base, "hub")
    fed = command(producer, "ocr-producer", "enqueue", tmp_path / "in", "--job", "far", "--transfer", "redis", "-q")
    assert fed.returncode == 0, fed.stderr
    # Beside it: its pages take turns, and another machine goes on with it.
    fed = command(producer, "ocr-producer", "enqueue", tmp_path / "in", "--job", "near", "-q")
    assert fed.returncode == 0, fed.stderr
    ledger = Ledger(administrator(secure), ttl_s=60)
    worker = WorkerProcess(secure.environment(base, "worker"), tmp_path / "worker.log")
    try:
        wait_until(lambda: ledger.leased("far"), seconds=60, what="an image to run")
        outside = FleetApp(set_as_current=False)
        outside.conf.update(configuration(read_settings(hub)))
        assert outside.control.ping(timeout=5.0, limit=1), "who has our app finds it"
        worker.kill_child()
        redis.Redis.from_url(secure.url("hub")).script_flush()  # as its cleanup does
        collect = ("ocr-producer", "collect", "far", "-o", tmp_path / "out", "--follow", "-q", "--no-report")
        told = command(producer, *collect)
        assert told.returncode == 0, told.stderr
        lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
        assert Counter(line["index"] for line in lines) == Counter(range(COUNT))
        nightly = "from worker.tasks import cleanup; print(cleanup())"
        environment = secure.environment(base, "worker")
        cleaned = subprocess.run([sys.executable, "-c", nightly], env=environment, capture_output=True, text=True)
        assert cleaned.returncode == 0 and "old jobs" in cleaned.stdout, cleaned.stderr
        for name, *arguments in (("ocr-worker", "cleanup"), ("ocr-worker", "cleanup", "--report")):
            assert command(hub, name, *arguments).returncode == 0
        checked = command(hub, "ocr-worker", "doctor", "--json")
        verdicts = {finding["check"]: finding["verdict"] for finding in json.loads(checked.stdout)}
        assert checked.returncode == 0 and verdicts["encryption"] == "ok", checked.stdout
        assert verdicts["certificate"] == "warn", "of one day; before, nobody said so until nobody reached it"
        assert not {"other Celery apps", "Celery's names"} & verdicts.keys(), "all there is is ours"
        wait_until(lambda: ledger.client.hget("ocrfleet:job:near", "failed") == b"10", seconds=30, what="no root")
        ledger.client.hset("ocrfleet:job:near", "fed_ms", 1)
        ledger.client.xtrim("ocrfleet:job:near:results", maxlen=5, approximate=False)  # collected on a lost machine
        elsewhere = {**producer, "XDG_STATE_HOME": str(tmp_path / "elsewhere")}
        told = command(elsewhere, "ocr-producer", "resume", "near", "--adopt", tmp_path / "near", "-q")
        assert told.returncode == 0 and "5 images are done again" in told.stderr, told.stderr
        for job in ("far", "near"):
            assert command(producer, "ocr-producer", "forget", job, "--yes").returncode == 0
    finally:
        stopped = worker.stop()
    assert stopped == 0
    # Where versions of long ago kept messages, the hub's cleanup looks, and may not here.
    assert [entry for entry in refusals(secure) if "unacked_index" not in entry] == []


@pytest.mark.parametrize("user", ["worker", "producer"])
def test_users_cannot_do_more(secure: SecureServer, user: str) -> None:
    """SCAN, before: both could read the names of all keys of other programs in the same database."""
    client = redis.Redis.from_url(secure.url(user))
    administration = ("FLUSHALL", "CONFIG GET *", "KEYS *", "GET secret", "ACL LIST", "EVAL 0 0", "CLIENT LIST")
    for forbidden in (*administration, "SCAN 0", "RANDOMKEY", "DUMP ocrfleet:jobs"):
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.execute_command(*forbidden.split())


def test_a_script_without_end_is_ended_by_the_hub(secure: SecureServer) -> None:
    """`worker` may run scripts, and so one that never ends. Before, nobody but Redis' administrator could end it."""
    administrator(secure).config_set("lua-time-limit", 50)
    worker, stuck = (redis.Redis.from_url(secure.url("worker"), retry=None) for _ in range(2))
    endless = worker.script_load("while true do end")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(stuck.evalsha, endless, 0)
        wait_until(lambda: _is_busy(worker), seconds=5, what="Redis to be busy")
        with pytest.raises(redis.exceptions.NoPermissionError):
            worker.script_kill()
        try:
            assert redis.Redis.from_url(secure.url("hub")).script_kill()
        except redis.RedisError:
            administrator(secure).script_kill()
            raise
        with pytest.raises(redis.ResponseError, match="killed by user"):
            running.result(5)
    assert worker.ping()


def _is_busy(client: redis.Redis) -> bool:
    try:
        client.ping()
    except redis.ResponseError as error:
        return "BUSY" in str(error) or "busy" in str(error)
    return False


@pytest.mark.parametrize("program", ["ocr-producer", "ocr-worker"])
def test_wrong_ways_in_end_with_3_and_one_line(
    secure: SecureServer, base: dict[str, str], program: str, tmp_path: Path
) -> None:
    good = secure.url("worker")
    without_password = f"rediss://127.0.0.1:{secure.port}/0?ssl_ca_certs={secure.ca}"
    ways = {
        "no password": without_password,
        "wrong password": secure.url("worker", "wrong"),
        "no such user": good.replace("worker:", "stranger:"),
        "unknown CA": good.partition("?")[0],
        "no TLS": secure.url("worker", scheme="redis"),
    }
    arguments = ["jobs"] if program == "ocr-producer" else ["doctor"]
    for way, url in ways.items():
        told = command({**base, "OCRFLEET_REDIS_URL": url}, program, *arguments)
        assert told.returncode == 3, (way, told.stdout, told.stderr)
        said = told.stderr.strip().splitlines()
        assert len(said) == 1 and said[0].startswith("Error: cannot use the broker at"), (way, said)
        assert "%rker" not in told.stderr and "w%25rker" not in told.stderr, "a password in a message"


class Bomb:
    """Unpickling it would make a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.proof}",)


def message(body: bytes, content_type: str, *, task: str = DETECT_TASK, identifier: str = "") -> bytes:
    """A Celery message as kombu's Redis transport keeps it, made by hand."""
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "binary" if "pickle" in content_type else "utf-8",
            "content-type": content_type,
            "headers": {
                "lang": "py",
                "task": task,
                "id": identifier or str(uuid.uuid4()),
                "argsrepr": "",
                "kwargsrepr": "",
            },
            "properties": {
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": IMAGE_QUEUE},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
    ).encode()


def body(*arguments: object) -> bytes:
    return json.dumps(
        [list(arguments), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    ).encode()


def test_strange_messages_are_refused_and_the_worker_goes_on(
    environment: dict[str, str], client: redis.Redis, tmp_path: Path
) -> None:
    proof = tmp_path / "executed"
    image = {"job": "far", "index": 0, "image": "i", "uri": "file:///etc/passwd"}
    strange = [
        message(pickle.dumps([[Bomb(proof)], {}, {}]), "application/x-python-serialize"),
        message(body({**image, "schema": 99}), "application/json", identifier="far:0"),
        message(body({**image, "index": "first"}), "application/json"),
        message(body("just text"), "application/json"),
        message(body(), "application/json"),
        message(body(image, image), "application/json"),
        message(b"{not json", "application/json"),
        message(body(image), "application/json", task="os.system"),
        message(body({**image, "job": "../../etc"}), "application/json"),
        message(body({**image, "job": "never-created"}), "application/json"),
    ]
    client.lpush(IMAGE_QUEUE, *strange)
    write_images(tmp_path / "in", 3)
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    try:
        told = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "honest", "--watch", "-q")
        assert told.returncode == 0, told.stderr
        wait_until(lambda: queue.depth(client) == (0, 0), seconds=20, what="every strange message to be gone")
        assert worker.alive
    finally:
        worker.stop()
    log = (tmp_path / "worker.log").read_text()
    assert not proof.exists(), "a pickle was executed"
    assert "refused a message: ImageTask of schema 99" in log
    assert "ContentDisallowed" in log or "pickle" in log, log
    assert log.count("refused a message") >= 4
