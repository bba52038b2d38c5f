"""Flower keeps as many workers as a fleet has, whatever names somebody makes up."""

from __future__ import annotations

import subprocess
import sys

from worker.ops.few_workers import FewWorkers


def test_who_is_silent_makes_room_and_who_is_there_stays() -> None:
    now = [0.0]
    few = FewWorkers(2, 3600, lambda: now[0])
    assert [few.admit(name) for name in ("a", "b", "c", "a")] == [(True, ""), (True, ""), (False, ""), (True, "")]
    now[0] = 3599
    assert few.admit("a") == (True, "") and few.admit("c") == (False, "")
    now[0] = 3601
    assert few.admit("c") == (True, "b") and few.admit("b") == (False, "")


FLOOD = """
from flower.app import Flower
import worker.app, flower.events as events, worker.celery_ext.flower_workers as bound
from prometheus_client import REGISTRY, generate_latest
now = [0.0]
bound.bound_workers(bound.FewWorkers(5, 3600, lambda: now[0]))
state = events.EventsState(max_tasks_in_memory=100)
state.counter.update({f"restored{number}": {} for number in range(9)})
BEAT = {"timestamp": 1.0, "local_received": 1.0, "clock": 1, "pid": 1, "utcoffset": 0}
def flood(name):
    for number in range(50):
        state.event({**BEAT, "type": "worker-heartbeat", "hostname": f"{name}{number}", "active": 1, "freq": 2})
        state.event({**BEAT, "type": "task-received", "uuid": "j:0", "hostname": f"{name}{number}",
                     "name": "ocrfleet.detect_image", "runtime": 1.0})
def known():
    lines = generate_latest(REGISTRY).decode().splitlines()
    return {line.partition('worker="')[2].partition('"')[0] for line in lines if 'worker="' in line}
flood("x")
assert set(state.counter) == {f"restored{number}" for number in range(5)} and not known()
now[0] = 3601
flood("y")
assert set(state.counter) == set(state.workers) == known() == {f"y{number}" for number in range(5)}, known()
now[0] = 9000
flood("z")
assert set(state.counter) == set(state.workers) == known() == {f"z{number}" for number in range(5)}, known()
assert all(name[0] == "z" for name in state.tasks_by_worker), set(state.tasks_by_worker)
"""


def test_what_flower_holds_is_bounded_and_what_is_forgotten_is_gone() -> None:
    """Before: counters and histograms of each made-up name, for good: 1.1 GB in four minutes."""
    done = subprocess.run([sys.executable, "-c", FLOOD], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
