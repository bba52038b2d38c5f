"""Another Celery app in the same Redis: nothing of it goes, and our passwords do not reach it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from kombu import Exchange, Queue
from redis.exceptions import NoPermissionError

from tests.redis_users import ServerWithUsers, refused, server_with_users
from worker.app import CONTROL_EXCHANGE, EVENT_LISTS, EVENTS
from worker.broker import connect
from worker.broker.sending import FleetConnection
from worker.ledger import Ledger
from worker.ops.cleanup import clean_redis
from worker.ops.foreign_keys import OLD_BINDINGS
from worker.ops.key_scan import key_names
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


def test_our_channels_have_no_bindings_and_delete_none_of_another_app(hub: ServerWithUsers) -> None:
    """Before: kombu's sweep did, of what its own workers had not renewed in time; refused, it warned each minute."""
    admin = hub.client("admin")
    admin.sadd("_kombu.binding.billing", "x")
    admin.zadd("_kombu.binding_deadlines", {"billing": 1})
    before = set(admin.keys())
    for user in ("admin", "worker"):
        url = hub.url(user).replace("unix", "redis+socket")
        with FleetConnection(url) as connection, connection.channel() as channel:
            queue = Queue(f"{EVENT_LISTS}.x", Exchange(EVENTS, "fanout"), expires=10.0)(channel)
            queue.declare()
            channel.basic_consume(queue.name, True, print, "x")
            channel.maybe_refresh_binding_expiry()
            queue.delete()
    assert set(admin.keys()) == before and admin.acl_log() == []


@pytest.mark.parametrize("user", ["worker", "producer", "hub"])
def test_our_passwords_do_not_reach_another_app(hub: ServerWithUsers, user: str) -> None:
    """Before: `DEL unacked`, `DEL _kombu.binding.billing`, another database's bindings and its answers."""
    client = hub.client(user)
    for key in ("unacked", "unacked_index", "unacked-billing", "_kombu.binding.celery", "_kombu.binding_permanent.x"):
        assert refused(client, "DEL", key) and refused(client, "EXISTS", key), key
    queues = ("bcast.{}", "celeryev.{}", "{}.reply.celery.pidbox", "w@{}.celery.pidbox")
    for key in ("celery", "_kombu.binding_deadlines", "_kombu.binding.celery.pidbox", *queues):
        assert refused(client, "LPUSH", key.format(uuid4()), "x"), key
    assert refused(client, "SELECT", "1")
    channels = ("celery.pidbox", "celeryev/worker.heartbeat", "billing", "billing.pidbox")
    for channel in (*(f"/0.{name}" for name in channels), "/1.ocrfleet.pidbox", "/1.ocrfleet.events/worker.heartbeat"):
        assert refused(client, "PUBLISH", channel, "x"), channel
    assert not refused(client, "DEL", "ocrfleet:x")
    assert not refused(client, "PUBLISH", f"/0.{CONTROL_EXCHANGE}", "x")


def test_what_versions_before_left_goes_where_it_is_certainly_ours(hub: ServerWithUsers, settings: Settings) -> None:
    admin = hub.client("admin")
    theirs = ("_kombu.binding.celery.pidbox", "_kombu.binding_permanent.celery", "_kombu.binding.ocrfleet-post")
    for name in (*OLD_BINDINGS, *theirs):
        admin.sadd(name, "x")
    admin.rpush(f"{uuid4()}.reply.celery.pidbox", "x")
    assert clean_redis(ledger_of(hub, "hub", settings), settings, dry_run=True)["keys"] == len(OLD_BINDINGS) == 4
    assert clean_redis(ledger_of(hub, "hub", settings), settings)["keys"] == 4
    assert not admin.exists(*OLD_BINDINGS) and len(admin.keys()) == 4
    assert all(admin.ttl(name) == -1 for name in admin.scan_iter())


def test_who_may_not_list_keys_is_told_so(hub: ServerWithUsers, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    with server_with_users(tmp_path / "v", valkey=True) as valkey:  # whose words for it are others
        for server in (hub, valkey):
            with pytest.raises(NoPermissionError, match="SCAN"):
                list(key_names(server.client("worker")))
            assert refused(server.client("worker"), "SCAN", "0")
