"""Who may do what in the Redis that the deploy files start: their own commands, run with a redis-server here."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from click.testing import CliRunner
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from detector.exit_codes import ExitCode
from producer.job.collect import Collector
from tests.processes import wait_until
from tests.producer.records import ok
from tests.redis_users import server_with_users
from tests.tools import tool
from worker.app import IMAGE_QUEUE, app_for
from worker.broker import queue
from worker.broker.connection import connect
from worker.broker.fitness import OLD_USERS, BrokerUnfitError, refuse_old_users
from worker.celery_ext import channel as channel_module
from worker.celery_ext.consumer import FleetConsumer
from worker.cli.main import main as ocr_worker
from worker.ledger import Ledger
from worker.ledger.reconcile import reconcile_all_once
from worker.messages import ImageTask, encode
from worker.ops import doctor
from worker.ops.cleanup import clean_redis
from worker.ops.exporter import take_sample
from worker.ops.replay_rights import why_forgets
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
ROLES = ("worker", "producer", "hub", "scaler")
Start = Callable[[str, dict[str, str]], Callable[[str], Settings]]


@pytest.fixture
def start(tmp_path: Path, settings: Settings) -> Iterator[Start]:
    """Starts what a container's shell would; gives the settings of one of its users."""
    server = tool("redis-server", "apt-get install redis-server")
    started: list[subprocess.Popen[bytes]] = []

    def run(script: str, passwords: dict[str, str]) -> Callable[[str], Settings]:
        here = {"valkey-server": str(server), "redis-server": str(server), "dir /data": f"dir {tmp_path}"}
        for there, name in here.items():
            if there.endswith("-server"):
                script = script.replace(f"exec {there} -", f"exec {name} -")
            else:
                script = script.replace(there, name)
        script = script.replace("sh /check_aof.sh /data", f"sh {ROOT}/deploy/redis/check_aof.sh {tmp_path}")
        script = script.replace("check_aof.sh /data", f"check_aof.sh {tmp_path}")
        script = script.replace("/users/", f"{tmp_path}/").replace("/acl/", f"{tmp_path}/acl/")
        script = script.replace("appendonly yes", f"appendonly yes\nport 0\nunixsocket {tmp_path}/s")
        log = (tmp_path / "log").open("wb")
        started.append(subprocess.Popen(["sh", "-c", script], env={**os.environ, **passwords}, stdout=log))

        def listens() -> bool:
            try:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(tmp_path / "s"))
            except OSError:  # it is not there yet, or is, and nobody listens
                return False
            return True

        wait_until(listens, seconds=20, what="Redis")
        return lambda who: replace(settings, redis_url=f"unix://{who}{tmp_path}/s")

    yield run
    for process in started:
        process.terminate()
        process.wait()


def a_page(of: Callable[[str], Settings], tmp_path: Path, worker: str, producer: str, hub: str) -> None:
    """From its feeding to its record, and what looks at it meanwhile, each under its own user."""
    feeding, working = (Ledger(connect(of(who)), ttl_s=3600) for who in (producer, worker))
    assert feeding.create("j", 1, {}, epoch="e")
    task = ImageTask(job="j", index=0, image="a.jpg", uri="file:///a.jpg", epoch="e")
    assert feeding.feed([task]) == [0]
    for kwargs in ({"urgent": True}, {"in_turn": True}):  # each has a producer of its own
        queue.send(app_for(of(producer)), task, **kwargs)
    assert queue.queued_ids(feeding.client) == {"j:0"}
    assert working.begin("j", 0, redelivered=False, epoch="e").verdict == "run"
    assert reconcile_all_once(app_for(of(worker)), working) == 0
    assert working.finish("j", 0, ok=True, record=encode(ok(0)), epoch="e")
    looking = Ledger(connect(of(hub)), ttl_s=3600)
    assert clean_redis(looking, of(hub)) == {"jobs": 0, "keys": 0}
    assert take_sample(looking, 0).jobs_finished == 1 and doctor.ask_broker(looking).info
    with Collector(feeding, "j", tmp_path / "out/results.jsonl", 1) as collector:
        assert len(collector.step(0)) == 1


def refused(client: redis.Redis, *command: str) -> bool:
    try:
        client.execute_command(*command)
    except redis.ResponseError as error:
        return "NOPERM" in str(error) or "no permissions" in str(error)
    return False


def test_compose(start: Start, tmp_path: Path) -> None:
    """Before: a worker's password was all there is: CONFIG SET, FLUSHALL, REPLICAOF."""
    script = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"]["command"][-1]
    of = start(script.replace("$$", "$"), {"OCRFLEET_REDIS_PASSWORD": "s3cret"})
    a_page(of, tmp_path, ":s3cret@", ":s3cret@", ":s3cret@")
    client = redis.Redis.from_url(of(":s3cret@").redis_url)
    for command in (
        *(("CONFIG", "GET", "*"), ("FLUSHALL",), ("REPLICAOF", "x", "1"), ("KEYS", "*"), ("ACL", "LIST")),
        *(("RANDOMKEY",), ("MOVE", "x", "1"), ("SWAPDB", "0", "1"), ("EVAL", "return 1", "0")),
        ("FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('x', function() return 1 end)"),
    ):
        assert refused(client, *command), command
    assert not refused(client, "SCAN", "0")
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(of("").redis_url).ping()


