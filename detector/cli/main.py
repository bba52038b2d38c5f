"""``ocr-detector``: the program. Each command is in a module of its own, which is imported when it is called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from detector.cli.program import Explained, Program, explain_system
from detector.errors import is_out_of_memory
from detector.exit_codes import ExitCode
from detector.machine import available_mb, read_machine
from detector.memory import limit_memory, raise_oom_score

COMMANDS = {
    "detect": ("detector.cli.detect:detect", "Find text in images: one JSON line per image or page."),
    "evaluate": ("detector.cli.evaluate:evaluate", "Precision, recall and hmean against ground truth."),
    "export": ("detector.cli.export:export", "Write ONNX, run it and compare it with torch."),
    "import-weights": ("detector.cli.import_weights:import_weights", "Take over weights of other projects."),
    "models": ("detector.cli.models:models", "List the models that are there."),
    "prune": ("detector.cli.prune:prune", "Cut the weakest channels of a network and fine-tune the rest."),
    "quantize": ("detector.cli.quantize:quantize", "fp32 ONNX to int8 ONNX, with what it gains and costs."),
    "train": ("detector.cli.train:train", "Fine-tune a detector on your own images."),
    "tune": ("detector.cli.tune:tune", "Time the runtimes on this machine and write down the best."),
}
_EXIT_CODES = (
    "Exit codes: 0 all good; 1 some images failed; 2 usage; 4 nothing to do or input missing; "
    "70 a bug; 130 interrupted."
)
_TORCH_EXTRA = ("torch", "torchvision", "torch_pruning", "safetensors", "onnx", "matplotlib", "pyclipper")


def explain(error: Exception) -> Explained | None:
    """The line and the exit code for what libraries and the system raise; None for a bug."""
    if isinstance(error, ModuleNotFoundError):
        return _missing(error)
    if is_out_of_memory(error):
        return "not enough memory; give smaller sizes (--help names them) or a machine with more", ExitCode.FAILED
    return explain_system(error)


def _missing(error: ModuleNotFoundError) -> Explained | None:
    """One line for a package that is not installed; a module of ours that is not there is a bug."""
    package = (error.name or "").split(".")[0]
    if package == "detector":
        return None
    extra = "torch" if package in _TORCH_EXTRA else {"openvino": "openvino"}.get(package, "worker")
    return f"this needs {package}, which is not installed: pip install 'ocrfleet[{extra}]'", ExitCode.USAGE


@click.group(
    "ocr-detector",  # also where a test runs it, not only as a program
    cls=Program,
    commands=COMMANDS,
    explain=explain,
    epilog=_EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="ocrfleet")
def cli() -> None:
    """Finds where text is in images. No queue, no server: pixels in, boxes out."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The program: runs a command and ends the process with its exit code."""
    if arguments is None:  # a process of its own
        _limit_to_machine()
        cli(prog_name="ocr-detector")
    cli.main(arguments, prog_name="ocr-detector")


def _limit_to_machine() -> None:
    """No model, checkpoint or data of a stranger takes more than is free: it is one line, and no other program's end.

    6 MB of a checkpoint unpack to 6 GB, 300 bytes of ONNX ask for 16. If the kernel must kill all the same, it takes
    this process. With a graphics card there is no limit: its driver maps far more than it uses.
    """
    raise_oom_score()
    if not Path("/dev/nvidiactl").exists():
        limit_memory(available_mb(read_machine()) << 20)
