"""Which folder of producer/ may import which: only downward, so no circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = {"errors": 0, "detector_process": 1, "sources": 2, "job": 3, "output": 4, "local": 5, "fleet_job": 5}
LEVELS |= {"web": 6, "cli": 7}


def imported(file: Path) -> Iterator[str]:
    """Parts of producer/ that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from (name.split(".")[1] for name in names if name.startswith("producer."))


@pytest.mark.parametrize("part", LEVELS)
def test_imports_run_downward(part: str) -> None:
    files = [ROOT / "producer" / f"{part}.py", *(ROOT / "producer" / part).glob("*.py")]
    upward = {
        f"{file.relative_to(ROOT)} imports {other}"
        for file in files
        if file.exists()
        for other in imported(file)
        if other != part and LEVELS[other] >= LEVELS[part]
    }
    assert upward == set()


def test_every_part_has_its_level() -> None:
    folder = ROOT / "producer"
    parts = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert parts - {"__init__"} <= set(LEVELS)


def test_no_file_and_no_folder_is_too_long() -> None:
    for folder in (path.parent for path in (ROOT / "producer").rglob("__init__.py")):
        files = list(folder.glob("*.py"))
        assert len(files) <= 18, folder
        assert [file for file in files if len(file.read_text().splitlines()) > 350] == []
