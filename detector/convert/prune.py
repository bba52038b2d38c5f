"""A network -> the same network with fewer channels: smaller and faster on every machine, without special kernels.

Structured pruning (Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017): in each group of layers that share
their channels, those with the smallest weights go. The groups (a residual stream with everything that reads it, a
depthwise convolution with its neighbours, the parts of a concatenation) are torch-pruning's dependency graph (Fang et
al., "DepGraph: Towards Any Structural Pruning", CVPR 2023). torch is imported only inside the functions.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from detector.convert.benchmark import Cost, hmean, measure
from detector.convert.quantize import quantize_static
from detector.errors import DetectorError

if TYPE_CHECKING:
    from torch import nn

    from detector.network.dbnet import DBNet

MULTIPLE = 8
"""Channels are kept in eights, the width of AVX2 vectors in fp32 and half a tile of the int8 kernels. Sixteens were
no faster, also on AVX-512."""
MOST = 0.9
SIDE = 640  # pixels: GMAC, time and memory are those of a square input
ROUNDS = 3  # of timing


class PruneError(DetectorError):
    """The network cannot be pruned as asked; one line."""


def kept_channels(channels: int, ratio: float, multiple: int = MULTIPLE) -> int:
    """How many of a layer's channels stay: the multiple nearest to what was asked, never over 10 % less than that.

    The rule of MobileNet (Howard et al., 2017, `make_divisible` of its reference code).

    >>> kept_channels(64, 0.3), kept_channels(128, 0.3), kept_channels(16, 0.3)
    (48, 88, 16)
    """
    wanted = channels * (1 - ratio)
    kept = max(multiple, int(wanted + multiple / 2) // multiple * multiple)
    if kept < 0.9 * wanted:
        kept += multiple
    return min(kept, channels)


def prune_network(network: DBNet, ratio: float, *, multiple: int = MULTIPLE) -> DBNet:
    """A copy of a network with a share of every layer's channels cut out; it needs training afterwards.

    The copy has the same layer names, so its state dict is all that `detector.network.build.network_from_state` (and
    with it training, export and the torch runtime) needs. Left alone are the 16 maps that PixelShuffle turns into
    pixels, and ShuffleNet's block outputs (see `fixed_layers`).

    Args:
        network: of ours; it may have been pruned before.
        ratio: share of the channels to cut, above 0 and at most 0.9; each layer's own share differs a little because
            channels are kept in multiples.
        multiple: of the channels that stay in a layer.

    Raises:
        PruneError: a ratio out of range, or one that would cut nothing.
    """
    import torch
    import torch_pruning
    from torch import nn

    if not 0 < ratio <= MOST:
        raise PruneError(f"ratio {ratio:g} is not possible: above 0 (nothing) and at most {MOST:g}")
    pruned = copy.deepcopy(network).requires_grad_(True).eval()
    with torch.enable_grad():  # the graph is traced through autograd
        graph = torch_pruning.DependencyGraph().build_dependency(
            pruned, torch.zeros(1, 3, 64, 64), forward_fn=lambda model, image: model.logits(image), verbose=False
        )
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    cut = 0
    for group in graph.get_all_groups(fixed_layers(pruned), [nn.Conv2d, nn.ConvTranspose2d]):
        scores = importance(group)
        kept = kept_channels(len(scores), ratio, multiple)
        if kept == len(scores):
            continue
        weakest = scores.argsort()[: len(scores) - kept].tolist()
        root = group[0].dep
        graph.get_pruning_group(root.target.module, root.handler, weakest).prune()
        cut += len(weakest)
    if not cut:
        raise PruneError(f"ratio {ratio:g} cuts nothing here: every layer keeps a multiple of {multiple} channels")
    pruned.width = pruned.fpn.lat[0].out_channels  # type: ignore[assignment]
    return pruned.train(network.training)


def fixed_layers(network: DBNet) -> list[nn.Module]:
    """Layers whose outputs must stay as they are.

    A head's last convolution has one output per pixel of a 4x4 block. ShuffleNet's blocks interleave their two halves
    and split them again: a channel cut from one half would have to be cut from another place of every other block.
    Only the stem, the channels inside the blocks, the pyramid and the heads are pruned there.
    """
    from torch import nn

    def convolutions(part: nn.Module) -> list[nn.Module]:
        return [module for module in part.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]

    fixed = [convolutions(head)[-1] for head in (network.head, network.thr)]
    if network.backbone == "shufflenet_v2_x1_0":
        for stage in (network.stage2, network.stage3, network.stage4):
            for unit in stage:  # type: ignore[union-attr]
                other = convolutions(unit.branch1)
                # Its depthwise convolution reads what the block before has interleaved, but the first reads the stem.
                fixed += other[1:] if stage is network.stage2 else other
                fixed.append(convolutions(unit.branch2)[-1])
    return fixed


@dataclass(frozen=True, slots=True)
class Size:
    """How large a network is at inference, the threshold head left out.

    Attributes:
        parameters: count.
        gmac: billions of multiplications with addition, one square input of 640 px.
    """

    parameters: int
    gmac: float


def size_of(network: DBNet) -> Size:
    """Counts parameters and multiplications."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, SIDE, SIDE))
    used = (value.numel() for name, value in network.named_parameters() if not name.startswith("thr."))
    return Size(sum(used), counter.get_total_flops() / 2e9)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the comparison.

    Attributes:
        name: "before" or "after".
        precision: "fp32" or "int8".
        size: of the network.
        cost: in ONNX Runtime, one thread, a process of its own.
        hmean: on held-out pages; None without any.
    """

    name: str
    precision: str
    size: Size
    cost: Cost
    hmean: float | None


def compare(
    before: DBNet,
    after: DBNet,
    calibration: Sequence[Path],
    *,
    card: Path | None = None,
    data: Path | None = None,
    split: str = "val",
    limit_side: int = 1280,
) -> list[Row]:
    """Exports both networks (parity with torch checked), quantizes them, and measures all files.

    Each file runs three times in turn with the others, so that a machine that is busy for a while is so for all of
    them; the medians count.

    Args:
        before: the network as it was.
        after: the pruned one.
        calibration: images for int8; none leaves the int8 rows out.
        card: of both (mean, std, box thresholds); None for the defaults.
        data: folder for hmean, or None.
        split: of that folder.
        limit_side: longest side at quantizing (at most 640) and scoring, pixels.
    """
    from detector.convert.export import export_onnx

    networks = {"before": before, "after": after}
    with tempfile.TemporaryDirectory() as folder:
        files: dict[tuple[str, str], Path] = {}
        for name, network in networks.items():
            files[name, "fp32"] = Path(folder) / f"{name}.fp32.onnx"
            export_onnx(network, files[name, "fp32"], (SIDE, SIDE), dynamic=True)
            if card:
                (Path(folder) / f"{name}.json").write_bytes(card.read_bytes())
        for name in networks if calibration else ():
            files[name, "int8"] = Path(folder) / f"{name}.int8.onnx"
            side = min(SIDE, limit_side)
            quantize_static(files[name, "fp32"], files[name, "int8"], calibration, limit_side=side)
        costs = [[measure(file, SIDE) for file in files.values()] for _ in range(ROUNDS)]
        return [
            Row(
                name,
                precision,
                size_of(networks[name]),
                _middle(runs),
                hmean(file, data, split, limit_side) if data else None,
            )
            for ((name, precision), file), runs in zip(files.items(), zip(*costs, strict=True), strict=True)
        ]


def _middle(runs: Sequence[Cost]) -> Cost:
    return Cost(runs[0].megabytes, median(run.milliseconds for run in runs), median(run.peak_mb for run in runs))


def table(rows: Sequence[Row]) -> str:
    """The comparison for a terminal, and what it saves in time."""
    lines = [f"{'':12}  {'M params':>8}  {'GMAC':>6}  {'MB':>6}  {'ms':>6}  {'peak MB':>7}  hmean"]
    for row in rows:
        lines.append(
            f"{row.name:>7} {row.precision}  {row.size.parameters / 1e6:8.2f}  {row.size.gmac:6.2f}"
            f"  {row.cost.megabytes:6.1f}  {row.cost.milliseconds:6.1f}  {row.cost.peak_mb:7.0f}"
            f"  {'–' if row.hmean is None else f'{row.hmean:.4f}'}"
        )
    for precision in ("fp32", "int8"):
        times = [row.cost.milliseconds for row in rows if row.precision == precision]
        if times:
            lines.append(f"{precision}: {100 * (1 - times[1] / times[0]):.0f} % less time")
    return "\n".join(lines)
