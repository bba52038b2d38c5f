"""The kinds of fault: each is a function that does it to a running trial, and returns when it is over.

A kind that needs the fleet prepared before it starts has an attribute ``prepare``.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

from tests.faults.rig import JOB
from tests.faults.trial import Trial
from tests.pictures import write_images
from tests.processes import WorkerProcess
from worker.app import IMAGE_QUEUE

# `make faults` holds a process still for longer than a lease; CI for a moment.
STOP_S = float(os.environ.get("OCRFLEET_FAULTS_STOP_S", "3"))
AWAY_S = 1.0


def _worker(trial: Trial) -> WorkerProcess:
    return trial.random.choice(trial.rig.workers)


def kill_child(trial: Trial) -> None:
    """The OOM killer takes the process that runs the image."""
    _worker(trial).kill_child()


def kill_main(trial: Trial) -> None:
    """The OOM killer takes a worker; its supervisor starts it again."""
    _worker(trial).kill_main()


def terminate_worker(trial: Trial) -> None:
    """A deployment stops a worker in order."""
    _worker(trial).process.terminate()


def kill_producer(trial: Trial) -> None:
    """The producer is killed; somebody resumes it."""
    trial.producer.kill()
    trial.producer.wait()


def terminate_producer(trial: Trial) -> None:
    """The producer is stopped in order: 130, and resumable."""
    running = trial.producer.poll() is None
    trial.producer.terminate()
    trial.check(not running or trial.producer.wait(30) in (0, 130), f"producer ended with {trial.producer.returncode}")


def kill_collector(trial: Trial) -> None:
    """The collector is killed; somebody starts it again."""
    trial.collector.kill()
    trial.collector.wait()


def stop_worker(trial: Trial) -> None:
    """A worker's machine swaps, or its virtual machine is paused."""
    worker = _worker(trial)
    group = os.getpgid(worker.process.pid)
    os.killpg(group, signal.SIGSTOP)
    time.sleep(STOP_S)
    os.killpg(group, signal.SIGCONT)


def stop_collector(trial: Trial) -> None:
    """A laptop's lid is closed over the collector."""
    trial.collector.send_signal(signal.SIGSTOP)
    time.sleep(STOP_S)
    trial.collector.send_signal(signal.SIGCONT)


def stop_producer(trial: Trial) -> None:
    """A laptop's lid is closed over the producer."""
    trial.producer.send_signal(signal.SIGSTOP)
    time.sleep(STOP_S)
    trial.producer.send_signal(signal.SIGCONT)


def redis_killed(trial: Trial) -> None:
    """Redis is killed and comes back with its append-only file: every main process lives on."""
    trial.same_mains = [worker.process.pid for worker in trial.rig.workers]
    trial.rig.server.kill()
    time.sleep(trial.random.uniform(0.2, 3.0))
    trial.rig.server.start()


def redis_shutdown(trial: Trial) -> None:
    """Redis is upgraded."""
    trial.same_mains = [worker.process.pid for worker in trial.rig.workers]
    trial.rig.server.shutdown()
    time.sleep(trial.random.uniform(0.2, 3.0))
    trial.rig.server.start()


def redis_stopped(trial: Trial) -> None:
    """Redis does not answer, and closes no connection."""
    trial.rig.server.send(signal.SIGSTOP)
    time.sleep(STOP_S)
    trial.rig.server.send(signal.SIGCONT)


def _begin_again(trial: Trial) -> None:
    """The operator gives the same command again, with what was collected."""
    for process in (trial.producer, trial.collector):
        process.wait(60)
    trial.rig.out.mkdir(exist_ok=True)
    (trial.rig.out / "results.jsonl").touch()
    again = ("--adopt", trial.rig.out, "--quiet", *trial.enqueue_flags)
    told = trial.rig.command("ocr-producer", "enqueue", trial.images, "--job", JOB, *again)
    trial.check(told.returncode == 0, f"enqueue --adopt: {told.stderr}")
    trial.collect()


def redis_emptied(trial: Trial) -> None:
    """Redis' disk is lost."""
    trial.rig.server.kill()
    trial.rig.server.wipe()
    trial.rig.server.start()
    _begin_again(trial)


