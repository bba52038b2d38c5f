"""A mistyped OCRFLEET_* name is said, with the nearest one; and every name that the sources read is known."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detector.cli.environment import PREFIX, SETTINGS, unknown_names
from tests.processes import command

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
