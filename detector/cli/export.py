"""``ocr-detector export``."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.options import NewFile
from detector.cli.say import tell
from detector.cli.train import fine_tunable
from detector.convert.interrupts import load_library
from detector.exit_codes import ExitCode
from detector.models import DEFAULT_MODEL


@click.command()
@click.argument("weights", default=DEFAULT_MODEL)
@click.option("--size", type=int, default=800, show_default=True, help="Height and width.")
@click.option("--height", type=int, help="Instead of --size.")
@click.option("--width", type=int, help="Instead of --size.")
@click.option("--dynamic", is_flag=True, help="Any batch, height and width (what the pipeline uses).")
@click.option("--opset", type=click.IntRange(13, 20), default=17, show_default=True)
@click.option("--fp16", "half", is_flag=True, help="Half-precision weights and arithmetic, float32 input and output.")
@click.option("-o", "--output", type=NewFile(), required=True, help="The .onnx file.")
def export(
    weights: str, size: int, height: int | None, width: int | None, dynamic: bool, opset: int, half: bool, output: Path
) -> int:
    """Writes ONNX, then runs it and compares it with torch. WEIGHTS: a shipped model, .safetensors or best.pt.

    \b
    Examples:
      ocr-detector export run/best.pt -o my.fp32.onnx --dynamic
      ocr-detector export dbnet-resnet18 --height 736 --width 1280 -o wide.onnx
    """
    from detector.convert.export import check_side, export_onnx, pass_card_on

    sides = (check_side(height or size), check_side(width or size))
    path = fine_tunable(weights)
    load_library("torch")  # seconds: what can be refused was
    from detector.network.build import load_network

    network = load_network(path)
    parities = export_onnx(network, output, sides, dynamic=dynamic, opset=opset, half=half)
    card = pass_card_on(path, output)
    for item in parities:
        tell(f"{item.runtime:>12} {item.size[0]}x{item.size[1]}: largest difference {item.difference:.1e}")
    tell(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {'dynamic' if dynamic else f'{sides[0]}x{sides[1]}'}"
        + (f", its thresholds in {card.name}" if card else "")
    )
    return ExitCode.OK
