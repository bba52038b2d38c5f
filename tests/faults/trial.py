"""One trial: a real job, one fault at a random moment, and what became of every page, process, key and file."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.bench.cgroup import MemoryCgroup
from tests.faults.proxy import Proxy
from tests.faults.rig import JOB, Impossible, Rig, Slot
from tests.faults.server import FaultyServer

# So long without a record, or from the last one to the end: it hangs. Where nothing is lost it is far shorter.
LONGEST_S = 180.0
# Until the fault; a busy machine needs 60 s and more for the first pages.
LONGEST_BEFORE_S = 180.0
# The report of 120 small pages takes 4 to 7 s at a load of 14; over one picture its drawing process may take 60.
LONGEST_END_S = 45.0
WORKERS = 2
RESTART_S = 2.0  # a supervisor's pause before it starts a command again (deploy/hub.sh: RestartSec)


@dataclass
class Trial:
    """What a kind of fault may touch.

    Attributes:
        rig: the fleet.
        random: seeded; a trial is repeated by its seed.
        count: pages of the job.
        poisoned: pages that must end as failed records.
        restart_workers: what a supervisor (systemd, Kubernetes) would do.
        again: the operator's command when the broker lost the job; None for `resume`.
        same_mains: process ids of the workers, which must outlive this fault.
        wrong: what was not as it ought to be.
        worker_flags: of every worker.
        slots: one for each worker.
        enqueue_flags: of the producer.
        old_worker: one of the version before takes part.
        lines, replicas, cgroups, beats: what kinds of fault prepared for themselves.
        _ended: process id of a command -> when it was first seen to have ended.
    """

    rig: Rig
    random: random.Random
    count: int
    images: Path
    poisoned: set[int] = field(default_factory=set)
    restart_workers: bool = True
    again: list[str | Path] | None = None
    same_mains: list[int] | None = None
    wrong: list[str] = field(default_factory=list)
    worker_flags: list[str] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=lambda: [Slot() for _ in range(WORKERS)])
    enqueue_flags: list[str] = field(default_factory=list)
    old_worker: bool = False
    lines: list[Proxy] = field(default_factory=list)
    replicas: list[FaultyServer] = field(default_factory=list)
    cgroups: list[MemoryCgroup] = field(default_factory=list)
    beats: list[subprocess.Popen[str]] = field(default_factory=list)
    _ended: dict[int, float] = field(default_factory=dict)

    def enqueue(self) -> None:
        """The producer, alive until the job is done."""
        self.producer = self.rig.begin("enqueue", self.images, "--job", JOB, "--quiet", "--watch", *self.enqueue_flags)

    def collect(self) -> None:
        """The collector, alive until the job is done."""
        self.collector = self.rig.begin("collect", JOB, "-o", self.rig.out, "--follow", "--quiet")

    def is_due(self, process: subprocess.Popen[str]) -> bool:
        """Whether a command has ended, and its supervisor starts it again by now."""
        if process.poll() is None:
            return False
        return time.monotonic() >= self._ended.setdefault(process.pid, time.monotonic()) + RESTART_S

    def check(self, fact: bool, what: str) -> None:
        """Note what ought to be."""
        if not fact:
            self.wrong.append(what)


@dataclass(frozen=True)
class Outcome:
    """What became of a trial; all counts must be 0, and ``wrong`` empty.

    Attributes:
        kind: of fault.
        seed: of the trial.
        lost: pages without a record.
        twice: records too many.
        foreign: records of other images than the job's.
        hung: the job did not end in time.
        recovery_s: from the end of the fault to the next record.
        pause_s: the longest time without a new record, from the end of the fault on.
        seconds: the whole job.
        wrong: what else was not as it ought to be.
        end_s: from the last record to the collector's end.
    """

    kind: str
    seed: int
    lost: int
    twice: int
    foreign: int
    hung: bool
    recovery_s: float
    pause_s: float
    seconds: float
    wrong: tuple[str, ...]
    end_s: float = 0.0

    @property
    def good(self) -> bool:
        """Whether the fault did no harm."""
        return not (self.lost or self.twice or self.foreign or self.hung or self.wrong)


Inject = Callable[[Trial], None]


def run_trial(kind: str, inject: Inject, seed: int, folder: Path, *, count: int, binary: Path | None = None) -> Outcome:
    """Run one job with one fault.

    Args:
        kind: its name, for the table.
        inject: does it; returns when the fault is over.
        seed: of everything random.
        folder: of this trial, empty.
        count: pages.
        binary: the server's program; None for the one `run` uses.

    Raises:
        Impossible: this kind cannot be made here.
    """
    server = FaultyServer(folder / "redis", binary=binary, users=True)
    server.start()
    rig = Rig(folder, server)
    chance = random.Random(f"{kind}-{seed}")
    trial = Trial(rig, chance, count, rig.images(count))
    began = time.monotonic()
    times = Times(LONGEST_S, LONGEST_S)
    try:
        try:
            getattr(inject, "prepare", nothing)(trial)
            start(trial)
            moment = chance.randint(1, max(1, count * 2 // 3))
            _wait(lambda: rig.done() >= moment, LONGEST_BEFORE_S)
            time.sleep(chance.random() * 0.3)
            inject(trial)
            times = until(trial, lambda: is_complete(trial))
        except Impossible:
            raise
        except Exception as error:
            trial.wrong.append(f"{type(error).__name__}: {error}")
        return judge(kind, seed, trial, times, seconds=time.monotonic() - began)
    finally:
        rig.close()
        server.close()


def nothing(trial: Trial) -> None:
    """What most kinds must prepare."""


def start(trial: Trial) -> None:
    """Workers, a producer and a collector."""
    for slot in trial.slots:
        trial.rig.start_worker(*trial.worker_flags, slot=slot)
    trial.enqueue()
    _wait(lambda: trial.rig.server.client.exists(f"ocrfleet:job:{JOB}") == 1, LONGEST_BEFORE_S)
    trial.collect()


@dataclass(frozen=True)
class Times:
    """How long the fleet needed: to the next record, the longest time without one, and from the last one to the end
    (the collector's report); ``LONGEST_S`` if it hung."""

    next_s: float
    pause_s: float
    end_s: float = 0.0

    @property
    def hung(self) -> bool:
        return self.next_s >= LONGEST_S or self.pause_s >= LONGEST_S


def _wait(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s before the fault")
        time.sleep(0.02)


def is_complete(trial: Trial) -> bool:
    """Whether the collector has ended, and every page is on disk."""
    return trial.collector.poll() is not None and set(trial.rig.indices()) >= set(range(trial.count))


def until(trial: Trial, end: Callable[[], bool]) -> Times:
    """Supervise the fleet until ``end``."""
    last = began = time.monotonic()
    on_disk = sum(trial.rig.indices().values())
    first: float | None = None
    pause = 0.0
    while time.monotonic() - last < LONGEST_S:
        found = sum(trial.rig.indices().values())
        now = time.monotonic()
        if found > on_disk:
            first = first if first is not None else now - began
            pause, last, on_disk = max(pause, now - last), now, found
        _supervise(trial)
        if end():
            # None came: the others had ended the job while the fault lasted.
            return Times(now - began if first is None else first, pause, now - last)
        time.sleep(0.1)
    return Times(LONGEST_S, LONGEST_S)


def _supervise(trial: Trial) -> None:
    rig = trial.rig
    complete = set(rig.indices()) >= set(range(trial.count))
    if trial.restart_workers:
        for worker in [worker for worker in rig.workers if not worker.alive]:
            rig.workers.remove(worker)
            rig.start_worker(*trial.worker_flags, slot=worker.slot)
    if complete or not rig.server.running:
        return
    if trial.is_due(trial.producer) and rig.done() < trial.count:
        trial.producer = rig.begin(*(trial.again or ["resume", JOB]), "--quiet")
    if trial.is_due(trial.collector) and rig.server.client.exists(f"ocrfleet:job:{JOB}"):
        trial.collect()


def judge(kind: str, seed: int, trial: Trial, times: Times, *, seconds: float) -> Outcome:
    """Count what is on disk, and look for what is left behind."""
    rig, wrong, hung = trial.rig, trial.wrong, times.hung
    if trial.same_mains is not None:
        alive = [worker.process.pid for worker in rig.workers if worker.alive]
        trial.check(alive == trial.same_mains, f"main processes {trial.same_mains} became {alive}")
    records = [json.loads(line) for line in rig.lines()]
    wanted = {index: f"image-{index:04d}.jpg" for index in range(trial.count)}
    foreign = sum(wanted.get(record["index"]) != Path(record["image"]).name for record in records)
    counts = rig.indices()
    failed = {record["index"] for record in records if record["status"] == "failed"}
    if failed != trial.poisoned and not hung:
        reasons = {record["index"]: record["error"] for record in records if record["error"]}
        unasked = [f"{index}: {reasons[index]}" for index in sorted(failed - trial.poisoned)]
        wrong.append(f"{len(unasked)} failed ({unasked[:3]}); not failed: {sorted(trial.poisoned - failed)}")
    if not hung and is_complete(trial):
        code = 1 if trial.poisoned else 0
        trial.check(trial.collector.returncode == code, f"collect ended with {trial.collector.returncode}, not {code}")
    trial.check(hung or times.end_s < LONGEST_END_S, f"{times.end_s:.0f} s from the last record to the collector's end")
    _look_for_leftovers(trial)
    return Outcome(
        kind,
        seed,
        lost=len(wanted.keys() - counts.keys()),
        twice=sum(counts.values()) - len(counts),
        foreign=foreign,
        hung=hung,
        recovery_s=times.next_s,
        pause_s=times.pause_s,
        seconds=seconds,
        wrong=tuple(wrong),
        end_s=times.end_s,
    )


def _look_for_leftovers(trial: Trial) -> None:
    """After `forget` and `cleanup`: no key of the job, no temporary file, no process of a worker that is gone."""
    rig = trial.rig
    if not rig.server.running:
        return
    for process in rig.commands:
        if process.poll() is None:
            process.kill()
            process.wait()
    mains = [worker.process.pid for worker in rig.workers]
    for worker in rig.workers:
        worker.stop()
    if rig.server.client.exists(f"ocrfleet:job:{JOB}"):
        rig.command("ocr-producer", "forget", JOB, "--yes")
    keys = rig.server.client.keys(f"ocrfleet:*{JOB}*")
    # A worker of the version before does not know the name of the bytes that it was sent; they end by themselves.
    left = [key for key in keys if not (trial.old_worker and b":blob:" in key and rig.server.client.ttl(key) > 0)]
    trial.check(not left, f"keys left: {left}")
    trial.check(rig.server.client.llen("ocrfleet") == 0, "messages left on the queue")
    spools = {rig.folder / "spool", *(Path(slot.environment.get("OCRFLEET_SPOOL_DIR", "")) for slot in trial.slots)}
    left = [str(file) for spool in spools - {Path()} for file in spool.rglob("*") if file.is_file()]
    left = [file for file in left if not file.endswith("CACHEDIR.TAG")]
    if left:  # of a child that was killed over a page
        time.sleep(1.0)
        rig.environment["OCRFLEET_TEMP_TTL_H"] = "0.0001"
        for spool in spools - {Path()}:
            rig.environment["OCRFLEET_SPOOL_DIR"] = str(spool)
            rig.command("ocr-worker", "cleanup")
    left = [file for file in left if Path(file).exists()]
    trial.check(not left, f"temporary files left: {left}")
    orphans = [pid for pid in mains if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    trial.check(not orphans, f"processes left: {orphans}")


def forget_folder(folder: Path) -> None:
    """Remove what a good trial left."""
    shutil.rmtree(folder, ignore_errors=True)
