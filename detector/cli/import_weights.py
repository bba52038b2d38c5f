"""`ocr-detector import-weights`: takes over checkpoints and ONNX files that people already have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from detector.cli.options import NewFile
from detector.cli.say import say, tell
from detector.convert.interrupts import load_library
from detector.errors import show
from detector.exit_codes import ExitCode

if TYPE_CHECKING:
    from detector.convert.import_onnx import Convention

FAMILIES = ("ppocr", "db", "imagenet")


@click.command("import-weights")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=NewFile(), help="NAME.safetensors or NAME.onnx.  [default: FILE's name, here]")
@click.option("--name", default="", help="For the card.  [default: NAME]")
@click.option(
    "--like",
    type=click.Choice(FAMILIES),
    help="Of an ONNX file: whose pixels it wants, if its names do not tell.",
)
@click.option("--channels", type=click.Choice(["rgb", "bgr"]), help="Of an ONNX file, instead of --like's.")
@click.option("--mean", type=float, nargs=3, help="Of values in [0, 1], in that channel order, instead of --like's.")
@click.option("--std", type=click.FloatRange(1e-6), nargs=3, help="Likewise.")
def import_weights(
    file: Path,
    output: Path | None,
    name: str,
    like: str | None,
    channels: str | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
) -> int:
    """Takes over weights of other projects, recognised by their keys.

    \b
    FILE is one of
      ModelScope   pytorch_model.pt of cv_resnet18_ocr-detection-db-line-level_damo, also fine-tuned
      MhLiao/DB    ResNet-18 without deformable convolutions
      MMOCR        dbnet_resnet18_fpnc, 0.x and 1.x
      ONNX         any network of the DB family: PP-OCR's detectors, OpenCV's DB_TD500 and DB_IC15

    \b
    Examples:
      ocr-detector import-weights pytorch_model.pt -o mine.safetensors
      ocr-detector detect photo.jpg --runtime torch --model mine.safetensors
      ocr-detector train --data receipts --init mine.safetensors -o run
      ocr-detector import-weights td500_resnet18.pth -o td500.fp32.onnx
      ocr-detector import-weights PP-OCRv6_det_small.onnx -o ppocr.fp32.onnx
      ocr-detector import-weights other.onnx -o other.fp32.onnx --like db

    The card NAME.json beside the result holds mean, std and thresholds; edit it to try others.
    """
    from detector.convert.import_weights import import_checkpoint, import_onnx

    if not file.is_file():
        say(f"{show(file)}: no such file; give a checkpoint (.pt, .pth, .safetensors) or an .onnx file")
        return ExitCode.NOTHING
    is_onnx = file.suffix.lower() == ".onnx"
    target = output or Path(file.stem + (".onnx" if is_onnx else ".safetensors"))
    if target.suffix not in (".safetensors", ".onnx"):
        raise click.UsageError(f"-o {target}: give a name that ends in .safetensors or .onnx")
    if is_onnx:
        imported = import_onnx(file, target, name, _convention(like, channels, mean, std))
    elif like or channels or mean or std:
        raise click.UsageError(
            "--like, --channels, --mean and --std are for ONNX files; checkpoints tell by their keys"
        )
    else:
        load_library("torch")
        imported = import_checkpoint(file, target, name)
    for line in imported.lines:
        tell(line)
    return ExitCode.OK


def _convention(
    like: str | None,
    channels: str | None,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
) -> Convention | None:
    """What the options say about an ONNX file's pixels; None if they say nothing."""
    from detector.convert.import_onnx import CONVENTIONS, Convention

    if like is None:
        if not (channels or mean or std):
            return None
        if not (channels and mean and std):
            raise click.UsageError("without --like, give all of --channels, --mean and --std")
        return Convention("as given", channels == "bgr", mean, std)
    chosen = CONVENTIONS[like]
    bgr = chosen.bgr if channels is None else channels == "bgr"
    return replace(chosen, bgr=bgr, mean=mean or chosen.mean, std=std or chosen.std)
