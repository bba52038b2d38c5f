"""A mistyped OCRFLEET_* name is said, with the nearest one; and every name that the sources read is known."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from detector.cli import environment as ours
from detector.cli.environment import PREFIX, SETTINGS, unknown_names
from tests.processes import command
from tests.tools import missing

ROOT = Path(__file__).parents[3]


def test_unknown_names() -> None:
    assert unknown_names(["HOME", "OCRFLEET_REDIS_URL", "OCRFLEET_TAG", "OCRFLEET_WEB_TOKEN"]) == ""
    said = unknown_names(["OCRFLEET_REDIS", "OCRFLEET_MEMORY_LIMIT", "OCRFLEET_XYZZY"])
    assert said == (
        "no such setting: OCRFLEET_MEMORY_LIMIT (did you mean OCRFLEET_MEMORY_LIMIT_MB?), "
        "OCRFLEET_REDIS (did you mean OCRFLEET_REDIS_URL?), OCRFLEET_XYZZY"
    )


@pytest.mark.parametrize("program", ["ocr-producer", "ocr-worker", "ocr-detector"])
def test_every_program_says_it_once(environment: dict[str, str], program: str) -> None:
    wrong = environment | {"OCRFLEET_PROFIL": "low"}
    told = command(wrong, program, "nonsense")
    assert told.returncode == 2
    assert told.stderr.splitlines()[0] == ("warning: no such setting: OCRFLEET_PROFIL (did you mean OCRFLEET_PROFILE?)")
    assert told.stderr.count("OCRFLEET_PROFIL ") == 1 and "OCRFLEET_PROFIL" not in command(environment, program).stderr


def test_every_name_in_the_sources_is_known() -> None:
    """The settings' reader adds the prefix itself: those names are its words in capitals."""
    names = set()
    for package in ("detector", "worker", "producer"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            names |= set(re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", text))
            if path.name == "settings.py":
                names |= {PREFIX + name for name in re.findall(r'_number\(environ, "([A-Z_]+)"', text)}
                names |= {PREFIX + name for name in re.findall(r'PREFIX \+ "([A-Z_]+)"', text)}
    assert unknown_names(names) == ""
    assert {PREFIX + name for name in SETTINGS} - names == set(), "known, but nothing reads them"


def test_a_locale_that_is_not_utf8(tmp_path: Path) -> None:
    """Before: names of UTF-8 were none in it; pages failed as not found, and drawing one ended in a traceback."""
    program = """
import sys, subprocess
from pathlib import Path
import click
from detector.cli.program import Program

@click.command()
@click.argument("name")
def show(name):
    child = [sys.executable, "-c", "import sys; print(sys.getfilesystemencoding())"]
    said = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    print(sys.getfilesystemencoding(), said.strip(), ascii(name), Path(name).read_text())

sys.modules["commands"] = sys.modules["__main__"]
Program("p", commands={"show": ("commands:show", "")})()
"""
    ascii_only = {**os.environ, "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for name in ("茶 é.jpg".encode(), b"caf\xe9\n.jpg"):
        (tmp_path / os.fsdecode(name)).write_text("here")
        words = [sys.executable.encode(), b"-c", program.encode(), b"show", name]
        said = subprocess.run(words, env=ascii_only, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert said.strip() == f"utf-8 utf-8 {os.fsdecode(name)!a} here"


@pytest.mark.parametrize(("given", "made"), [(0o000, 0o775), (0o002, 0o775), (0o022, 0o755), (0o077, 0o700)])
def test_what_a_program_makes_is_not_for_everybody_to_write(tmp_path: Path, given: int, made: int) -> None:
    """Before: with umask 000, as some containers and cron jobs have it, the folder of models was 0777."""
    program = """
import sys
from pathlib import Path
import click
from detector.cli.program import Program

@click.command()
@click.argument("folder", type=Path)
def make(folder):
    (folder / "inner").mkdir(mode=0o700, parents=True)

sys.modules["commands"] = sys.modules["__main__"]
Program("p", commands={"make": ("commands:make", "")})()
"""
    words = [sys.executable, "-c", program, "make", str(tmp_path / "cache")]
    subprocess.run(words, umask=given, check=True)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == made


@pytest.mark.parametrize(("mode", "says"), [(0o700, False), (0o1777, False), (0o777, True), (0o2775, True)])
def test_temporary_files_lie_where_others_rename_nothing(tmp_path: Path, mode: int, says: bool) -> None:
    """Before: one of a group took the place of the server of `run`, or had a folder of the user's removed."""
    if os.geteuid() != 0:
        missing("needs root, to have a group of others")
    folder = tmp_path / "team"
    folder.mkdir()
    os.chown(folder, 0, 12345)
    folder.chmod(mode)
    code = "import tempfile; from detector.cli.main import cli; cli(['--version'], standalone_mode=False)"
    told = subprocess.run(
        [sys.executable, "-c", f"{code}; print(tempfile.gettempdir())"],
        env={**os.environ, "TMPDIR": str(tmp_path / "none"), "TMP": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.splitlines()[-1] == ("/var/tmp" if says else str(folder))
    assert ("temporary files go to /var/tmp, as others can write into" in told.stderr) is says


def test_others_filling_the_temporary_disks_is_no_way_into_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: `tempfile` went on to it, also a group's: one of it took the place of the server of `run`."""
    full, team, own = "/proc", tmp_path / "team", tmp_path / "own"  # nobody can make files in the first
    for folder, mode in ((team, 0o2777), (own, 0o700)):
        folder.mkdir()
        folder.chmod(mode)
    monkeypatch.chdir(team)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [full, str(team)])
    for named, systems, taken, says in (
        ({}, (full,), full, ""),
        ({"TMPDIR": str(team)}, (full, str(own)), str(own), f"go to {own}, as others can write into {team}"),
        ({}, (str(team), str(own)), str(own), f"go to {own}, as others can write into {team}"),
        ({}, (str(team),), str(team), ""),  # a pod's own
    ):
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setattr(ours, "SYSTEMS_TEMPORARY", systems, raising=False)
        told = ours.leave_others_temporary_folder(given := dict(named))
        assert tempfile.gettempdir() == given["TMPDIR"] == taken and says in told and bool(says) is bool(told)
    monkeypatch.chdir(own)  # before: among the pictures of who called it, also in a pod, whose /tmp is its own
    for systems in ((full,), (str(team),)):
        monkeypatch.setattr(ours, "SYSTEMS_TEMPORARY", systems)
        ours.leave_others_temporary_folder(given := {})
        assert given["TMPDIR"] == systems[0]