def parts(kind: str) -> list[dict[str, Any]]:
    found = yaml.safe_load_all((ROOT / "deploy/kubernetes/redis.yaml").read_text())
    return [document for document in found if document["kind"] == kind]


def test_kubernetes(start: Start, tmp_path: Path) -> None:
    """Before: one password for all, with all rights, in each pod."""
    [config], [stateful] = parts("ConfigMap"), parts("StatefulSet")
    acl = config["data"]["users.acl"]
    theirs = (ROOT / "deploy/redis/users.acl").read_text()
    assert acl.startswith(theirs.rstrip("\n") + "\nuser scaler on ") and acl.count("\n") == 5
    (tmp_path / "acl").mkdir()
    (tmp_path / "acl/check_aof.sh").write_text(config["data"]["check_aof.sh"])
    (tmp_path / "acl/users.acl").write_text(acl.replace(" +client|setinfo", ""))  # of Redis 7.2
    [container] = stateful["spec"]["template"]["spec"]["containers"]
    script = container["command"][-1]
    assert "$(" not in script and "$$" not in script, "Kubernetes would read them as its own"
    of = start(script, {f"{role.upper()}_PASSWORD": f"of-the-{role}" for role in ROLES})
    users = {role: f"{role}:of-the-{role}@" for role in ROLES}
    a_page(of, tmp_path, users["worker"], users["producer"], users["hub"])
    for role in ROLES:
        client = redis.Redis.from_url(of(users[role]).redis_url)
        for command in (("CONFIG", "GET", "*"), ("FLUSHALL",), ("KEYS", "*"), ("GET", "others")):
            assert refused(client, *command), (role, command)
    scaler = redis.Redis.from_url(of(users["scaler"]).redis_url)
    length = "return redis.call(({list='llen', zset='zcard'})[redis.call('type', KEYS[1]).ok], KEYS[1])"
    assert scaler.eval(length, 1, "ocrfleet") == 2, "as KEDA asks"
    assert scaler.eval(length, 1, "ocrfleet:jobs") == 1
    assert refused(scaler, "DEL", "ocrfleet") and refused(scaler, "LRANGE", "ocrfleet", "0", "-1")
    assert "of-the-" not in (tmp_path / "users.acl").read_text()
    assert (tmp_path / "users.acl").stat().st_mode & 0o77 == 0
    with pytest.raises(redis.AuthenticationError):
        redis.Redis.from_url(of("").redis_url).ping()


