"""A run that ends when its time is over: rented GPUs are paid by the minute, and none is as fast as another."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detector.atomic import atomic_write
from detector.errors import ModelError
from detector.network.plain_weights import load_plain
from detector.training.parallel.crop_pool import CropPool
from detector.training.parallel.student import Student

WARM_UP = 200  # steps
LOWEST = 0.005  # share of the peak rate at the end
SAY_S, SAVE_S = 10.0, 60.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Clock:
    """How much of a run's time is over.

    Attributes:
        seconds: of the whole run.
        before: of it, that earlier parts took.
    """

    seconds: float
    before: float = 0.0

    def rate(self, elapsed: float, step: int) -> float:
        """Share of the peak rate: a cosine fall over the whole time, after a warm-up of 200 steps."""
        done = min(1.0, (self.before + elapsed) / self.seconds)
        warm = min(1.0, (step + 1) / WARM_UP)
        return warm * (LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * done)))


def takes_part(place: int, step: int, students: int) -> bool:
    """Whether a student learns from a step's crops: the first from all, the others by turns.

    The second and third each cost as much as the first on a GPU (their layers are small, and wait for memory), and are
    sooner done with what they can learn.
    """
    return place == 0 or step % students == place


def run_by_clock(
    students: Sequence[Student], pool: CropPool, batch: int, clock: Clock, run: Path, say: Say
) -> dict[str, int]:
    """Trains until the time is over, saving each minute; returns the steps of each model.

    Raises:
        CropWorkerError: nobody draws crops any more.
        ModelError: a loss is not finite; what was saved last is good.
    """
    begun = heard = saved = time.monotonic()
    step = last = students[0].steps
    while (now := time.monotonic()) - begun + clock.before < clock.seconds:
        crops = pool.batch(batch)
        for place, student in enumerate(students):
            if takes_part(place, step, len(students)):
                student.step(crops, clock.rate(now - begun, student.steps))
        step += 1
        if now - heard > SAY_S:
            means = [student.means() for student in students]
            if not all(math.isfinite(sum(terms.values())) for terms in means):
                raise ModelError(f"the loss is not finite any more; the state of a minute ago is in {run}")
            pairs = zip(students, means, strict=True)
            losses = "  ".join(f"{student.name} {sum(terms.values()):.3f}" for student, terms in pairs)
            say(
                f"{now - begun + clock.before:.0f}/{clock.seconds:.0f} s  step {step}  {losses}  "
                f"{(step - last) * batch / (now - heard):.0f} crops/s of {pool.made} made"
            )
            heard, last = now, step
            if now - saved > SAVE_S:  # only a state whose loss was finite just now
                save(students, now - begun + clock.before, run)
                saved = now
    save(students, clock.seconds, run)
    return {student.name: student.steps for student in students}


def state_file(run: Path) -> Path:
    """Where a run's state is."""
    return run / "clock.pt"


def save(students: Sequence[Student], elapsed: float, run: Path) -> None:
    """Writes the state of a run, atomically; loadable with ``weights_only=True``."""
    content = {"elapsed": elapsed, "students": {student.name: student.state() for student in students}}
    with atomic_write(state_file(run), sync=True) as unfinished:
        torch.save(content, unfinished)


def restore(students: Sequence[Student], run: Path) -> float:
    """Goes on from what `save` wrote, if it did; returns the seconds that are over.

    Raises:
        ModelError: not the state of such a run, or of other models.
    """
    file = state_file(run)
    if not file.is_file():
        return 0.0
    content: Any = load_plain(file)
    if not isinstance(content, dict) or set(content.get("students", ())) != {student.name for student in students}:
        raise ModelError(f"{file}: a run of other models; choose another RUN")
    for student in students:
        student.restore(content["students"][student.name])
    return float(content["elapsed"])
