"""A process of the detector that answers one line to each line: the producer itself never loads a picture.

A page that takes it down, or keeps it busy for too long, costs that one answer; the next question starts it again.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from detector.memory import raise_oom_score
from worker.storage.spool import machine_faults

ANSWER_TIMEOUT_S = 60.0  # an 80 MP progressive JPEG takes a few seconds on the slowest machine
END_TIMEOUT_S = 5.0

OWN_SESSIONS = True
"""Ctrl-C reaches the producer, which then ends them in order. False: they are killed with this process's group."""


class LineProcess:
    """``python -m MODULE``, started at the first question."""

    def __init__(self, module: str, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        """Start nothing yet.

        Args:
            module: one that reads JSON lines on stdin and answers each with a line on stdout.
            timeout_s: how long one answer may take, seconds.
        """
        self._module = module
        self._timeout_s = timeout_s
        self._ends_at = 0.0
        self.process: subprocess.Popen[bytes] | None = None

    def ask(self, question: bytes) -> bytes:
        """The answer to one line, empty if the process died over it or took too long.

        Raises:
            MachineFault: it cannot be started.
        """
        try:
            self.begin(question, self._timeout_s)
            return self.answer() or b""
        except BaseException:  # or the answer to this is taken for that to the next
            self.stop(kill=True)
            raise

    def begin(self, question: bytes, timeout_s: float) -> None:
        """Ask without waiting; `answer` must be called until there is one, before the next question.

        Args:
            question: one line, without its end.
            timeout_s: how long its answer may take, seconds.

        Raises:
            MachineFault: the process cannot be started.
        """
        process = self._running()
        assert process.stdin
        self._ends_at = time.monotonic() + timeout_s
        with suppress(BrokenPipeError):
            process.stdin.write(question + b"\n")
            process.stdin.flush()

    def answer(self, wait_s: float | None = None) -> bytes | None:
        """The answer to what was asked last, empty if the process died over it or took too long.

        Args:
            wait_s: return None if there is none after so long, seconds; None waits for it.

        Raises:
            MachineFault: there is no file to wait with; ask for the answer again.
        """
        process = self.process
        if process is None:
            return b""
        assert process.stdout
        left = max(0.0, self._ends_at - time.monotonic())
        with machine_faults(Path(sys.executable)), selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            ready = selector.select(left if wait_s is None else min(left, wait_s))
        if not ready and time.monotonic() < self._ends_at:
            return None
        line = process.stdout.readline() if ready else b""
        if not line.endswith(b"\n"):
            self.stop(kill=True)
            return b""
        return line

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None or self.process.poll() is not None:
            self.stop(kill=True)
            with machine_faults(Path(sys.executable)):  # or a file is blamed for it
                self.process = subprocess.Popen(
                    # -P: a folder named `detector` where the user happens to stand must not be taken for ours.
                    [sys.executable, "-P", "-m", self._module],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "MALLOC_ARENA_MAX": "2", "OMP_NUM_THREADS": "1"},
                    start_new_session=OWN_SESSIONS,
                )
            raise_oom_score(self.process.pid)
        return self.process

    def cpu_s(self) -> float:
        """Seconds of the processor that it has used, 0 where it does not run or the system does not say it."""
        process = self.process
        if process is None:
            return 0.0
        try:
            status = Path(f"/proc/{process.pid}/stat").read_text(errors="replace")
        except OSError:
            return 0.0
        user, system = status.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def stop(self, *, kill: bool = False) -> None:
        """End it: at the end of its input, or at once. Safe to call twice."""
        process, self.process = self.process, None
        if process is None:
            return
        if kill:
            process.kill()
        assert process.stdin and process.stdout
        try:
            process.stdin.close()
            process.wait(END_TIMEOUT_S)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            process.kill()
            process.wait()
        process.stdout.close()
