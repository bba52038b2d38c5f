"""The import rules of the house, checked on what Python really loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "cv2", "onnxruntime", "openvino", "numpy"}


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh interpreter after a statement."""
    code = f"import sys; {statement}; print(' '.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(output.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import producer.cli, producer.local.job, producer.job.loop, producer.local.summary",
        "import producer.output.formats, producer.output.report",
        "import worker.app, worker.broker.queue, worker.ledger.reconcile",
        "import detector",
    ],
)
def test_light_modules_load_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_the_default_worker_never_imports_torch() -> None:
    loaded = loaded_by("import worker.tasks; from worker.tasks import _runner; _runner().detector()")
    assert {"cv2", "onnxruntime"} <= loaded
    assert loaded & {"torch", "torchvision"} == set()


def imports_of(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return names


def top(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("detector", {"celery", "kombu", "redis", "worker", "producer"}),
        ("worker", {"producer", "torch", "torchvision"}),
        ("producer", HEAVY),
    ],
)
def test_no_file_names_what_its_floor_must_not_know(package: str, forbidden: set[str]) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    guilty = {
        str(path.relative_to(ROOT)): bad for path in files if (bad := top(imports_of(path.read_text())) & forbidden)
    }
    assert guilty == {}


def test_torch_and_click_stay_in_their_rooms() -> None:
    guilty = []
    for path in (ROOT / "detector").rglob("*.py"):
        parts = path.relative_to(ROOT / "detector").parts
        names = top(imports_of(path.read_text()))
        if "click" in names and parts[0] != "cli":
            guilty.append(f"{path.name} imports click")
        if "torch" in names and parts[0] not in ("network", "training") and parts != ("runtimes", "torch.py"):
            body = ast.parse(path.read_text()).body
            outer = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
            if "torch" in top(outer):
                guilty.append(f"{path.name} imports torch at its top")
    assert guilty == []


def test_nothing_unsafe() -> None:
    """JSON only: no pickle, no torch.load of code, no shell. (torch names pickle's error when it refuses a file.)"""
    only_to_catch = "from pickle import UnpicklingError\n"
    for package in ("detector", "worker", "producer"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text().replace(only_to_catch, "")
            assert not top(imports_of(text)) & {"pickle", "shelve", "marshal", "dill", "joblib"}, path
            assert "weights_only=False" not in text and "shell=True" not in text, path
