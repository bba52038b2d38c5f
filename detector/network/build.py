"""The networks by name, and their weights to and from files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from detector.atomic import atomic_write
from detector.errors import ModelError, is_out_of_memory
from detector.images.sizes import STRIDE
from detector.network.dbnet import DBNet
from detector.network.plain_weights import check_plain, load_plain

BACKBONES = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x1_0")


def build_network(backbone: str = "resnet18", *, width: int | None = None, pretrained: bool = False) -> DBNet:
    """A freshly initialised network.

    Args:
        backbone: one of BACKBONES, or resnet18_plain, which imported weights have (detector.network.foreign).
        width: of the feature pyramid; None for the backbone's own default (128 or 96; 256 for resnet18_plain).
        pretrained: ImageNet weights for the trunk (of torchvision, see imagenet.py; not for the folded resnet18).

    Raises:
        ModelError: unknown backbone; a file of ImageNet weights that is not the pinned one.
        OSError: there are no ImageNet weights here, and they could not be downloaded.
    """
    if backbone == "resnet18":
        from detector.network.resnet import ResNet18DBNet

        return ResNet18DBNet(width or 128)
    if backbone == "mobilenet_v3_small":
        from detector.network.mobilenet import MobileNetV3SmallDBNet

        return MobileNetV3SmallDBNet(width or 96, pretrained)
    if backbone == "shufflenet_v2_x1_0":
        from detector.network.shufflenet import ShuffleNetV2DBNet

        return ShuffleNetV2DBNet(width or 96, pretrained)
    if backbone == "resnet18_plain":
        from detector.network.foreign import PlainResNet18DBNet

        return PlainResNet18DBNet(width or 256)
    raise ModelError(f"unknown backbone {backbone!r}; choose one of {', '.join(BACKBONES)}")


def recognise(state: Mapping[str, Tensor]) -> tuple[str, int]:
    """Backbone and pyramid width of a state dict of ours, from its keys.

    Raises:
        ModelError: not one of our networks.
    """
    if "fpn.lat.0.weight" not in state:
        raise ModelError("not a DBNet of this project (no key fpn.lat.0.weight); try ocr-detector import-weights")
    lateral = state["fpn.lat.0.weight"]
    if not lateral.ndim:
        raise ModelError("a damaged network: fpn.lat.0.weight is a single number")
    width = int(lateral.shape[0])
    if "layer1.0.conv1.weight" in state:
        return ("resnet18_plain" if "bn1.weight" in state else "resnet18"), width
    if "features.0.0.weight" in state:
        return "mobilenet_v3_small", width
    if "stage2.0.branch1.0.weight" in state:
        return "shufflenet_v2_x1_0", width
    raise ModelError("unknown trunk: has none of layer1, features, stage2")


def network_from_state(state: Mapping[str, Tensor]) -> DBNet:
    """The network that a state dict belongs to, with its weights; also of a pruned one, every layer its own width.

    Args:
        state: of one of our networks, floats in any precision; the network gets a copy, float32 on the CPU.

    Raises:
        ModelError: not one of our networks, or its parts do not fit together; one line.
    """
    check_plain(state)
    backbone, width = recognise(state)
    # Not on the meta device, which would save the initialisation's 0.1 s: its imports take 1.2 s and 67 MB.
    network = build_network(backbone)
    network.width = width
    try:
        _resize_layers(network, state)
        network.load_state_dict(state, strict=True)
        with torch.inference_mode():
            network.eval().logits(torch.zeros(1, 3, 2 * STRIDE, 2 * STRIDE))
    except (RuntimeError, ValueError) as error:  # ValueError: a layer without channels
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from None
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        reason = lines[1] if lines[0].startswith("Error(s) in loading") and len(lines) > 1 else lines[0]
        raise ModelError(f"a damaged {backbone} network: {reason[:200]}") from None
    return network.train()


def _resize_layers(network: DBNet, state: Mapping[str, Tensor]) -> None:
    """Gives convolutions and BatchNorms the channels that the tensors of a state dict have."""
    for name, layer in network.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
            continue
        weight = state.get(f"{name}.weight")
        if weight is None or weight.shape == layer.weight.shape:
            continue
        if isinstance(layer, nn.BatchNorm2d) and weight.ndim == 1:
            new: nn.Module = nn.BatchNorm2d(len(weight), layer.eps, layer.momentum)
        elif isinstance(layer, nn.Conv2d) and weight.shape[2:] == layer.weight.shape[2:]:
            outputs, inputs = int(weight.shape[0]), int(weight.shape[1])
            depthwise = layer.groups > 1
            new = nn.Conv2d(
                outputs if depthwise else inputs,
                outputs,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                groups=outputs if depthwise else 1,
                bias=layer.bias is not None,
            )
        elif isinstance(layer, nn.ConvTranspose2d) and weight.shape[2:] == layer.weight.shape[2:]:
            inputs, outputs = int(weight.shape[0]), int(weight.shape[1])
            new = nn.ConvTranspose2d(inputs, outputs, layer.kernel_size, layer.stride)  # type: ignore[arg-type]
        else:
            continue
        network.set_submodule(name, new)


def read_state(path: Path) -> dict[str, Tensor]:
    """Weights of a .safetensors file, or of a checkpoint of the trainer (its EMA weights), as float32.

    Raises:
        ModelError: the file holds no weights that we know, with its name.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = load_file(path)
        except SafetensorError as error:
            raise ModelError(f"{path}: not a safetensors file ({error})") from None
    else:
        content = load_plain(path)
        state = content.get("ema", content) if isinstance(content, dict) else {}
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError(f"{path}: holds no weights of a network")
    try:
        check_plain(state)  # before a copy is made
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def load_network(path: Path) -> DBNet:
    """The network of a weights file, backbone and widths recognised from its tensors; in eval mode.

    Raises:
        ModelError: not a network of ours, with the file's name.
    """
    state = read_state(path)
    try:
        return network_from_state(state).eval()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def save_half(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes weights as fp16 safetensors.

    Integer buffers and BatchNorm statistics stay as they are: variances can exceed 65504, where fp16 ends.

    Args:
        state: of a network.
        path: of the file.
        metadata: kept in the file's header.
    """
    from safetensors.torch import save

    def small(key: str, value: Tensor) -> Tensor:
        return value.half() if value.is_floating_point() and ".running_" not in key else value

    # Not save_file: it makes the file readable for its owner alone.
    halves = {key: small(key, value).contiguous() for key, value in state.items()}
    with atomic_write(path, sync=True) as unfinished:
        unfinished.write_bytes(save(halves, dict(metadata) if metadata else None))
