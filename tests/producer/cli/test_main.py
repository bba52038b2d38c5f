"""The program `ocr-producer`: what it loads, its table of commands, and what it says when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from pkgutil import walk_packages

import click
import pytest
import redis
from kombu.exceptions import OperationalError

import producer
from detector.exit_codes import ExitCode
from producer.cli.explain import explain
from producer.cli.main import COMMANDS
from producer.errors import ProducerError


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)


def test_help_needs_neither_redis_nor_celery() -> None:
    code = (
        "import sys, json\nfrom producer.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    )
    told = python(code)
    assert told.returncode == 0 and "enqueue" in told.stdout
    assert set(json.loads(told.stderr)) & {"redis", "kombu", "celery", "msgspec", "rich", "PIL", "pypdf"} == set()


def test_version() -> None:
    told = subprocess.run([sys.executable, "-m", "producer.cli", "--version"], capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.strip() == f"ocr-producer, version {version('ocrfleet')}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_names_commands(name: str) -> None:
    module, attribute = COMMANDS[name][0].split(":")
    command = getattr(import_module(module), attribute)
    assert isinstance(command, click.Command) and command.name == name and command.help
    assert COMMANDS[name][1][:10] == command.help[:10]


def test_a_bug_gets_a_traceback_and_exit_70(tmp_path: Path) -> None:
    """A ValueError of ours too: it is no mistake of the user's."""
    (tmp_path / "results.jsonl").touch()
    code = (
        "import sys, producer.output.report as report\n"
        "report.write_report = lambda out: int('a shape')\n"
        "from producer.cli import main\nmain(['report', sys.argv[1]])"
    )
    told = python(code, tmp_path)
    assert told.returncode == ExitCode.BUG
    first, *_, last = told.stderr.strip().splitlines()
    assert "bug" in first and f"ocr-producer report {tmp_path}" in first
    assert "Traceback" in told.stderr and last.startswith("ValueError: ")


def errors_of(package: str) -> Iterator[type[ProducerError]]:
    for module in walk_packages(producer.__path__, f"{package}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    waiting = [ProducerError]
    while waiting:
        error = waiting.pop()
        yield error
        waiting += error.__subclasses__()


def test_exit_codes() -> None:
    """Scripts call by these numbers: they never change."""
    codes = {error.__name__: error.exit_code for error in errors_of("producer")}
    nothing = {"NothingToDoError", "NoSuchJobError", "JobGoneError", "CannotDrawError", "SourceMissingError"}
    assert {name for name, code in codes.items() if code == ExitCode.NOTHING} == nothing
    assert {name for name, code in codes.items() if code == ExitCode.INTERRUPTED} == {"JobInterruptedError"}
    usage = {"ProducerError", "FolderBusyError", "AlreadyCollectingError", "OtherJobError", "ManifestError"}
    usage |= {"NoEmbeddedServerError", "LocalFleetError", "CannotSendError", "CannotCountError", "BrokenArchiveError"}
    usage |= {"MissingPagesError", "TooManyPagesError", "LineTooLongError", "WebhookSettingsError", "NoListError"}
    usage |= {"ScanStoppedError", "ShrinkerLostError", "CannotShrinkError", "UnknownFormatError", "DamagedFolderError"}
    usage |= {"CannotSendResultsError", "NoPdfLibraryError", "PageNotInPdfError"}
    usage |= {"ClientError", "WebMissingError", "WebSettingsError", "LostTwiceError", "QuotaUsedError"}
    usage |= {"OthersFolderError", "RefusedError", "UnreadArchiveError", "NotUtf8ListError"}
    assert {name for name, code in codes.items() if code == ExitCode.USAGE} == usage


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/results.jsonl"), ExitCode.INTERRUPTED, "make room"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "out"), ExitCode.INTERRUPTED, "out: Disk quota exceeded; make"),
        (OSError(errno.EFBIG, "File too large", "out/x"), ExitCode.INTERRUPTED, "out/x: File too large (`ulimit -f`"),
        (OSError(errno.EFBIG, "larger than 8 MB", "card.json"), ExitCode.USAGE, "card.json: larger than 8 MB"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), ExitCode.INTERRUPTED, "(`ulimit -u`"),
        (RuntimeError("can't start new thread"), ExitCode.INTERRUPTED, "pids.max): raise it, then give the same"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), ExitCode.USAGE, "out: Permission denied"),
        (redis.ConnectionError("gone"), ExitCode.BROKER, "lost the broker: gone; the job is safe"),
        (redis.TimeoutError("slow"), ExitCode.BROKER, "the job is safe"),
        (OperationalError("gone"), ExitCode.BROKER, "lost the broker: gone"),
        (redis.exceptions.OutOfMemoryError("x"), ExitCode.BROKER, "memory is full"),
    ],
)
def test_explained(error: Exception, code: ExitCode, words: str) -> None:
    explained = explain(error)
    assert explained is not None and explained[1] == code and words in explained[0]


def test_what_takes_no_message_ends_no_command() -> None:
    """Before: `run 2>log` on a full disk ended at its first line of progress, as did a worker; and named no file."""
    say = "import click, sys\nfrom detector.cli.streams import set_up_streams\nset_up_streams()\n"
    say += "for number in range(3): click.echo('x' * 9000, err=True)\nprint('done', sys.stderr.fileno())"
    read, write = os.pipe()
    os.close(read)
    with Path("/dev/full").open("w") as full, os.fdopen(write, "w") as gone:
        for target in (full, gone):
            told = subprocess.run([sys.executable, "-c", say], stdout=subprocess.PIPE, stderr=target, text=True)
            assert (told.returncode, told.stdout) == (0, "done 2\n")
        told = subprocess.run(
            [sys.executable, "-m", "producer.cli", "-h"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert told.returncode == ExitCode.INTERRUPTED
    assert told.stderr.startswith("Error: standard output: No space left on device; make room, then give the same")


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), TypeError("x"), RuntimeError("x")])
def test_a_bug_is_not_explained(error: Exception) -> None:
    assert explain(error) is None
