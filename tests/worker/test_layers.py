"""Inside worker/, imports run downward only: a folder or file may use what stands below it here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

WORKER = Path(__file__).parents[2] / "worker"
# From the bottom up; those of one line do not know each other.
FLOORS = (
    ("errors", "redis_keys", "redis_url", "process", "oom", "cron"),
    ("settings", "messages", "storage"),
    ("app",),
    ("broker",),
    ("ledger",),
    ("lease", "detection", "ops", "admission"),
    ("celery_ext",),
    ("tasks", "cli"),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imported(tree: ast.AST) -> Iterator[str]:
    """Folders and files directly in worker/ that a module imports, also inside its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "worker":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("worker."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("worker."))


def test_every_part_has_its_floor() -> None:
    parts = {path.relative_to(WORKER).parts[0].removesuffix(".py") for path in WORKER.rglob("*.py")}
    assert parts - {"__init__"} <= FLOOR_OF.keys()


def test_no_file_and_no_folder_is_too_long() -> None:
    for folder in {path.parent for path in WORKER.rglob("*.py")}:
        files = list(folder.glob("*.py"))
        assert len(files) <= 18, folder
        assert [file for file in files if len(file.read_text().splitlines()) > 350] == []


def test_imports_run_downward() -> None:
    upward = [
        f"{path.relative_to(WORKER)} imports {name}"
        for path in WORKER.rglob("*.py")
        if (part := path.relative_to(WORKER).parts[0].removesuffix(".py")) != "__init__"
        for name in imported(ast.parse(path.read_text()))
        if name != part and FLOOR_OF[name] >= FLOOR_OF[part]
    ]
    assert upward == []
