"""What every ONNX runtime asks of a model's shape, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detector.errors import ModelError


def check_free_sides(model: Path, sides: Sequence[object]) -> None:
    """Refuses a model that takes one size alone: pages have all sizes.

    Args:
        model: for the message.
        sides: height and width of its input as the library tells them: an int where it is fixed, else a name or None.

    Raises:
        ModelError: height or width is fixed.
    """
    if any(isinstance(side, int) for side in sides):
        size = "x".join(str(side) if isinstance(side, int) else "free" for side in sides)
        raise ModelError(
            f"{model}: has a fixed input size ({size}), pages have all sizes; "
            "export it again with: ocr-detector export --dynamic"
        )
