"""What is made for one client in a process of its own, and ends with it: the client leaves, the job is deleted."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from typing import IO

from starlette.types import Receive

from detector.memory import raise_oom_score
from producer.web.problem import Problem, no_such_job
from producer.web.visitors.leaving import when_gone

END_S = 2.0
"""To end in order, so that those it has started are waited for: nobody does it for them in a container without init."""

POLL_S = 0.2
WATCH_S = 1.0
MOST_SAID_BYTES = 1 << 16


class Making:
    """One result that is being made. Others may end it, from any thread."""

    def __init__(self, watch: Callable[[], None] = lambda: None) -> None:
        """Nothing runs yet.

        Args:
            watch: called each second; what it raises as a Problem ends the making.
        """
        self._watch, self._watched_at = watch, time.monotonic()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reason: Problem | None = None

    def end(self, reason: Problem) -> None:
        """End it, now or as soon as it begins; `check` raises the reason. Does not wait."""
        with self._lock:
            self._reason = self._reason or reason
            if self._process is not None:
                self._process.terminate()

    def check(self) -> None:
        """Raises the Problem for which it was ended, if it was."""
        if self._reason is not None:
            raise self._reason

    def _look(self) -> None:
        if time.monotonic() - self._watched_at > WATCH_S:
            self._watched_at = time.monotonic()
            try:
                self._watch()
            except Problem as problem:
                self.end(problem)

    def ask(self, module: str, question: bytes, most_s: float) -> bytes:
        """What a program answers to one line; less than a line if it is lost over it, ended, or takes too long.

        None of those that it has started is left, nor of their temporary files.

        Args:
            module: it begins with `end_with_the_page`.
            question: without the line's end.
            most_s: how long it may take, seconds.
        """
        with tempfile.TemporaryDirectory(prefix="ocrfleet-making-", ignore_cleanup_errors=True) as temporary:
            process = subprocess.Popen(
                # -P: a folder named `producer` where the service happens to stand must not be taken for ours.
                [sys.executable, "-P", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TMPDIR": temporary},
                start_new_session=True,
            )
            raise_oom_score(process.pid)
            assert process.stdin and process.stdout
            with self._lock:
                self._process = process
                if self._reason is not None:
                    process.terminate()
            try:
                with suppress(BrokenPipeError):  # its input stays open: it ends with the page
                    process.stdin.write(question + b"\n")
                    process.stdin.flush()
                return self._answer(process, process.stdout, most_s)
            finally:
                with self._lock:  # its number may be another's once it was waited for
                    self._process = None
                    with suppress(ProcessLookupError, PermissionError):  # macOS: of one that has ended
                        os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                process.stdout.close()
                with suppress(BrokenPipeError):
                    process.stdin.close()

    def _answer(self, process: subprocess.Popen[bytes], stream: IO[bytes], most_s: float) -> bytes:
        said, ends_at, asked_to_end = b"", time.monotonic() + most_s, False
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while not said.endswith(b"\n") and len(said) < MOST_SAID_BYTES:
                self._look()
                if not asked_to_end and (self._reason is not None or time.monotonic() > ends_at):
                    asked_to_end, ends_at = True, time.monotonic() + END_S
                    process.terminate()
                elif asked_to_end and time.monotonic() > ends_at:
                    break
                if selector.select(POLL_S):
                    block = os.read(stream.fileno(), MOST_SAID_BYTES)
                    if not block:
                        break
                    said += block
        return said


def end_with_the_page() -> bytes:
    """In such a program, first: the question. From now on it ends when it is told to, and when the page is gone.

    Then what it has started ends too: in order, and what does not within `END_S`, by the kernel.
    """

    def end(signum: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: the next must not cut this short
        sys.exit(1)

    signal.signal(signal.SIGTERM, end)
    line = sys.stdin.buffer.readline()

    def watch() -> None:
        with suppress(OSError):
            os.read(0, 1)  # nothing more is said: it returns at the end
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(END_S)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="watch", daemon=True).start()
    return line


class Makings:
    """All results that are being made."""

    def __init__(self) -> None:
        """None are."""
        self._lock = threading.Lock()
        self._those: dict[Making, str] = {}
        self._stopped = False

    @contextmanager
    def of(self, job: str, watch: Callable[[], None] = lambda: None) -> Iterator[Making]:
        """Inside, one is made of a job; ended at once where the service stops. ``watch``: see `Making`."""
        making = Making(watch)
        with self._lock:
            self._those[making] = job
            if self._stopped:
                making.end(_stops())
        try:
            yield making
        finally:
            with self._lock:
                del self._those[making]

    def end(self, job: str) -> None:
        """The job is deleted."""
        with self._lock:
            for making, of in self._those.items():
                if of == job:
                    making.end(no_such_job(job))

    def stop(self) -> None:
        """The service stops: end all, and what is begun after this."""
        with self._lock:
            self._stopped = True
            for making in self._those:
                making.end(_stops())


def _stops() -> Problem:
    return Problem(503, "the service stops", "try again in a minute", retry_after_s=60)


def ended_with_its_client(making: Making, receive: Receive) -> AbstractAsyncContextManager[None]:
    """Inside, what is made ends when the client leaves."""
    gone = Problem(400, "the connection ended before its answer was made", "ask again")
    return when_gone(receive, partial(making.end, gone))
