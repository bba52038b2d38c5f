"""What the pages say exists: links, commands with their options, files, tests. Needs no server, takes no second."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
SKIPPED = (".venv", "node_modules", "build", "runs", "out", ".pytest_cache", ".hypothesis")
PAGES = sorted(
    page for page in ROOT.rglob("*.md") if not any(part in SKIPPED for part in page.relative_to(ROOT).parts[:-1])
)
PROGRAMS = {
    "ocr-producer": ("producer.cli", "main"),
    "ocr-worker": ("worker.cli", "main"),
    "ocr-detector": ("detector.cli.main", "cli"),
}
LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"')
COMMAND = re.compile(r"\b(ocr-(?:producer|worker|detector)) ([a-z][a-z-]*)([^`\n|;]*)")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]+")
PYTHON_FILE = re.compile(r"`((?:detector|worker|producer|tests|docs|examples)/[\w/]+\.py)`")
TEST_NAME = re.compile(r"`(test_\w+)`")
# Spelt so that this line is not found by a search for the words themselves.
WORDS = re.compile(r"begun[ ]anew|\bbur[y]\b|\bles[t]\b|drawn[ ]by[ ]lot|\bthe[ ]house\b|every[ ]room|DESIGN[ ][0-9]")


def identifier(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """The anchors GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def program(name: str) -> click.Group:
    module, attribute = PROGRAMS[name]
    group = getattr(import_module(module), attribute, None) or import_module(module).main
    assert isinstance(group, click.Group)
    return group


@cache
def options(name: str, command: str) -> frozenset[str] | None:
    """The long options of a command, None where there is no such command."""
    group = program(name)
    found = group.get_command(click.Context(group), command)
    if found is None:
        return None
    given = (parameter for parameter in found.params if isinstance(parameter, click.Option))
    return frozenset({"--help", *(text for option in given for text in (*option.opts, *option.secondary_opts))})


def commands(page: Path) -> Iterator[tuple[str, str, str]]:
    """Program, command and the rest of the line, in code only: prose may say "ocr-producer does"."""
    text = page.read_text()
    for code in (*re.findall(r"```\w*\n(.*?)```", text, flags=re.S), *re.findall(r"`([^`\n]+)`", text)):
        for name, command, rest in COMMAND.findall(code):
            yield name, command, rest.partition(" #")[0].partition(" && ")[0].partition("  ")[0]


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_relative_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in (first or second for first, second in LINK.findall(re.sub(r"```.*?```", "", page.read_text()))):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_commands_and_their_options_exist(page: Path) -> None:
    wrong = []
    for name, command, rest in commands(page):
        known = options(name, command)
        if known is None:
            wrong.append(f"{name} {command}")
        else:
            wrong += [f"{name} {command} {option}" for option in OPTION.findall(rest) if option not in known]
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_files_and_tests_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    assert [name for name in PYTHON_FILE.findall(text) if not (ROOT / name).is_file()] == []
    assert set(TEST_NAME.findall(text)) <= names_of_tests()


@cache
def names_of_tests() -> frozenset[str]:
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= {file.stem, *re.findall(r"^def (test_\w+)", file.read_text(), flags=re.M)}
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_plain_words(page: Path) -> None:
    assert WORDS.findall(page.read_text()) == []


def test_plain_words_in_code() -> None:
    found = [
        file.name
        for folder in ("detector", "producer", "worker", "deploy", "tests")
        for file in (ROOT / folder).rglob("*.py")
        if file != Path(__file__) and WORDS.search(file.read_text())
    ]
    assert found == []


@pytest.mark.parametrize("page", PAGES, ids=identifier)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"(?:`|\$ )make ([a-z]+)", page.read_text())) <= targets


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 200
