"""How the packages are built: what loads what, which folder may import which, how large files and folders are."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Set
from functools import cache
from pathlib import Path

import pytest

from producer.sources.remote import scan_everything
from producer.sources.scan import scan, scan_file

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
        "import producer.cli, producer.local.job, producer.job.loop, producer.output.summary",
        "import producer.output.formats, producer.output.report",
        "import worker.app, worker.broker.queue, worker.ledger.reconcile",
        "import detector, detector.images, detector.record, detector.atomic, detector.machine, detector.cli",
    ],
)
def test_light_modules_load_nothing_heavy(statement: str) -> None:
    assert loaded_by(statement) & HEAVY == set()


def test_a_command_without_a_pdf_does_not_load_what_counts_its_pages() -> None:
    """Before: a quarter of what each command of the producer imports."""
    assert loaded_by("import producer.cli.enqueue, producer.fleet_job") & {"pypdf"} == set()


@pytest.mark.parametrize("program", ["worker", "beat"])
def test_a_worker_does_not_load_the_other_commands_of_celery(program: str) -> None:
    """Before: 13 MB of each process of a worker, for Flower, its web server, and a prompt."""
    run = f"sys.argv[1:], sys.stdout = ['{program}', '--help'], sys.stderr\nfrom worker.celery_main import main"
    loaded = loaded_by(f"{run}\ntry: main()\nexcept SystemExit: sys.stdout = sys.__stdout__\nimport sys")
    assert {"celery", "kombu"} <= loaded and loaded & {"flower", "tornado", "click_repl"} == set()


def test_the_page_needs_no_image_library() -> None:
    """`ocrfleet[web]` installs none. (pypdf takes Pillow where it finds it, so it is hidden.)"""
    hidden = sorted(HEAVY | {"PIL", "pyvips", "pypdfium2", "psutil"})
    hide = f"sys.modules |= dict.fromkeys({hidden})"
    assert "uvicorn" in loaded_by(f"{hide}; import producer.web.server, producer.web.app")


def test_the_default_worker_never_imports_torch() -> None:
    loaded = loaded_by("import worker.tasks; from worker.tasks import _runner; _runner().detector()")
    assert {"cv2", "onnxruntime"} <= loaded
    assert loaded & {"torch", "torchvision"} == set()


@cache
def imports_of(source: str) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return frozenset(names)


def top(names: Set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("detector", {"celery", "kombu", "redis", "worker", "producer"}),
        ("worker", {"producer", "torch", "torchvision"}),
        ("producer", HEAVY),
    ],
)
def test_no_file_names_what_its_package_must_not_know(package: str, forbidden: set[str]) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    guilty = {
        str(path.relative_to(ROOT)): bad for path in files if (bad := top(imports_of(path.read_text())) & forbidden)
    }
    assert guilty == {}


def test_torch_and_click_stay_in_their_folders() -> None:
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
    only_to_catch = "from pickle import UnpicklingError  # nosec B403: only to catch it\n"
    for package in ("detector", "worker", "producer"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text().replace(only_to_catch, "")
            assert not top(imports_of(text)) & {"pickle", "shelve", "marshal", "dill", "joblib"}, path
            assert "weights_only=False" not in text and "shell=True" not in text, path
            # Its end removes what has its name by then: in the system's, which is sticky, nobody else renames it.
            beside = re.search(r"(TemporaryDirectory|mkdtemp)\([^()]*dir=[a-z_]+\.", text)
            assert not beside or path.name == "openvino.py", path
            # Each torch.load says weights_only; torch.hub and the weights that torchvision fetches leave it out.
            loads = text.count("torch.load(") - len(re.findall(r"torch\.load\(.*weights_only=True\)", text))
            assert not loads and not re.search(
                r"hub\.load|dict_from_url|get_state_dict|torchvision\(\)\.models\.\w+\([^)]", text
            ), path


SAYS_BY_ITSELF = {"detector/cli/say.py", "producer/output/terminal.py"}
"""Where text goes to a terminal, and is made printable: the second has a console of its own (`_stderr`)."""
PIPES = {"detector/reading/crop_process.py"}
"""Whose stdout is read by a program of ours."""


def says_unseen(source: str) -> list[str]:
    """Calls that put text on a terminal as it comes."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [(ast.unparse(call.func), "".join(map(ast.unparse, call.args[:1]))) for call in calls]
    return [name for name, text in named if re.fullmatch(SAYING, name) and not text.startswith("printable_lines(")]


SAYING = r"p?print|.*\bs?echo(_via_pager)?|.*console\.(print|log)|traceback\.print_\w+|sys\.std(out|err)\.write"


def test_all_that_is_said_is_printable() -> None:
    """Before: three lines of `collect` were obeyed by the operator's terminal."""
    assert len(says_unseen("click.echo(x)\nprint(x)\nself._console.print(x)\nsys.stderr.write(x)\nsay(x)")) == 4
    guilty = {
        name: calls
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (name := str(path.relative_to(ROOT))) not in SAYS_BY_ITSELF | PIPES
        and (calls := says_unseen(path.read_text()))
    }
    assert guilty == {}


