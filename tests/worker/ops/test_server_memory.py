"""Scripts and notes that fill Redis are no keys: the hub's cleanup frees them, and no job notices."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from producer.job.collect import Collector
from tests.producer.records import ok
from tests.redis_users import ROLES, USERS, ServerWithUsers, refused, server_with_users
from worker.app import app_for
from worker.broker import connect, queue
from worker.ledger import Ledger
from worker.messages import ImageTask, encode
from worker.ops.cleanup import clean_redis
from worker.ops.doctor import ask_broker, judge_broker
from worker.ops.server_memory import MOST_SCRIPTS
from worker.settings import Settings

MB = 1 << 20


def of_the_hub(server: ServerWithUsers, settings: Settings) -> Ledger:
    return Ledger(connect(replace(settings, redis_url=server.url("hub"))), ttl_s=3600)


def load_scripts(server: ServerWithUsers, count: int) -> None:
    stranger = server.client("worker")
    for number in range(count):
        stranger.script_load(f"--{number}{'x' * MB}\nreturn 1")
    stranger.close()


@pytest.mark.parametrize("valkey", [False, True])
def test_scripts_of_a_strangers_size_go(tmp_path: Path, settings: Settings, valkey: bool) -> None:
    """Before: 260 of 1 MiB, and Redis took nothing until somebody started it anew: no role could flush them."""
    with server_with_users(tmp_path, valkey=valkey) as server:
        server.client("admin").config_set("maxmemory", 24 * MB)
        ledger = of_the_hub(server, settings)
        load_scripts(server, 26)
        assert server.used() > 26 * MB
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            server.client("producer").hset("ocrfleet:job:x", "a", 1)
        [said] = [finding for finding in judge_broker(ask_broker(ledger), 0) if finding.check == "broker memory"]
        assert said.verdict == "warn" and "scripts that are none of ours" in said.message and "cleanup" in said.message
        clean_redis(ledger, settings, dry_run=True)
        assert server.used() > 26 * MB
        clean_redis(ledger, settings)
        assert server.used() < 8 * MB
        server.client("producer").hset("ocrfleet:job:x", "a", 1)
        for role in ("worker", "producer"):
            assert refused(server.client(role), "SCRIPT", "FLUSH")


def test_our_own_scripts_stay(tmp_path: Path, settings: Settings) -> None:
    with server_with_users(tmp_path) as server:
        load_scripts(server, 2)
        [sha] = [server.client("worker").script_load("return 7")]
        clean_redis(of_the_hub(server, settings), settings)
        assert server.client("worker").evalsha(sha, 0) == 7
        assert server.client("admin").info("memory")["used_memory_scripts"] < MOST_SCRIPTS


def test_notes_of_a_full_server_go(tmp_path: Path, settings: Settings) -> None:
    """What was refused is noted with the key's name, what was slow with the client's: 80 MB each, of 128."""
    with server_with_users(tmp_path) as server:
        admin = server.client("admin")
        admin.config_set("slowlog-log-slower-than", 0)
        for number in range(3):
            stranger = server.client("worker")
            assert refused(stranger, "GET", f"{number}{'x' * 4 * MB}")
            stranger.client_setname("n" * 4 * MB)
            stranger.ping()
            stranger.close()
        admin.config_set("slowlog-log-slower-than", -1)
        noted = server.used()
        ledger = of_the_hub(server, settings)
        clean_redis(ledger, settings)
        assert len(admin.acl_log()) >= 3, "there is room: somebody may want to read them"
        admin.config_set("maxmemory", noted)
        clean_redis(ledger, settings)
        assert noted > 20 * MB and server.used() < 4 * MB
        server.client("producer").hset("ocrfleet:job:x", "a", 1)


def test_users_of_a_version_before_clean_the_rest(
    tmp_path: Path, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    rules = USERS.read_text().replace(" +script|flush +acl|log +slowlog|reset +config|resetstat +acl|dryrun", "")
    assert rules != USERS.read_text()
    with server_with_users(tmp_path, rules) as server, caplog.at_level(logging.ERROR):
        load_scripts(server, 17)
        server.client("worker").set("ocrfleet:none", "x")
        assert clean_redis(of_the_hub(server, settings), settings)["keys"] == 1
        assert "refused SCRIPT FLUSH SYNC" in caplog.text and "load deploy/redis/users.acl anew" in caplog.text


@pytest.mark.parametrize("valkey", [False, True])
def test_a_job_goes_on_whenever_the_scripts_are_flushed(tmp_path: Path, settings: Settings, valkey: bool) -> None:
    with server_with_users(tmp_path, valkey=valkey) as server:
        of = {role: replace(settings, redis_url=server.url(role)) for role in ROLES}
        feeding, working = (Ledger(connect(of[role]), ttl_s=3600) for role in ("producer", "worker"))
        flush, app = server.client("hub").script_flush, app_for(of["producer"])
        tasks = [ImageTask(job="j", index=index, image="a", uri="file:///a", epoch="e") for index in range(3)]
        records = []
        with Collector(feeding, "j", tmp_path / "out/results.jsonl", 3) as collector:
            steps = [
                lambda: feeding.create("j", 3, {}, epoch="e"),
                lambda: feeding.feed(tasks),
                *(
                    lambda task=task, how=how: queue.send(app, task, **how)
                    for task, how in zip(tasks, ({"in_turn": True}, {"urgent": True}, {"in_turn": True}), strict=True)
                ),
                lambda: queue.queued_ids(feeding.client),
                *(lambda index=index: working.begin("j", index, redelivered=False, epoch="e") for index in range(3)),
                *(
                    lambda index=index: working.finish("j", index, ok=True, record=encode(ok(index)), epoch="e")
                    for index in range(3)
                ),
                lambda: records.extend(collector.step(0)),
                lambda: clean_redis(Ledger(connect(of["hub"]), ttl_s=3600), of["hub"]),
            ]
            for step in steps:
                flush()
                step()
        assert len(records) == 3
        status = feeding.status("j")
        assert status is not None and status.finished
