"""A successor on the same machine may say that its predecessor is gone; of other machines nobody knows."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from worker.process_identity import identity, is_gone, is_main


def test_a_process_is_there_until_it_ends() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        known = identity(process.pid)
        assert known and not is_gone(known)
        assert not is_gone(identity())
        process.kill()
        deadline = time.monotonic() + 5
        while not is_gone(known):  # a zombie now
            assert time.monotonic() < deadline
        process.wait()
        assert is_gone(known)


def test_another_process_of_that_id() -> None:
    assert is_gone(f"{identity().rpartition(':')[0]}:1")  # it started at another time


def test_other_machines_containers_and_rubbish_are_not_known() -> None:
    boot, namespace, *_ = identity(os.getpid()).split(":")
    assert not is_gone(f"another-boot:{namespace}:999999:1")
    assert not is_gone(f"{boot}:1:999999:1")
    assert not any(map(is_gone, ("", ":", "x", f"{boot}:{namespace}:x:1", f"{boot}:{namespace}::", "a:b:c:d:e")))


@pytest.mark.parametrize(
    ("words", "main"),
    [
        (("worker.celery_main", "worker"), True),
        (("/opt/bin/celery", "-A", "worker.app", "worker"), True),
        (("pytest", "tests/worker/celery_ext"), False),
    ],
)
def test_a_workers_command_line(words: tuple[str, ...], main: bool) -> None:
    """Before: a run of these tests over a folder `celery_ext` was a worker that does not report."""
    command = [sys.executable, "-c", "print(flush=True); input()", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()  # it has its command line by now
        assert is_main(process.pid) is main
        process.kill()
