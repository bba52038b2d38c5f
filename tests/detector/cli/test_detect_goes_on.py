"""`ocr-detector detect` does the pages behind one that raises whatever it likes, or takes the process with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from detector.exit_codes import ExitCode
from tests.detector.test_predictor import page_with_bright_line

pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, time
from detector import memory, overlay, predictor
from detector.cli.main import cli
from detector.images import page as pages

def fault(path, *at):
    name = path.name
    if "abort" in name: os.abort()
    if "kill" in name: os.kill(os.getpid(), signal.SIGKILL)
    if "fault" in name: os.kill(os.getpid(), signal.SIGSEGV)
    if "raise" in name: raise ZeroDivisionError("of ours")
    if "sleep" in name: time.sleep(60)

def before(holder, what, wrapped):
    def changed(*arguments, **options):
        path = next(one for one in arguments if hasattr(one, "name"))
        if what in path.name:
            fault(path)
        if what == "count":
            assert memory.limit_in_force() == 1024 << 20
        return wrapped(*arguments, **options)
    setattr(holder, wrapped.__name__, changed)

before(pages, "count", pages.count_pages)
before(predictor.TextDetector, "detect", predictor.TextDetector.detect)
before(overlay, "draw", overlay.write_overlay)
cli()
"""


def started(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-c", PROGRAM, "detect", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def folder_of(tmp_path: Path, *names: str) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in names:
        page = page_with_bright_line().resize((64, 40))
        page.save(folder / name, **({"save_all": True, "append_images": [page]} if name.endswith("tif") else {}))
    return folder


def done(*words: object) -> tuple[list[dict[str, Any]], str, int]:
    process = started(*words)
    output, errors = process.communicate(timeout=120)
    return [json.loads(line) for line in output.splitlines()], errors, process.returncode


def test_all_others_are_done(tmp_path: Path, tiny_model: Path) -> None:
    """Before: the command ended there, with a traceback or without a word."""
    names = ("a.png", "b-abort-detect.png", "c-raise-detect.tif", "d-fault-count.tif", "e-raise-count.png", "f.tif")
    folder, out = folder_of(tmp_path, *names, "g-kill-draw.tif", "h-raise-draw.png"), tmp_path / "boxes.jsonl"
    words = ("--memory-limit-mb", 1024, "--model", tiny_model, "--overlays", tmp_path / "seen", "-o", out)
    _, errors, code = done(folder, *words)
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [record["index"] for record in found] == list(range(11)), errors
    outcome = [(Path(record["image"]).name[0], record["page"], record["status"]) for record in found]
    assert outcome == [
        *(("a", 0, "ok"), ("b", 0, "failed"), ("c", 0, "failed"), ("c", 1, "failed"), ("d", 0, "failed")),
        *(("e", 0, "failed"), ("f", 0, "ok"), ("f", 1, "ok"), ("g", 0, "ok"), ("g", 1, "ok"), ("h", 0, "ok")),
    ]
    lost, bug = found[1]["error"], found[2]["error"]
    assert lost["type"] == "OutOfMemory" and "SIGABRT): it is damaged, or needs more memory" in lost["message"]
    assert found[4]["error"]["type"] == "WorkerLost" and "SIGSEGV" in found[4]["error"]["message"]
    assert bug["type"] == "Internal" and "ZeroDivisionError: of ours" in bug["message"]
    assert code == ExitCode.FAILED and errors.count("Traceback") == 4
    assert errors.count("no overlay of") == 3 and "SIGKILL" in errors
    assert [path.name[:7] for path in sorted((tmp_path / "seen").iterdir())] == [
        f"{index:05}-{name}" for index, name in ((0, "a"), (6, "f"), (7, "f"))
    ]


def test_the_last_page_may_be_the_one(tmp_path: Path, tiny_model: Path) -> None:
    found, _, code = done(
        folder_of(tmp_path, "a.png", "b-abort-detect.png"), "--model", tiny_model, "--memory-limit-mb", 1024
    )
    assert [record["status"] for record in found] == ["ok", "failed"] and code == ExitCode.FAILED


def test_a_pipe_gets_all_lines(tmp_path: Path, tiny_model: Path) -> None:
    """Before: the end of the first process was the pipe's, and the next one waited for another reader."""
    os.mkfifo(tmp_path / "pipe")
    folder = folder_of(tmp_path, "a.png", "b-abort-detect.png", "c.png")
    process = started(folder, "--model", tiny_model, "--memory-limit-mb", 1024, "-o", tmp_path / "pipe")
    try:
        assert [json.loads(line)["status"] for line in (tmp_path / "pipe").open()] == ["ok", "failed", "ok"]
        assert process.wait(60) == ExitCode.FAILED
    finally:
        process.kill()
        process.communicate()


AS_CHILD = """
import os, signal
from time import sleep
from detector.evaluation import children

def interrupted():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        sleep(0.001)
    except KeyboardInterrupt:
        return True
    return False

children._be_a_child(os.getppid())
children._TWICE_S = 60
print(interrupted(), interrupted(), flush=True)
children._TWICE_S = 0
print(interrupted(), flush=True)
children._be_a_child(os.getpid())
print("has no parent, and goes on")
"""


def test_an_interrupt_that_is_lost_is_not_the_last() -> None:
    """Before: each later one was ignored, also where Python had lost the first in a callback. And a child whose parent
    ended before it asked to be told did the whole folder, with nobody waiting."""
    process = subprocess.run([sys.executable, "-c", AS_CHILD], capture_output=True, text=True, timeout=60)
    assert (process.stdout, process.returncode) == ("True False\nTrue\n", 128 + signal.SIGTERM), process.stderr


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_both_processes(how: signal.Signals, tmp_path: Path, tiny_model: Path) -> None:
    process = started(
        folder_of(tmp_path, "a.png", "b-sleep-detect.png"), "--model", tiny_model, "--memory-limit-mb", 1024
    )
    assert process.stdout
    worker = int(json.loads(process.stdout.readline())["worker"].rpartition(":")[2])
    assert worker != process.pid
    process.send_signal(how)
    _, errors = process.communicate(timeout=20)  # whose end the worker has, too
    assert process.returncode == (ExitCode.INTERRUPTED if how == signal.SIGINT else -how)
    assert errors.lstrip() == ("interrupted\n" if how == signal.SIGINT else "")
    end = time.monotonic() + 20
    while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
        time.sleep(0.02)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path: Path, tiny_model: Path) -> None:
    """As of a command that a script has started with `&`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        folder = folder_of(tmp_path, "a.png", "b-sleep-detect.png")
        process = started(folder, "--model", tiny_model, "--memory-limit-mb", 1024)
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.stdout
    worker = int(json.loads(process.stdout.readline())["worker"].rpartition(":")[2])
    for number in (process.pid, worker):
        [ignored] = [line for line in Path(f"/proc/{number}/status").read_text().splitlines() if "SigIgn" in line]
        assert int(ignored.split()[1], 16) & 2
    process.terminate()
    process.communicate(timeout=60)


def test_what_ends_it_before_any_page_ends_it(tmp_path: Path, tiny_model: Path) -> None:
    code = PROGRAM.replace("\ncli()", "\npredictor.TextDetector.__init__ = lambda *_, **__: os.abort()\ncli()")
    command = [sys.executable, "-P", "-c", code, "detect", str(folder_of(tmp_path, "a.png")), "--model", tiny_model]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == -signal.SIGABRT
