"""Other people's state dicts of a ResNet-18 DBNet -> that of `detector.network.foreign.PlainResNet18DBNet`.

What the three published layouts share and where they differ (read from their sources):

| | ModelScope and MhLiao/DB | MMOCR |
|---|---|---|
| keys begin with | `model.module.` (MhLiao, ModelScope while training) or nothing | nothing |
| trunk | `backbone.` + torchvision's names; MhLiao also `fc`, `smooth`, never used | the same |
| pyramid, strides 4 to 32 | `decoder.in2` to `in5` | `neck.lateral_convs.0.conv` to `.3.conv` |
| its outputs | `decoder.out2`, `out3.0` to `out5.0` | `neck.smooth_convs.0.conv` to `.3.conv` |
| concatenated | coarsest first | finest first, like ours |
| heads | `decoder.binarize`, `decoder.thresh` | `det_head.binarize`, `.threshold`; before 1.0 `bbox_head` |
| image | BGR, minus a mean, / 255 | RGB, ImageNet's mean and std |

Everything else is the same function: no bias but in the transposed convolutions, nearest upsampling. A bias in the
pyramid or in front of a head (an option of all three) is taken over exactly. The means of the first column are
written down as RGB in their sources but subtracted from BGR; the weights are used to that.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from detector.errors import DetectorError, ModelError
from detector.models import IMAGENET_MEAN, IMAGENET_STD
from detector.network.foreign import PlainResNet18DBNet

Triple = tuple[float, float, float]


class LayoutError(DetectorError):
    """A state dict that is none of the known ones; one line with the keys and the remedy, without the file's name."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A published key layout and what belongs to its weights.

    Attributes:
        name: for people.
        rules: (pattern of their key without prefix, our key) pairs; the first that matches holds.
        unused: pattern of keys that take no part in the map.
        coarsest_first: the pyramid's levels are concatenated from stride 32 to 4.
        bgr: the channel order of their images.
        mean, std: of values in [0, 1], in their channel order.
        binarize, box_threshold, unclip_ratio: of their post-processing, see `detector.thresholds.Thresholds`.
    """

    name: str
    rules: tuple[tuple[str, str], ...]
    unused: str
    coarsest_first: bool
    bgr: bool
    mean: Triple
    std: Triple = (1.0, 1.0, 1.0)
    binarize: float = 0.3
    box_threshold: float = 0.5
    unclip_ratio: float = 1.5


_TRUNK = (r"backbone\.((?:conv1|bn1|layer[1-4]\.[01]\.(?:conv[12]|bn[12]|downsample\.[01]))\.\w+)", r"\1")
_DECODER = (
    _TRUNK,
    *((rf"decoder\.in{level + 2}\.(weight|bias)", rf"fpn.lat.{level}.\1") for level in range(4)),
    (r"decoder\.out2\.(weight|bias)", r"fpn.out.0.\1"),
    *((rf"decoder\.out{level + 2}\.0\.(weight|bias)", rf"fpn.out.{level}.\1") for level in (1, 2, 3)),
    (r"decoder\.binarize\.([01346]\.\w+)", r"head.\1"),
    (r"decoder\.thresh\.([01346]\.\w+)", r"thr.\1"),
)
_MMOCR = (
    _TRUNK,
    (r"neck\.lateral_convs\.([0-3])\.conv\.(weight|bias)", r"fpn.lat.\1.\2"),
    (r"neck\.smooth_convs\.([0-3])\.conv\.(weight|bias)", r"fpn.out.\1.\2"),
    (r"(?:det|bbox)_head\.binarize\.([01346]\.\w+)", r"head.\1"),
    (r"(?:det|bbox)_head\.threshold\.([01346]\.\w+)", r"thr.\1"),
)


def _by_255(first: float, second: float, third: float) -> Triple:
    return first / 255, second / 255, third / 255


# Means and thresholds: modelscope/models/cv/ocr_detection/{preprocessor,utils}.py; demo.py and
# seg_detector_representer.py of MhLiao/DB; configs/textdet/dbnet and db_postprocessor.py of MMOCR.
MODELSCOPE = Layout(
    "ModelScope DBNet (cv_resnet18_ocr-detection-db-line-level)",
    _DECODER,
    r"(?!)",
    coarsest_first=True,
    bgr=True,
    mean=_by_255(123.68, 116.78, 103.94),
    box_threshold=0.3,
)
MHLIAO = Layout(
    "MhLiao/DB",
    _DECODER,
    r"backbone\.(fc|smooth)\.(weight|bias)",
    coarsest_first=True,
    bgr=True,
    mean=_by_255(122.67891434, 116.66876762, 104.00698793),
)
MMOCR = Layout(
    "MMOCR dbnet_resnet18_fpnc",
    _MMOCR,
    r"data_preprocessor\.(mean|std)",
    coarsest_first=False,
    bgr=False,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    box_threshold=0.3,
)

_DEFORMABLE = re.compile(r"offset|deform|dcn")
_DEEPER = re.compile(r"backbone\.layer\d\.(\d+\.(conv3|bn3)\.|[2-9])")
_STEM = "backbone.conv1.weight"


def convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Layout, bool]:
    """Their state dict as ours.

    Args:
        state: a flat state dict, any of the layouts above.

    Returns:
        Weights for `PlainResNet18DBNet` (float32, for RGB normalised with ImageNet's mean and std), the layout, and
        whether the threshold branch was there (else it is freshly initialised: training needs one, the map does not).

    Raises:
        LayoutError: deformable convolutions, another backbone, or keys that are unknown, missing or of another shape.
    """
    if keys := [key for key in state if _DEFORMABLE.search(key)]:
        raise LayoutError(
            f"has deformable convolutions ({_some(keys)}), which no runtime here can compute; take the checkpoint of "
            "the same model without them, or fine-tune dbnet-resnet18 on the same images instead"
        )
    if keys := [key for key in state if _DEEPER.search(key)]:
        raise LayoutError(f"is deeper than ResNet-18 ({_some(keys)}); import it as ONNX, exported by its own project")
    layout, prefix = _recognise(state)
    weights, unknown = _rename(state, layout, prefix)
    if unknown:
        raise LayoutError(
            f"looks like {layout.name}, with {_count(unknown, 'key')} unknown ({_some(unknown)}); "
            "import it as ONNX, exported by its own project"
        )
    thresholds = any(key.startswith("thr.") for key in weights)
    return _complete(weights, layout), layout, thresholds


def _recognise(state: Mapping[str, Tensor]) -> tuple[Layout, str]:
    """The layout, and what its keys begin with."""
    stem = next((key for key in state if key.endswith(_STEM)), None)
    if stem is not None:
        prefix = stem.removesuffix(_STEM)
        if f"{prefix}neck.lateral_convs.0.conv.weight" in state:
            return MMOCR, prefix
        if f"{prefix}decoder.in2.weight" in state:
            # Only MhLiao's trunk carries the classifier of ImageNet along.
            return (MHLIAO if f"{prefix}backbone.fc.weight" in state else MODELSCOPE), prefix
    raise LayoutError(
        f"has none of the known key layouts: {_count(list(state), 'key')} ({_some(list(state))}); "
        f"known are {MODELSCOPE.name}, {MHLIAO.name} and {MMOCR.name}; or import it as ONNX"
    )


def _rename(state: Mapping[str, Tensor], layout: Layout, prefix: str) -> tuple[dict[str, Tensor], list[str]]:
    """Their tensors under our names, as float32, and the keys that have none."""
    weights, unknown = dict[str, Tensor](), list[str]()
    for key, value in state.items():
        name = key.removeprefix(prefix)
        for pattern, ours in layout.rules:
            if match := re.fullmatch(pattern, name):
                weights[match.expand(ours)] = value.float() if value.is_floating_point() else value
                break
        else:
            if not re.fullmatch(layout.unused, name):
                unknown.append(key)
    return weights, unknown


def _complete(weights: dict[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Every weight of our network: theirs in our order, with what they leave out."""
    lateral = weights.get("fpn.lat.0.weight")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            fresh = PlainResNet18DBNet(256 if lateral is None or not lateral.ndim else len(lateral)).state_dict()
        except ModelError as error:
            raise LayoutError(f"looks like {layout.name}, but {error}") from None
    weights = _without_optional_biases(weights)
    optional = re.compile(r"shift|fpn\..*\.bias|.*num_batches_tracked")  # the last: torch before 0.4.1 had none
    branch = any(key.startswith("thr.") for key in weights)
    for key, value in fresh.items():
        if optional.fullmatch(key):
            weights.setdefault(key, torch.zeros_like(value))
        elif key.startswith("thr.") and not branch:
            weights[key] = value
    missing = [key for key in fresh if key not in weights]
    misshapen = [key for key in weights if key in fresh and weights[key].shape != fresh[key].shape]
    surplus = [key for key in weights if key not in fresh]
    for keys, what in ((missing, "missing"), (misshapen, "of another shape"), (surplus, "too many")):
        if keys:
            raise LayoutError(
                f"looks like {layout.name}, with {_count(keys, 'weight')} {what} (in our names: {_some(keys)}); "
                "is the file whole, and the model a DBNet on ResNet-18?"
            )
    return _in_our_order(weights, layout)


def _without_optional_biases(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A bias in front of a BatchNorm moves its mean: the same function without the bias."""
    weights = dict(weights)
    for head in ("head", "thr"):
        bias, mean = weights.get(f"{head}.0.bias"), weights.get(f"{head}.1.running_mean")
        if bias is not None and mean is not None and bias.shape == mean.shape:
            weights[f"{head}.1.running_mean"] = mean - weights.pop(f"{head}.0.bias")
    return weights


def _in_our_order(weights: dict[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Channels RGB, pyramid levels finest first, input normalised as ImageNet's."""
    weights = dict(weights)
    if layout.coarsest_first:
        for key in ("head.0.weight", "thr.0.weight"):
            weights[key] = torch.cat(weights[key].chunk(4, dim=1)[::-1], dim=1)
    order = [2, 1, 0] if layout.bgr else [0, 1, 2]
    # float64: the rounding of three constants is no business of the map's last digits
    mean = torch.tensor(layout.mean, dtype=torch.float64)[order]
    std = torch.tensor(layout.std, dtype=torch.float64)[order]
    our_mean, our_std = (torch.tensor(value, dtype=torch.float64) for value in (IMAGENET_MEAN, IMAGENET_STD))
    # theirs = (pixel - mean) / std = (ours + shift) * our_std / std
    scale = (our_std / std).view(1, 3, 1, 1)
    weights["conv1.weight"] = (weights["conv1.weight"][:, order].double() * scale).float()
    weights["shift"] = ((our_mean - mean) / our_std).float().view(1, 3, 1, 1)
    return {key: value.contiguous() for key, value in weights.items()}


def _count(keys: list[str], noun: str) -> str:
    return f"{len(keys)} {noun}{'' if len(keys) == 1 else 's'}"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
