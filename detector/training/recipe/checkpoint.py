"""A long run in one small file, so that another machine can go on with it from the repository alone.

    python -m detector.training.recipe.checkpoint RUN detector/training/checkpoints/dbnet-resnet18.safetensors

It holds the averaged weights in fp16 and the step they belong to (23 MB for ResNet-18; the trainer's own last.pt, from
which a run goes on exactly, is 190 MB). `line_level --go-on FILE` begins a run with them at that step of the same plan;
the optimizer's moments build up again in a warm-up.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detector.cli.say import say, tell
from detector.errors import DetectorError, ModelError
from detector.network.build import save_half
from detector.network.plain_weights import load_plain

LAST = "last.pt"


def write_checkpoint(run: Path, target: Path) -> int:
    """Writes what RUN/last.pt holds of a run; returns its step.

    Raises:
        ModelError: not a checkpoint of the trainer, with its name.
    """
    content = load_plain(run / LAST)
    if not isinstance(content, dict) or content.get("format") != 1:
        raise ModelError(f"{run / LAST}: not a checkpoint of the trainer")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_half(content["ema"], target, {"step": str(content["step"]), "steps": str(content["config"]["steps"])})
    return int(content["step"])


def checkpoint_step(file: Path) -> int:
    """The step that a checkpoint's weights belong to.

    Raises:
        ModelError: the file is no such checkpoint, with its name.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as content:
            return int((content.metadata() or {})["step"])
    except (SafetensorError, KeyError, ValueError):
        raise ModelError(f"{file}: not a checkpoint of a long run (it names no step); for weights use --init") from None


def main(words: list[str] | None = None) -> int:
    """Command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m detector.training.recipe.checkpoint", description=__doc__.split("\n")[0]
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("target", type=Path, metavar="FILE.safetensors")
    options = parser.parse_args(words)
    try:
        step = write_checkpoint(options.run, options.target)
    except (DetectorError, OSError) as error:
        say(str(error))
        return 2
    tell(f"{options.target}: step {step}, {options.target.stat().st_size / 2**20:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
