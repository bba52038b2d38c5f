"""ocr-worker as a program: its table of commands, one-line errors, exit codes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import click
import pytest

from detector.exit_codes import ExitCode
from tests.processes import command
from worker.cli.main import COMMANDS, main


def run_python(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)


def test_every_name_of_the_table_is_a_command_of_that_name() -> None:
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in COMMANDS}
    assert {name: found.name for name, found in commands.items() if found} == {name: name for name in COMMANDS}


def test_help_and_version_need_no_redis(environment: dict[str, str]) -> None:
    code = (
        "import sys; from worker.cli import main\n"
        "try: main([{word!r}])\n"
        "finally: print([name for name in ('redis', 'celery', 'cv2', 'numpy') if name in sys.modules])"
    )
    shown = run_python(code.format(word="--help"), environment)
    assert shown.returncode == 0, shown.stderr
    assert all(f"  {name} " in shown.stdout for name in COMMANDS)
    assert shown.stdout.splitlines()[-1] == "[]"
    shown = run_python(code.format(word="--version"), environment)
    assert shown.stdout.splitlines() == [f"ocr-worker, version {version('ocrfleet')}", "[]"]


@pytest.mark.parametrize(
    ("variables", "words", "exit_code", "said"),
    [
        ({}, ["doctr"], ExitCode.USAGE, "doctr"),
        ({"OCRFLEET_NICE": "x"}, ["doctor"], ExitCode.USAGE, "OCRFLEET_NICE"),
        ({"OCRFLEET_MODEL": "nothing-such"}, ["start"], ExitCode.USAGE, "nothing-such"),
        ({"OCRFLEET_REDIS_URL": "redis://127.0.0.1:1/0"}, ["cleanup"], ExitCode.BROKER, "127.0.0.1:1"),
        ({"OCRFLEET_REDIS_URL": "redis://127.0.0.1:1/0"}, ["exporter"], ExitCode.BROKER, "127.0.0.1:1"),
    ],
)
def test_what_a_user_can_put_right_is_one_line(
    environment: dict[str, str], variables: dict[str, str], words: list[str], exit_code: ExitCode, said: str
) -> None:
    ended = command(environment | variables, "ocr-worker", *words)
    assert ended.returncode == exit_code
    assert len(ended.stderr.splitlines()) == 1 and said in ended.stderr


def test_redis_that_refuses_is_one_line_and_exit_code_3(environment: dict[str, str], client: object) -> None:
    code = (
        "import redis, worker.ops.doctor\n"
        "def lost(*arguments): raise redis.ConnectionError('it went away')\n"
        "worker.ops.doctor.examine = lost\n"
        "from worker.cli import main; main(['doctor'])"
    )
    ended = run_python(code, environment)
    assert ended.returncode == ExitCode.BROKER
    assert len(ended.stderr.splitlines()) == 1 and "it went away" in ended.stderr


@pytest.mark.parametrize("fault", ["ValueError", "TypeError", "KeyError"])
def test_a_bug_shows_its_traceback_and_exits_70(environment: dict[str, str], client: object, fault: str) -> None:
    code = (
        "import worker.ops.doctor\n"
        f"def wrong(*arguments): raise {fault}('of ours')\n"
        "worker.ops.doctor.examine = wrong\n"
        "from worker.cli import main; main(['doctor'])"
    )
    ended = run_python(code, environment)
    assert ended.returncode == ExitCode.BUG == 70
    assert "bug in ocrfleet" in ended.stderr.splitlines()[0] and "ocr-worker doctor" in ended.stderr.splitlines()[0]
    assert "Traceback" in ended.stderr and f"{fault}: " in ended.stderr
