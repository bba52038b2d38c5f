"""The settings of a run, as its user chose them and as a file in its folder, which may be a stranger's, says."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

_Name = Annotated[str, Meta(pattern=r"^[^\0]*$")]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FitOptions:
    """What the user chose.

    Attributes:
        data: ICDAR-style folder.
        init: weights file, 'imagenet' for a trunk trained on ImageNet (by torchvision), or '' for random weights.
        backbone: name; '' for that of ``init``, or resnet18.
        epochs, batch_size, lr, crop: as in the paper's recipe.
        device: 'cpu' or 'cuda'.
        amp: half-precision autocast.
        distill: teacher's ONNX file or ''.
        synthetic: rendered pages to mix in.
        limit_side: longest side at validation; training crops are scaled around it.
        seed: of every random choice.
        width: of the feature pyramid; None for the backbone's own, decided by ``init`` if that is a file.
        keep_norms: BatchNorm keeps the statistics of ``init``: they come from thousands of pages, a batch's from two
            crops. To be turned off where they no longer hold (a pruned network).
    """

    data: _Name
    init: _Name = ""
    backbone: _Name = ""
    epochs: Annotated[int, Meta(ge=0)] = 5
    batch_size: Annotated[int, Meta(ge=1, le=256)] = 8
    lr: Annotated[float, Meta(gt=0, le=1)] = 0.007
    crop: Annotated[int, Meta(ge=64, le=2048, multiple_of=32)] = 640
    device: Annotated[str, Meta(pattern="^(cpu|cuda)$")] = "cpu"
    amp: bool = False
    distill: _Name = ""
    synthetic: Annotated[int, Meta(ge=0)] = 0
    limit_side: Annotated[int, Meta(ge=32, le=8192)] = 1280
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] = 0
    width: Annotated[int, Meta(ge=8, le=512, multiple_of=4)] | None = None
    keep_norms: bool = True


def as_type(values: Any, kind: type[T]) -> T:
    """A dataclass of what JSON said, with each value of its field's type and within its bounds.

    Raises:
        ValueError: it is not, or says more than the dataclass has; one line.
    """
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if isinstance(values, dict) and (unknown := sorted(values.keys() - names)):
        raise ValueError(f"{unknown[0]!r} is no setting")
    try:
        found = msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    for name in names:
        if isinstance(value := getattr(found, name), float) and not math.isfinite(value):  # NaN is beyond no bound
            raise ValueError(f"{name} is {value}")
    return found