def test_each_pod_has_the_password_of_its_role_alone() -> None:
    roles = {"worker": "WORKER", "beat": "HUB", "flower": "HUB", "exporter": "HUB", "web": "PRODUCER"}
    for file in ("worker", "hub", "web"):
        for document in yaml.safe_load_all((ROOT / f"deploy/kubernetes/{file}.yaml").read_text()):
            if document and document["kind"] == "Deployment":
                [container] = document["spec"]["template"]["spec"]["containers"]
                keys = [one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"] if "valueFrom" in one]
                role = document["spec"]["template"]["metadata"]["labels"]["role"]
                assert [key for key in keys if key.endswith("_URL")] == [f"{roles[role]}_URL"]
                assert not [key for key in keys if key.endswith("_PASSWORD")]


def test_under_the_users_of_the_version_before(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may not ask how much a key takes, put a message back in another's place, nor free what is no key: all goes
    on. Nor hear what is said to workers, who spoke over Celery's own channels: those, and who asks them, end by a line.
    """
    acl = (ROOT / "deploy/redis/users.acl").read_text()
    old = acl.replace(" +memory|usage +zcard", "").replace(" +lrange +lrem ", " +lrange ")
    old = old.replace(" +script|flush +acl|log +slowlog|reset +config|resetstat +acl|dryrun", "").replace(
        " +ping ", " +ping +select "
    )
    by_prefix = "~ocrfleet* ~unacked* ~_kombu.binding* ~bcast.* ~celeryev.* ~*.celery.pidbox* resetchannels"
    old, roles = re.subn(r"~.* resetchannels", by_prefix, old)
    old = old.replace("&/0.ocrfleet.events/*", "&/0.celeryev/*").replace("&/0.ocrfleet.pidbox", "&/0.celery.pidbox")
    assert old.count("+lrem") == 1 and roles == 3 and "flush" not in old and old.count("&/0.celery.pidbox") == 3
    for role in ROLES:
        old = old.replace(f">{role.upper()}_PASSWORD", f">of-the-{role}")
    (tmp_path / "users.acl").write_text(old)
    of = start("exec redis-server - <<END\naclfile /users/users.acl\nappendonly yes\ndir /data\nEND", {})
    users = {role: f"{role}:of-the-{role}@" for role in ROLES}
    a_page(of, tmp_path, users["worker"], users["producer"], users["hub"])
    consumer = FleetConsumer.__new__(FleetConsumer)  # its constructor wants a whole worker
    consumer.app = app_for(of(users["worker"]))
    with consumer.connection_for_read() as connection, connection.channel() as channel:
        message = connect(of(users["hub"])).lrange(IMAGE_QUEUE, -1, -1)[0]
        channel_module._turns.begin("tag", "j", urgent=True)
        channel_module._turns._begun["tag"] = (-1e6, "j", True)
        channel_module._turns.end("tag")
        assert channel_module._turns.should_wait(message) and channel._whose_turn(IMAGE_QUEUE, message) == message
        assert not channel_module._turns.should_wait(message)

    with pytest.raises(BrokerUnfitError, match=OLD_USERS):
        consumer.on_connection_error_after_connected(NoPermissionError("of a PSUBSCRIBE or a PUBLISH"))
    for role in ("worker", "producer", "hub"):
        with pytest.raises(BrokerUnfitError, match=OLD_USERS):
            app_for(of(users[role])).control.ping()
    for role, name in (("worker", "start"), ("hub", "flower")):
        monkeypatch.setenv("OCRFLEET_REDIS_URL", of(users[role]).redis_url)
        told = CliRunner().invoke(ocr_worker, [name])
        assert told.exit_code == ExitCode.BROKER and OLD_USERS in told.output and told.output.count("\n") == 1
    refuse_old_users(connect(of(users["producer"])))  # who hears nothing
    found = doctor.ask_broker(Ledger(connect(of(users["hub"])), ttl_s=60))
    assert [one.verdict for one in doctor.judge_broker(found, 0) if OLD_USERS in one.message] == ["bad"]


@pytest.mark.parametrize("valkey", [False, True])
def test_a_restart_forgets_nothing(tmp_path: Path, valkey: bool) -> None:
    """Before: Redis 7 read its append-only file as the default user, who is off, and passed over what scripts wrote.

    A finished job was no job after a restart, and `collect` of it gave 0 records, with exit code 0.
    """
    with server_with_users(tmp_path, valkey=valkey) as server:
        producer, worker = (Ledger(server.client(role), ttl_s=3600) for role in ("producer", "worker"))
        assert producer.create("night", 3, {}, epoch="e")
        tasks = [ImageTask(job="night", index=at, image="a", uri="file:///a", epoch="e") for at in range(3)]
        assert producer.feed(tasks) == [0, 1, 2]
        for at in range(2):
            assert worker.begin("night", at, redelivered=False, epoch="e").verdict == "run"
            assert worker.finish("night", at, ok=True, record=encode(ok(at)), epoch="e")
        everything = contents(server.client("admin"))
        for name, password in (("default", ""), ("default", "default"), (None, None)):
            once = Retry(NoBackoff(), 0)
            stranger = redis.Redis(unix_socket_path=str(server.socket), username=name, password=password, retry=once)
            with pytest.raises(redis.AuthenticationError):
                stranger.ping()

        hub = server.client("hub")
        assert why_forgets(hub, hub.info()) == ""

    with server_with_users(tmp_path, valkey=valkey) as server:
        status = Ledger(server.client("hub"), ttl_s=3600).status("night")
        assert status is not None and (status.total, status.ok) == (3, 2)
        assert contents(server.client("admin")) == everything


def test_doctor_says_what_a_restart_would_forget(tmp_path: Path) -> None:
    rules = (ROOT / "deploy/redis/users.acl").read_text().replace(" resetpass ~* &* +@all", "", 1)
    for acl, said in (
        (rules, "a restart of Redis loses every job"),
        (rules.replace(" +acl|dryrun", ""), "a version before"),
    ):
        with server_with_users(tmp_path, acl) as server:
            found = doctor.ask_broker(Ledger(server.client("hub"), ttl_s=60))
            [finding] = [one for one in doctor.judge_broker(found, 0) if one.check == "restart"]
            assert finding.verdict == "bad" and said in finding.message and "hub.sh again" in finding.message
            assert not doctor.ask_broker(Ledger(server.client("worker"), ttl_s=60)).forgets
            assert not why_forgets(server.client("hub"), {"redis_version": "8.6.0"})
            assert not why_forgets(server.client("hub"), {"redis_version": "7.2.4", "valkey_version": "9.1.2"})


def contents(client: redis.Redis) -> dict[bytes, bytes]:
    """All keys, as Redis would dump them."""
    return {key: client.dump(key) for key in client.scan_iter()}
