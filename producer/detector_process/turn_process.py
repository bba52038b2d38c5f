"""A process of one job, of which a few live at once, whatever the number of jobs.

Who waits for one gets it in turn; one that is asked nothing is ended for the next.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from producer.detector_process.line_process import LineProcess

AT_ONCE = 4
"""Processes of a kind; of about 20 MB each, and at most what the kind's limit is."""

HOLD_S, ABANDONED_S, ROUND_S = 2.0, 5.0, 0.5
"""A process is not ended for another job before it has served so long; nor while somebody asks for its answer. Where
one feeder asks for all jobs, each that waits holds it for `ROUND_S`: of 16 each came after 8 s, and more than half of
what they had was ended in the middle, and begun again."""

POLL_S = 0.05


class NotYetError(Exception):
    """The answer is not there yet, and others are not to be kept waiting: ask the same again."""


class AtWorkError(NotYetError):
    """A process is at it, and what it was given to read stays where it is."""


class Turns:
    """Who may have a process of a kind: a few, the others in the order in which they came."""

    def __init__(self) -> None:
        """Nobody has one."""
        self._lock = threading.Lock()
        self._having: list[TurnProcess[Any]] = []
        self._waiting: list[TurnProcess[Any]] = []

    def enter(self, one: TurnProcess[Any]) -> bool:
        """It is looked after again. Whether it still has its process."""
        with self._lock:
            one.busy = True
            return one in self._having

    def rest(self, one: TurnProcess[Any]) -> None:
        """Until it is looked after again."""
        with self._lock:
            one.busy, one.seen = False, time.monotonic()

    def take(self, one: TurnProcess[Any]) -> bool:
        """Whether it may have a process now; perhaps another's is ended for it."""
        with self._lock:
            now = time.monotonic()
            if one not in self._having:
                abandoned = now - ABANDONED_S - ROUND_S * (len(self._having) + len(self._waiting))
                self._waiting = [other for other in self._waiting if other.busy or other.seen > abandoned]
                if one not in self._waiting:
                    self._waiting.append(one)
                place = self._waiting.index(one)
                if place >= AT_ONCE - len(self._having):
                    other = next((other for other in self._having if other.is_idle(now, abandoned)), None)
                    if other is None or place:
                        return False
                    self._having.remove(other)
                    other.end()
                self._waiting.remove(one)
                self._having.append(one)
                one.since = now
            return True

    def leave(self, one: TurnProcess[Any]) -> None:
        """It needs none any more."""
        with self._lock:
            for those in (self._having, self._waiting):
                if one in those:
                    those.remove(one)
            one.end()


class Question(Protocol):
    """A line, as msgspec writes it.

    Attributes:
        out: the file that the process is to write, percent-encoded.
    """

    @property
    def out(self) -> str: ...  # noqa: D102


Asked = TypeVar("Asked", bound=Question)


class TurnProcess(Generic[Asked]):
    """One job's process. Leave it.

    Attributes:
        child: the process.
        asked: what it was asked that has no answer yet.
        busy: somebody waits for it at this moment.
        seen: when somebody last did, by `time.monotonic`.
        since: when it got its place, likewise.
        begun: when it was asked, by `time.monotonic`.
        lost_s: of the processor, that ended processes had spent on what they were asked; whoever books it takes it off.
    """

    def __init__(self, module: str, turns: Turns) -> None:
        """Start nothing yet.

        Args:
            module: see `LineProcess`.
            turns: of all jobs' processes of this kind.
        """
        self.child = LineProcess(module)
        self.asked: Asked | None = None
        self.busy = False
        self.seen = self.since = self.begun = 0.0
        self.lost_s = self._cpu_s = 0.0
        self._turns = turns

    def answer(self, wanted: Asked, timeout_s: float, wait_s: float | None) -> bytes:
        """The answer to a question, empty if the process died over it or took too long.

        Args:
            wanted: the question; another one that was not waited for is forgotten.
            timeout_s: how long the answer may take, seconds.
            wait_s: how long others may be kept waiting, seconds; None: until it is there.

        Raises:
            NotYetError: it is not there after so long.
        """
        until = None if wait_s is None else time.monotonic() + wait_s
        try:
            if not self._turns.enter(self):
                self.asked = None
            elif self.asked not in (None, wanted):
                self.child.stop(kill=True)
                self.asked = None
            if self.asked is None:
                self._begin(wanted, timeout_s, until)
            line = self.child.answer(None if until is None else max(0.0, until - time.monotonic()))
            if line is None:
                raise AtWorkError
            self.asked = None
            return line
        finally:
            self._turns.rest(self)

    def _begin(self, wanted: Asked, timeout_s: float, until: float | None) -> None:
        while not self._turns.take(self):
            if until is not None and time.monotonic() >= until:
                raise NotYetError
            time.sleep(POLL_S)
        self._cpu_s = self.child.cpu_s()
        self.child.begin(msgspec.json.encode(wanted), timeout_s)
        self.asked, self.begun = wanted, time.monotonic()

    def is_idle(self, now: float, abandoned: float) -> bool:
        """Whether it may be ended for another's; at work too, if nobody has waited for it since `abandoned`."""
        served = self.asked is None and now - self.since > HOLD_S
        return not self.busy and (served or self.seen < abandoned)

    def end(self) -> None:
        """End the process, with the half file that it was writing: those of a few jobs are hundreds of MB."""
        if self.asked is not None:
            self.lost_s += max(0.0, self.child.cpu_s() - self._cpu_s)
        self.child.stop(kill=True)
        if self.asked is not None:
            Path(os.fsdecode(unquote_to_bytes(self.asked.out))).unlink(missing_ok=True)
            self.asked = None

    def leave(self) -> None:
        """Nothing is wanted of it any more. Safe to call twice."""
        self._turns.leave(self)
        self.asked = None
