"""Celery's remote control: a worker answers who looks, obeys nobody who would swell it, and hears our app alone."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

import psutil
from celery import Celery
from celery.app.control import Control

from tests.fleet.typed import TYPED
from tests.pictures import write_images
from tests.processes import WorkerProcess, command, wait_until
from tests.redis_users import ROLES, refused, server_with_users
from worker.app import BROADCAST_QUEUE, CLEANUP_TASK, CONTROL_EXCHANGE, IMAGE_QUEUE, UNACKED, UNACKED_INDEX, app_for
from worker.broker import connect
from worker.broker.queue import depth
from worker.broker.wrong_types import SHARED
from worker.ledger import reconcile
from worker.settings import Settings

OTHER = """
from celery import Celery

app = Celery("other", broker=__import__("sys").argv[1])
app.worker_main(["worker", "--pool=solo", "--hostname=other@here"])
"""


def test_a_worker_hears_its_own_app_and_cannot_be_shut_down_or_grown(
    environment: dict[str, str], settings: Settings, tmp_path: Path
) -> None:
    """Before: the password of the `worker` user was enough to stop every worker of the fleet; and to have the workers
    of another Celery app in the same database run any of their tasks."""
    with server_with_users(tmp_path) as server:
        url = server.url("admin").replace("unix", "redis+socket")
        with (tmp_path / "other.log").open("wb") as log:
            neighbour = Popen([sys.executable, "-c", OTHER, url], cwd=tmp_path, stdout=log, stderr=log)
        worker = WorkerProcess({**environment, "OCRFLEET_REDIS_URL": server.url("worker")}, tmp_path / "worker.log")
        try:
            control = app_for(replace(settings, redis_url=server.url("hub"))).control
            wait_until(lambda: control.ping(timeout=0.5), seconds=60, what="the worker to answer")
            others = Celery("other", broker=url, set_as_current=False).control
            wait_until(lambda: others.ping(timeout=0.5, limit=1), seconds=60, what="the other app's worker to answer")
            assert [list(told) for told in others.ping(timeout=0.5)] == [["other@here"]]
            assert "other@here" not in str(control.ping(timeout=0.5))
            for role in ROLES:
                for channel in ("celery.pidbox", "celeryev/worker.heartbeat", "other.pidbox"):
                    assert refused(server.client(role), "PUBLISH", f"/0.{channel}", "x"), channel
            write_images(tmp_path / "in", 1)
            job = {**environment, "OCRFLEET_REDIS_URL": server.url("producer")}
            done = command(job, "ocr-producer", "enqueue", tmp_path / "in", "--job", "j", "--watch", "-q")
            assert "1 done, 0 failed" in done.stderr
            assert neighbour.poll() is None and "hello" not in worker.log.read_text()
            obeys_nobody(control, worker)
            names = set(server.client("admin").scan_iter())
            assert not {name for name in names if name.startswith(b"_kombu") and b"ocrfleet" in name}
            assert not [one for one in server.client("admin").acl_log() if one["reason"] != "channel"]
        finally:
            neighbour.kill()
            neighbour.wait()
            stopped = worker.stop()
        assert stopped == 0


def obeys_nobody(control: Control, worker: WorkerProcess) -> None:
    """Under the hub's password, which may speak to it."""
    for name in ("stats", "dump_conf", "conf", "report", "registered", "active_queues", "objgraph", "hello"):
        told = control.broadcast(name, reply=True, timeout=5.0, limit=1)
        assert told and "of-the-worker" not in str(told), name
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
    for name in ("shutdown", "pool_grow", "pool_restart", "add_consumer", "rate_limit"):
        replies = control.broadcast(name, reply=True, timeout=5.0, limit=1)
        assert not any("ok" in answer for reply in replies or [] for answer in reply.values()), name
    assert worker.alive
    pool = next(iter(control.inspect(timeout=5.0, limit=1).stats().values()))["pool"]
    assert pool["max-concurrency"] == 1


def test_what_is_no_broadcast_ends_no_worker(environment: dict[str, str], settings: Settings, tmp_path: Path) -> None:
    """Before: one PUBLISH by the `worker` user ended every worker, another had it take no page for good, and whoever
    may ask was told the password of the broker."""
    app = app_for(settings)
    client = connect(settings)
    # What looks like a page in hand: before, no worker started any more.
    held = {f"{n}": b'[{"headers": {"id": "far:0"}, "x": %s}, "", "ocrfleet"]' % value for n, value in enumerate(TYPED)}
    client.hset(UNACKED, mapping=held)
    client.zadd(UNACKED_INDEX, dict.fromkeys(held, 1.0))
    worker = WorkerProcess(environment, tmp_path / "worker.log")
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
        for channel in (f"/0.{CONTROL_EXCHANGE}", f"/0.{BROADCAST_QUEUE}/{IMAGE_QUEUE}"):
            for data in ("[" * 100_000, "7", "null", "[]", "{}", '{"body":7}', "9" * 5000, b"\xff", *TYPED):
                assert client.publish(channel, data) == 1
            if channel.endswith("pidbox"):
                slow = {"method": "ping", "arguments": {}, "pattern": "(.+)+(.+)+(.+)+x", "matcher": "pcre"}
                body = base64.b64encode(json.dumps(slow).encode()).decode()
                assert client.publish(channel, json.dumps({**good, "body": body})) == 1
            for value in map(json.loads, TYPED):
                for part in ("headers", "properties"):
                    page = json.dumps({**good, part: {**good[part], "x": value}})  # type: ignore[dict-item]
                    client.lpush(IMAGE_QUEUE, json.dumps(value), page)
                    assert client.publish(channel, page) == 1
            for change in odd:
                assert client.publish(channel, json.dumps({**good, "headers": headers | change})) == 1
        body = base64.b64encode(json.dumps({"method": "no_such", "arguments": {}}).encode()).decode()
        # Python can just write a number of 4,300 digits: a worker whose clock had more answered nobody any more.
        unknown = json.dumps({**good, "headers": {"clock": 10**4300 - 1}, "body": body})
        junk = client.pipeline(transaction=False)
        for number in range(1000):
            junk.publish(f"/0.{CONTROL_EXCHANGE}", ("x", "[]", "{}", unknown)[number % 4])
        junk.execute()
        wait_until(lambda: app.control.ping(timeout=1.0), seconds=20, what="the worker to answer again")
        wait_until(lambda: depth(client) == (0, 0), seconds=20, what="what is no page to be gone")
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