def test_strangers_archives_are_listed_within_limits() -> None:
    """A scan has no default for who opens archives and PDFs; only the processes with limits open them themselves."""
    within = ("producer/archive_process/", "producer/sources/")
    guilty = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "producer").rglob("*.py")
        if not str(path.relative_to(ROOT)).startswith(within)
        and re.search(r"sources\.archive import .*\bmembers\b|import .*\bReaders\(|[^.]\bReaders\(", path.read_text())
    ]
    assert guilty == []
    for scanning in (scan, scan_file, scan_everything):
        readers = inspect.signature(scanning).parameters["readers"]
        assert readers.default is readers.empty, scanning


PACKAGES = ("detector", "worker", "producer")
LAYERS = (
    ("detector.exit_codes",),
    ("detector.http",),
    ("detector.errors", "detector.geometry", "detector.thresholds", "detector.cache", "detector.atomic"),
    ("detector.public",),
    ("detector.machine", "detector.memory", "detector.models"),
    ("detector.images", "detector.profile", "detector.postprocess", "detector.record"),
    ("detector.preprocess", "detector.tiling", "detector.overlay", "detector.shrink", "detector.network"),
    ("detector.runtimes",),
    ("detector.reading",),
    ("detector.predictor",),
    ("detector.evaluation",),
    ("detector.convert",),
    ("detector.training",),
    ("detector.cli",),
    ("worker.errors", "worker.page_options", "worker.redis_keys"),
    ("worker.redis_url", "worker.cron", "worker.storage", "worker.messages"),
    ("worker.process", "worker.process_identity", "worker.oom", "worker.settings", "worker.log_format"),
    ("worker.app",),
    ("worker.broker",),
    ("worker.ledger",),
    ("worker.lease", "worker.ops", "worker.detection", "worker.admission"),
    ("worker.celery_ext",),
    ("worker.tasks", "worker.cli", "worker.celery_main"),
    ("producer.errors", "producer.answer_line", "producer.bounds", "producer.held_folder"),
    ("producer.folder_tree",),
    ("producer.no_links",),
    ("producer.user_secret", "producer.new_folder", "producer.results_there"),
    ("producer.whole_append",),
    ("producer.sources",),
    ("producer.detector_process",),
    ("producer.archive_process",),
    ("producer.job",),
    ("producer.picture_list", "producer.growing", "producer.fleet_request"),
    ("producer.output",),
    ("producer.handover",),
    ("producer.fleet_job", "producer.fleet_results", "producer.local"),
    ("producer.web", "producer.watch_folder"),
    ("producer.cli",),
)
"""From the ground up. A folder (or a module beside the folders) imports those of the rows below it and nothing else of
ours; those of one row know nothing of each other. Who adds one says here where it stands."""

UNLAYERED = {"detector.cli.program", "detector.cli.environment", "detector.cli.say", "detector.cli.streams"}
"""The command table of all three programs, and how they speak: they import only what stands on nothing."""

MOST_FILES = 18
MOST_LINES = 350


def our_modules() -> dict[str, Path]:
    """Every module of the product by its name."""
    modules = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def run_time_imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of ours that a file imports anywhere, but for those under `if TYPE_CHECKING:`."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & modules.keys() or {node.module}
        waiting += ast.iter_child_nodes(node)
    return found & modules.keys()


@cache
def import_graph() -> dict[str, set[str]]:
    modules = our_modules()
    return {name: run_time_imports(path, modules) - {name} for name, path in modules.items()}


def test_imports_go_downward_only() -> None:
    rows = {name: row for row, names in enumerate(LAYERS) for name in names}
    graph, wrong = import_graph(), []

    def place(module: str) -> str:
        return ".".join(module.split(".")[:2])

    for module, imported in graph.items():
        if module in PACKAGES:  # the packages' own __init__.py import nothing at run time
            assert not imported, module
            continue
        assert place(module) in rows, f"{module}: say in LAYERS where {place(module)} stands"
        for other in imported - UNLAYERED:
            if place(module) != place(other) and rows[place(module)] <= rows[place(other)]:
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_the_command_table_stands_on_nothing() -> None:
    known = {"detector.exit_codes", "detector.errors", "detector.memory", "detector.cli.environment"}
    known |= {"detector.cli.say", "detector.cli.streams"}
    assert import_graph()["detector.cli.program"] == known
    assert import_graph()["detector.cli.say"] == {"detector.errors"}


def test_no_import_cycle() -> None:
    """Modules whose imports are all known are taken away, again and again; what stays is a cycle, or leads to one."""
    graph = import_graph()
    while leaves := {module for module, imported in graph.items() if not imported & graph.keys()}:
        graph = {module: imported for module, imported in graph.items() if module not in leaves}
    assert not graph


def test_files_and_folders_stay_small() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in our_modules().items()}
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
    folders: dict[Path, int] = {}
    for path in our_modules().values():
        folders[path.parent] = folders.get(path.parent, 0) + 1
    assert {str(folder): count for folder, count in folders.items() if count > MOST_FILES} == {}
