"""The short form of ``make faults``: every kind of fault once, over two jobs, in groups that do not disturb each other.

Leases last seconds instead of half a minute, and a process is held still for longer than that. The faults of a group
come at the same time; the fleet must move again before the next group.
"""

from __future__ import annotations

import random
import time
from threading import Thread

from tests.faults.catalogue import KINDS
from tests.faults.rig import JOB, Impossible, Rig
from tests.faults.trial import Trial, is_complete, judge, nothing, start, until
from tests.tools import missing

LEASE_S = "2"
# What happens to processes and their machines, and what happens to Redis and the way to it.
PROCESSES = (
    ("kill child", "terminate producer", "stop collector"),
    # First: the version before has leases of 30 s, and may be killed over a page.
    ("upgrade", "stop producer"),
    ("kill main", "two collectors"),
    ("terminate worker", "kill producer", "rubbish"),
    ("spool full", "output full", "duplicates"),
    ("out of memory", "kill collector", "two producers"),
    ("stop worker",),
    ("clock ahead", "clock behind"),
    ("two beats",),
)
REDIS = (
    ("redis killed",),
    ("client pause", "client kill"),
    ("network slow", "redis shutdown"),
    ("redis stopped", "machine cut off"),
    ("memory full",),
    ("read only",),
    ("network cut",),
    ("redis disk full", "messages lost"),
    ("password changed",),
    ("flushall",),
    ("failover",),
    ("redis emptied",),
)
# Pages: enough to outlast the faults on a quiet machine.
COUNT = {PROCESSES: 100, REDIS: 65}
# Prepared before the start. The poison is known by its file's name, which a page that travels through Redis has not.
ALWAYS = {PROCESSES: ("broken image",), REDIS: ("poison", "broken image")}


def meet(rig: Rig, groups: tuple[tuple[str, ...], ...]) -> None:
    """One job that meets all of these faults."""
    trial = Trial(rig, random.Random(7), COUNT[groups], rig.images(COUNT[groups]))
    poisoned: set[int] = set()
    for kind in (*ALWAYS[groups], *(kind for group in groups for kind in group)):
        try:
            getattr(KINDS[kind], "prepare", nothing)(trial)
        except Impossible as reason:
            missing(f"{kind}: NOT TESTED: {reason}")
        poisoned |= trial.poisoned
    trial.poisoned = poisoned
    trial.worker_flags = ["-I", "tests.chaos.poison,tests.faults.slow"]
    hurry = rig.folder / "hurry"
    rig.environment |= {"OCRFLEET_LEASE_S": LEASE_S, "OCRFLEET_FAULTS_HURRY": str(hurry)}
    began = time.monotonic()
    start(trial)
    until(trial, lambda: rig.done() >= 4)
    met: list[tuple[str, ...]] = []
    for group in groups:
        if is_complete(trial):
            break
        _inject(trial, group)
        met.append(group)
        on_disk = sum(rig.indices().values())
        times = until(trial, lambda before=on_disk: sum(rig.indices().values()) >= before + 2 or is_complete(trial))
        print(
            f"{time.monotonic() - began:5.1f} s: {', '.join(group)}: next record {times.next_s:.1f} s, {on_disk} done"
        )
        assert not times.hung, f"nothing moves after {group}: {rig.server.client.hgetall(f'ocrfleet:job:{JOB}')}"
        _same_mains(trial)
    hurry.touch()
    outcome = judge("all", 7, trial, until(trial, lambda: is_complete(trial)), seconds=time.monotonic() - began)
    print(f"{time.monotonic() - began:5.1f} s: {outcome}")
    assert outcome.good, outcome
    assert met == list(groups), "the job was over too soon"


def _inject(trial: Trial, group: tuple[str, ...]) -> None:
    def guarded(kind: str) -> None:
        try:
            KINDS[kind](trial)
        except Exception as error:
            trial.wrong.append(f"{kind}: {type(error).__name__}: {error}")

    threads = [Thread(target=guarded, args=(kind,), name=kind) for kind in group]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _same_mains(trial: Trial) -> None:
    """Those who had to outlive this fault have; they may die of the next one."""
    if trial.same_mains is not None:
        alive = [worker.process.pid for worker in trial.rig.workers if worker.alive]
        trial.check(alive == trial.same_mains, f"main processes {trial.same_mains} became {alive}")
    trial.same_mains = None


def left_out() -> set[str]:
    """Kinds that no group has."""
    return KINDS.keys() - {kind for group in (*PROCESSES, *REDIS, *ALWAYS.values()) for kind in group}
