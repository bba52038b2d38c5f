"""Another Celery app in the same Redis: nothing of it goes, our passwords do not reach it, and doctor says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from click.testing import CliRunner
from kombu import Connection, Exchange, Queue

from tests.redis_users import ServerWithUsers, refused, server_with_users
from worker.broker import connect
from worker.broker.sending import SendingChannel
from worker.cli.cleanup import cleanup
from worker.ledger import Ledger
from worker.ops.cleanup import clean_redis
from worker.ops.doctor import ask_broker, judge_broker
from worker.ops.neighbours import Neighbours, look
from worker.settings import Settings

QUEUE = "billing.customer.7"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ServerWithUsers]:
    with server_with_users(tmp_path) as server:
        yield server


def ledger_of(server: ServerWithUsers, user: str, settings: Settings) -> Ledger:
    return Ledger(connect(replace(settings, redis_url=server.url(user))), ttl_s=3600)


@pytest.mark.parametrize("user", ["hub", "admin"])
def test_nothing_of_another_app_goes(hub: ServerWithUsers, settings: Settings, user: str) -> None:
    """Before: `ocr-worker cleanup` removed its bindings and the messages that it had in hand."""
    admin = hub.client("admin")
    billing = Celery("billing", broker=hub.url("admin").replace("unix", "redis+socket"), set_as_current=False)
    names = {f"{key}_key": f"{key}-billing" for key in ("unacked", "unacked_index", "unacked_mutex")}
    billing.conf.broker_transport_options = names
    exchange = Exchange("billing", "topic")
    queues = [Queue(f"billing.customer.{n}", exchange, routing_key=f"billing.customer.{n}.#") for n in range(80)]
    with billing.connection_for_write() as connection:
        channel = connection.default_channel
        producer = billing.amqp.Producer(channel)
        for queue in queues:
            queue(channel).declare()
        pay = {"exchange": exchange, "routing_key": f"{QUEUE}.now", "serializer": "json"}
        producer.publish({"pay": 1}, **pay)
        message = queues[7](channel).get()
        assert message.payload == {"pay": 1}, "in its hand, not acknowledged"
        # Celery's names of every app; its ids are its own matter, and an ETA may be days away.
        admin.hset("unacked", "tag", json.dumps([{"headers": {"id": "invoice:17", "task": "pay"}}, "", ""]))
        admin.zadd("unacked_index", {"tag": 1.0})
        admin.set("unacked_mails_report", "quarterly")
        admin.rpush(f"bcast.{uuid4()}", "x")
        admin.set("x" * 5000 + ".celery.pidbox", "x")
        before = set(admin.keys())
        assert before >= {b"unacked-billing", b"_kombu.binding.billing", b"_kombu.binding_permanent.billing"}
        assert admin.memory_usage("_kombu.binding.billing", samples=0) > 4096
        clean_redis(ledger_of(hub, user, settings), settings)
        assert before <= set(admin.keys())
        assert admin.hlen("unacked") == 1 and admin.hlen("unacked-billing") == 1
        producer.publish({"pay": 2}, **pay)
        assert admin.llen(QUEUE) == 1
        found = look(connect(replace(settings, redis_url=hub.url(user))))
        assert found.exchanges == ("billing",) and found.keys >= 8
        facts = ask_broker(ledger_of(hub, user, settings))
        [said] = [finding for finding in judge_broker(facts, 0) if finding.check == "other Celery apps"]
        assert said.verdict == "warn" and "exchange billing" in said.message


@pytest.mark.parametrize("queue", ["ocrfleet-post", "ocrfleet:post", "ocrfleetx"])
def test_nothing_goes_of_an_app_whose_name_begins_as_ours(hub: ServerWithUsers, settings: Settings, queue: str) -> None:
    """Before: `ocr-worker cleanup` removed its queue, with 50 messages, and said that they were ours; a worker's
    password, too."""
    admin = hub.client("admin")
    post = Celery("post", broker=hub.url("admin").replace("unix", "redis+socket"), set_as_current=False)
    post.conf.update(task_default_queue=queue, broker_transport_options={"queue_order_strategy": "priority"})
    for number in range(12):
        post.send_task("post.index", (number,), priority=number % 10)
    others = [f"{queue.replace(':', '-')}-orders", queue.replace(":", "-") + "x" * 5000, f"x:ocrfleet:job:{queue[-4:]}"]
    for name in others:
        admin.hset(name, "invoice", "17")
    before = {key: admin.dump(key) for key in admin.scan_iter()}
    assert len(before) >= 8
    for user in ("hub", "admin"):
        assert clean_redis(ledger_of(hub, user, settings), settings)["keys"] == 0
    assert {key: admin.dump(key) for key in admin.scan_iter()} == before
    for user in () if ":" in queue else ("worker", "producer", "hub"):
        for name in (queue, f"{queue}\x06\x163", others[0]):
            assert refused(hub.client(user), "DEL", name), name
    assert not refused(hub.client("worker"), "LPUSH", "ocrfleet\x06\x163", "x")


def test_our_channels_delete_no_bindings_of_another_app(hub: ServerWithUsers, settings: Settings) -> None:
    """Before: kombu's sweep did, of what its own workers had not renewed in time; refused, it warned each minute."""
    admin = hub.client("admin")
    admin.sadd("_kombu.binding.billing", "x")
    admin.zadd("_kombu.binding_deadlines", {"billing": 1})
    for user in ("admin", "worker"):
        url = hub.url(user).replace("unix", "redis+socket")
        with Connection(url) as connection, SendingChannel(connection.transport) as channel:
            channel.sweep_bindings()
    assert admin.exists("_kombu.binding.billing") and admin.acl_log() == []