def flushall(trial: Trial) -> None:
    """Somebody types FLUSHALL."""
    trial.rig.server.client.flushall()
    _begin_again(trial)


def client_pause(trial: Trial) -> None:
    """A failover's pause."""
    trial.rig.server.client.client_pause(2000)
    time.sleep(2.0)


def client_kill(trial: Trial) -> None:
    """A proxy, or a firewall, drops every connection."""
    for kind in ("normal", "pubsub"):
        trial.rig.server.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


def memory_full(trial: Trial) -> None:
    """Another program fills Redis' memory."""
    trial.rig.server.client.config_set("maxmemory", "1mb")
    time.sleep(AWAY_S)
    trial.rig.server.client.config_set("maxmemory", "0")


def read_only(trial: Trial) -> None:
    """A failover makes this server a replica for a moment."""
    client = trial.rig.server.client
    client.config_set("replica-serve-stale-data", "yes")
    client.replicaof("127.0.0.1", "1")
    time.sleep(AWAY_S)
    client.replicaof("NO", "ONE")


def duplicates(trial: Trial) -> None:
    """Every waiting message is delivered three times."""
    client = trial.rig.server.client
    for raw in client.lrange(IMAGE_QUEUE, 0, -1):
        client.lpush(IMAGE_QUEUE, raw, raw)


def messages_lost(trial: Trial) -> None:
    """Every waiting message is lost between two steps."""
    trial.rig.server.client.delete(IMAGE_QUEUE)


def rubbish(trial: Trial) -> None:
    """Somebody else writes to our keys."""
    client = trial.rig.server.client
    for raw in (b"\xff", b"{}", b"[]", json.dumps({"headers": {"id": []}, "properties": {}}).encode()):
        client.rpush(IMAGE_QUEUE, raw)
        client.xadd(f"ocrfleet:job:{JOB}:results", {"record": raw})
    client.hset("ocrfleet:workers", "x", "garbage")
    client.hset("ocrfleet:unacked", "x", "garbage")
    client.zadd("ocrfleet:unacked_index", {"x": 1})


def two_collectors(trial: Trial) -> None:
    """A second collector is started, into the same folder and into another one: both are refused."""
    for out in (trial.rig.out, trial.rig.folder / "other"):
        told = trial.rig.command("ocr-producer", "collect", JOB, "-o", out, "--quiet")
        # Once the job is done the first one's lock is free, while it still writes the report.
        refused = told.returncode == 2 or trial.rig.done() >= trial.count
        trial.check(refused, f"a second collector ended with {told.returncode}")


def two_producers(trial: Trial) -> None:
    """Another machine enqueues other images under the same name: refused."""
    others = trial.rig.folder / "others"
    write_images(others, 3)
    environment = {**trial.rig.environment, "XDG_STATE_HOME": str(trial.rig.folder / "other-state")}
    mine, trial.rig.environment = trial.rig.environment, environment
    told = trial.rig.command("ocr-producer", "enqueue", others, "--job", JOB, "--quiet")
    trial.rig.environment = mine
    trial.check(told.returncode == 2, f"a second producer ended with {told.returncode}: {told.stderr}")


def poison(trial: Trial) -> None:
    """One image kills whatever process opens it: prepared before the start, nothing to do now."""


def _prepare_poison(trial: Trial) -> None:
    trial.rig.environment["OCRFLEET_MAX_ATTEMPTS"] = "2"
    trial.worker_flags = ["-I", "tests.chaos.poison"]
    trial.rig.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    trial.poisoned = {3}


poison.prepare = _prepare_poison  # type: ignore[attr-defined]


SLOW = ("-I", "tests.faults.slow")


def slowly(trial: Trial) -> None:
    """The fault needs time: workers take half a second a page."""
    trial.worker_flags = [*SLOW]
    trial.rig.environment["PYTHONPATH"] = str(Path(__file__).parents[2])


def broken_image(trial: Trial) -> None:
    """One image is damaged: its record says so."""


def _prepare_broken(trial: Trial) -> None:
    (trial.images / "image-0002.jpg").write_bytes(b"\xff\xd8\xff no more")
    trial.poisoned = {2}


broken_image.prepare = _prepare_broken  # type: ignore[attr-defined]
