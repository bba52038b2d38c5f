"""Real worker processes and real commands for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import redis


def wait_until(condition: Callable[[], object], *, seconds: float, what: str) -> None:
    """Poll until the condition holds.

    Raises:
        AssertionError: it did not hold in time; ``what`` says what was waited for.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.02)


@contextmanager
def running_redis(command: Sequence[str | Path], log: Path, client: Callable[[], redis.Redis]) -> Iterator[None]:
    """A server of Redis or Valkey inside the block, which begins when it answers; what it says is in ``log``."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(client().ping())
        except redis.ConnectionError:
            return False

    try:
        wait_until(answers, seconds=10, what="the server")
        yield
    finally:
        process.terminate()
        process.wait()


class WorkerProcess:
    """A worker as ``ocr-worker start`` leaves it, which first looks at Redis and the settings.

    Plain ``celery -A worker.app worker``, which imports all of Celery's commands before, is what three machines run
    (tests/fleet/test_three_machines.py), and whoever gives ``cwd``: the version before, which knows no other way.
    """

    def __init__(
        self,
        environment: dict[str, str],
        log: Path,
        *arguments: str,
        cwd: Path | None = None,
        preexec: Callable[[], None] | None = None,
    ) -> None:
        self.log = log
        program = ["celery", "-A", "worker.app"] if cwd else ["worker.celery_main"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *program, "worker", "--loglevel", "INFO", *arguments],
                env=environment,
                cwd=cwd,
                preexec_fn=preexec,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def children(self) -> list[psutil.Process]:
        """The pool's processes."""
        try:
            return psutil.Process(self.process.pid).children()
        except psutil.NoSuchProcess:
            return []

    def kill_main(self) -> None:
        """As the OOM killer or an impatient person would."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_child(self) -> None:
        """Only the process that holds the image."""
        for child in self.children():
            child.kill()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> int:
        """Warm shutdown; returns the exit status."""
        if self.alive:
            self.process.terminate()
            try:
                # billiard's child waits up to 30 s for its last answer to be read; the main process, which is joining
                # it by then, now and then does not: one of 42 shutdowns on a busy machine took all of them.
                self.process.wait(45)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        return self.process.returncode


def command(environment: dict[str, str], *arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run one of our commands (``ocr-producer``, ``ocr-worker``, ``ocr-detector``) to its end."""
    name, *rest = map(os.fspath, arguments)
    module = {"ocr-producer": "producer.cli", "ocr-worker": "worker.cli", "ocr-detector": "detector.cli"}[name]
    result = subprocess.run(
        [sys.executable, "-m", module, *rest],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        **options,  # type: ignore[call-overload]
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result