@pytest.mark.parametrize("user", ["worker", "producer", "hub"])
def test_our_passwords_do_not_reach_another_app(hub: ServerWithUsers, user: str) -> None:
    """Before: `DEL unacked`, `DEL _kombu.binding.billing`, another database's bindings and its answers."""
    client = hub.client(user)
    for key in ("unacked", "unacked_index", "unacked-billing", "_kombu.binding.celery", "_kombu.binding_permanent.x"):
        assert refused(client, "DEL", key) and refused(client, "EXISTS", key), key
    for key in ("celery", "bcast.x", "celeryev.x", "x.celery.pidbox", "mail.reply.celery.pidbox", f"bcast.{uuid4()}x"):
        assert refused(client, "LPUSH", key, "x"), key
    assert refused(client, "SELECT", "1")
    for channel in ("/1.celery.pidbox", "/1.celeryev/worker.heartbeat", "/0.billing", "/0.billing.pidbox"):
        assert refused(client, "PUBLISH", channel, "x"), channel
    for key in ("ocrfleet:x", "_kombu.binding.celery.pidbox", "_kombu.binding_permanent.ocrfleet.broadcast"):
        assert not refused(client, "DEL", key), key


def test_what_lies_under_celerys_names_is_said_and_goes_when_a_person_says_so(
    hub: ServerWithUsers, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger, admin = hub.client("worker"), hub.client("admin")
    lists = [f"bcast.{uuid4()}", f"bcast.{uuid4()}\x06\x163", f"w@host{'x' * 50}.celery.pidbox"]
    for name in lists:
        stranger.lpush(name, b"x" * (1 << 20))
    ledger = ledger_of(hub, "hub", settings)
    assert ledger.create("j", 1, {})
    clean_redis(ledger, settings)
    assert admin.exists(*lists) == 3
    # Nobody reads them: should nobody say so, they lapse.
    assert all(0 < admin.ttl(name) <= 3600 for name in lists)
    found = look(ledger.client)
    assert found.keys == 3 and found.bytes > 3 << 20 and not found.exchanges and found.example in lists
    [said] = [finding for finding in judge_broker(ask_broker(ledger), 0) if finding.check == "Celery's names"]
    assert " MB in 3 keys that are not ours" in said.message and "cleanup --celery-names" in said.message
    monkeypatch.setenv("OCRFLEET_REDIS_URL", hub.url("hub"))
    monkeypatch.setenv("OCRFLEET_SPOOL_DIR", str(tmp_path / "spool"))
    told = CliRunner().invoke(cleanup, ["--celery-names", "--dry-run"])
    assert "would remove" in told.output and "3 keys" in told.output and admin.exists(*lists) == 3
    told = CliRunner().invoke(cleanup, ["--celery-names"])
    assert "removed" in told.output and "3 keys" in told.output and admin.exists(*lists) == 0
    assert ledger.status("j") is not None


def test_who_may_not_list_keys_says_nothing(hub: ServerWithUsers, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with server_with_users(tmp_path / "v", valkey=True) as valkey:  # whose words for it are others
        for server in (hub, valkey):
            server.client("admin").sadd("_kombu.binding.billing", "x")
            assert look(ledger_of(server, "worker", settings).client) == Neighbours()
            assert refused(server.client("worker"), "SCAN", "0")
