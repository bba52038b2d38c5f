"""Celery's remote control: a worker answers who looks, and obeys nobody who would stop or swell it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import psutil

from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from worker.app import BROADCAST_QUEUE, CLEANUP_TASK, IMAGE_QUEUE, app_for
from worker.broker import connect
from worker.broker.wrong_types import SHARED
from worker.ledger import reconcile
from worker.settings import Settings


def test_a_worker_cannot_be_shut_down_or_grown(environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    """Before: the password of the `worker` user was enough to stop every worker of the fleet."""
    client = connect(settings)
    client.execute_command("ACL", "SETUSER", "secret", "reset", "on", ">s3cr3t-word", "~*", "&*", "+@all")
    environment["OCRFLEET_REDIS_URL"] = settings.redis_url.replace("unix://", "unix://secret:s3cr3t-word@")
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    control = app_for(settings).control
    # Whoever may add to a set of kombu's could have each answer go to 65,536 queues, a round trip each.
    client.sadd(
        "_kombu.binding.reply.celery.pidbox",
        *(f"{control.mailbox.oid}\x06\x16\x06\x16q{number}" for number in range(300)),
    )
    try:
        wait_until(lambda: control.ping(timeout=1.0), seconds=60, what="the worker to answer")
        for name in ("stats", "dump_conf", "conf", "report", "registered", "active_queues", "objgraph", "hello"):
            told = control.broadcast(name, reply=True, timeout=5.0, limit=1)
            assert told and "s3cr3t" not in str(told), name
        assert len(client.keys("q*")) == 0
        main = psutil.Process(worker.process.pid)
        before = main.memory_info().rss
        for number in range(40):  # 28 MB: Redis ends a subscriber that is 32 MB behind
            control.broadcast("revoke", arguments={"task_id": f"{number}" + "x" * 700_000})

        def is_revoked() -> bool:
            # Said again each time: what is published while the worker connects anew is lost.
            control.broadcast("revoke", arguments={"task_id": ["page:1", "page:2"]})
            return "page:2" in str(control.inspect(timeout=2.0, limit=1).revoked())

        wait_until(is_revoked, seconds=60, what="both to be taken")
        assert main.memory_info().rss - before < 20 << 20, "what is revoked is remembered"
        for command in ("shutdown", "pool_grow", "pool_restart", "add_consumer", "rate_limit"):
            replies = control.broadcast(command, reply=True, timeout=5.0, limit=1)
            assert not any("ok" in answer for reply in replies or [] for answer in reply.values()), command
        assert worker.alive
        pool = next(iter(control.inspect(timeout=5.0, limit=1).stats().values()))["pool"]
        assert pool["max-concurrency"] == 1
    finally:
        assert worker.stop() == 0


def test_what_is_no_broadcast_ends_no_worker(environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    """Before: one PUBLISH by the `worker` user ended every worker, another had it take no page for good, and whoever
    may ask was told the password of the broker."""
    worker = WorkerProcess(environment, tmp_path / "worker.log")
    app = app_for(settings)
    client = connect(settings)
    headers = {"lang": "py", "task": CLEANUP_TASK, "id": "x", "root_id": None, "parent_id": None, "group": None}
    good = {
        "body": base64.b64encode(json.dumps([[], {}, {}]).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "delivery_tag": "t",
            "body_encoding": "base64",
            "delivery_info": {"exchange": BROADCAST_QUEUE, "routing_key": IMAGE_QUEUE},
        },
    }
    odd = [{"id": ["x"]}, {"timelimit": ["x", "x"]}, {"eta": "2099-01-01T00:00:00+00:00"}, {"retries": "x"}]
    try:
        wait_until(lambda: app.control.ping(timeout=1.0), seconds=60, what="the worker to answer")
        for channel in ("/0.celery.pidbox", f"/0.{BROADCAST_QUEUE}/{IMAGE_QUEUE}"):
            for data in ("[" * 100_000, "7", "null", "[]", "{}", '{"body":7}', "9" * 5000, b"\xff"):
                assert client.publish(channel, data) == 1
            if channel.endswith("pidbox"):
                slow = {"method": "ping", "arguments": {}, "pattern": "(.+)+(.+)+(.+)+x", "matcher": "pcre"}
                body = base64.b64encode(json.dumps(slow).encode()).decode()
                assert client.publish(channel, json.dumps({**good, "body": body})) == 1
            for change in odd:
                assert client.publish(channel, json.dumps({**good, "headers": headers | change})) == 1
        body = base64.b64encode(json.dumps({"method": "no_such", "arguments": {}}).encode()).decode()
        unknown = json.dumps({**good, "headers": {"clock": 1}, "body": body})
        junk = client.pipeline(transaction=False)
        for number in range(1000):
            junk.publish("/0.celery.pidbox", ("x", "[]", "{}", unknown)[number % 4])
        junk.execute()
        wait_until(lambda: app.control.ping(timeout=1.0), seconds=20, what="the worker to answer again")
        assert worker.alive
        # Before: a line for each, or 25: 70 MB of log in 90 s; of what nobody knows a traceback.
        assert len((tmp_path / "worker.log").read_text(errors="replace")) < 100_000
        assert not app.control.inspect(timeout=1.0).conf() or "redis_url" not in str(app.control.inspect().conf())
        # Before: no page was taken and no job could be made until somebody deleted such a key.
        for key in SHARED:
            client.delete(key)
            client.set(key, "x")
        client.set(reconcile.LOCK_KEY, "x")
        write_images(tmp_path / "in", 2)
        enqueued = command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "j", "--watch", "--quiet")
        assert enqueued.returncode == 0, enqueued.stderr
    finally:
        assert worker.stop() == 0
