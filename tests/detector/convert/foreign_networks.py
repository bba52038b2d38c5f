"""The published ResNet-18 DBNets once more, read literally from their state dicts, and state dicts to try them with.

Nothing here uses the program: the layers are applied one by one, in the order, with the channel order and with the
normalisation of each project's own code, to weights under each project's own keys.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as f

State = dict[str, Tensor]
Pixels = np.ndarray
"""(H, W, 3) uint8 RGB."""


def _conv(state: State, key: str, *shape: int, bias: bool = False, generator: torch.Generator) -> None:
    inputs = shape[1] * shape[2] * shape[3]
    state[f"{key}.weight"] = torch.randn(shape, generator=generator) * (2 / inputs) ** 0.5
    if bias:
        state[f"{key}.bias"] = 0.1 * torch.randn(shape[0], generator=generator)


def _deconv(state: State, key: str, inputs: int, outputs: int, generator: torch.Generator) -> None:
    state[f"{key}.weight"] = torch.randn(inputs, outputs, 2, 2, generator=generator) * (2 / inputs) ** 0.5
    state[f"{key}.bias"] = 0.1 * torch.randn(outputs, generator=generator)


def _norm(state: State, key: str, channels: int, generator: torch.Generator, scale: float = 0.5) -> None:
    state[f"{key}.weight"] = scale * (0.5 + torch.rand(channels, generator=generator))
    state[f"{key}.bias"] = 0.1 * torch.randn(channels, generator=generator)
    state[f"{key}.running_mean"] = 0.1 * torch.randn(channels, generator=generator)
    state[f"{key}.running_var"] = 0.5 + torch.rand(channels, generator=generator)
    state[f"{key}.num_batches_tracked"] = torch.tensor(1000)


def _trunk(state: State, prefix: str, g: torch.Generator) -> None:
    """ResNet-18 with torchvision's names, which all three use."""
    _conv(state, f"{prefix}conv1", 64, 3, 7, 7, generator=g)
    _norm(state, f"{prefix}bn1", 64, g, 1.0)
    inputs = 64
    for layer, channels in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            name = f"{prefix}layer{layer}.{block}"
            _conv(state, f"{name}.conv1", channels, inputs, 3, 3, generator=g)
            _norm(state, f"{name}.bn1", channels, g)
            _conv(state, f"{name}.conv2", channels, channels, 3, 3, generator=g)
            _norm(state, f"{name}.bn2", channels, g)
            if block == 0 and layer > 1:
                _conv(state, f"{name}.downsample.0", channels, inputs, 1, 1, generator=g)
                _norm(state, f"{name}.downsample.1", channels, g)
            inputs = channels


def _head(state: State, prefix: str, width: int, g: torch.Generator, bias: bool = False) -> None:
    quarter = width // 4
    _conv(state, f"{prefix}0", quarter, width, 3, 3, bias=bias, generator=g)
    _norm(state, f"{prefix}1", quarter, g, 1.0)
    _deconv(state, f"{prefix}3", quarter, quarter, g)
    _norm(state, f"{prefix}4", quarter, g, 1.0)
    _deconv(state, f"{prefix}6", quarter, 1, g)


def decoder_state(prefix: str = "", *, classifier: bool = False, thresh: bool = True, bias: bool = False) -> State:
    """Keys of MhLiao/DB (prefix "model.module.", classifier) and ModelScope (none): backbone.*, decoder.*."""
    g = torch.Generator().manual_seed(1)
    state: State = {}
    _trunk(state, f"{prefix}backbone.", g)
    if classifier:  # made by its ResNet, used by nothing
        state |= {f"{prefix}backbone.fc.weight": torch.randn(1000, 512), f"{prefix}backbone.fc.bias": torch.randn(1000)}
        _conv(state, f"{prefix}backbone.smooth", 256, 2048, 1, 1, bias=True, generator=g)
    for level, channels in ((5, 512), (4, 256), (3, 128), (2, 64)):
        _conv(state, f"{prefix}decoder.in{level}", 256, channels, 1, 1, bias=bias, generator=g)
    for name in ("out5.0", "out4.0", "out3.0", "out2"):
        _conv(state, f"{prefix}decoder.{name}", 64, 256, 3, 3, bias=bias, generator=g)
    _head(state, f"{prefix}decoder.binarize.", 256, g, bias)
    if thresh:
        _head(state, f"{prefix}decoder.thresh.", 256, g, bias)
    return state


def mmocr_state(head: str = "det_head") -> State:
    """Keys of MMOCR's dbnet_resnet18_fpnc (head "bbox_head" before version 1.0)."""
    g = torch.Generator().manual_seed(2)
    state: State = {}
    _trunk(state, "backbone.", g)
    for level, channels in enumerate((64, 128, 256, 512)):
        _conv(state, f"neck.lateral_convs.{level}.conv", 256, channels, 1, 1, generator=g)
        _conv(state, f"neck.smooth_convs.{level}.conv", 64, 256, 3, 3, generator=g)
    _head(state, f"{head}.binarize.", 256, g)
    _head(state, f"{head}.threshold.", 256, g)
    return state


class Layers:
    """Applies layers of a state dict by name."""

    def __init__(self, state: State, prefix: str = "") -> None:
        self.state, self.prefix = state, prefix

    def conv(self, x: Tensor, name: str, stride: int = 1, padding: int = 0) -> Tensor:
        key = self.prefix + name
        return f.conv2d(x, self.state[f"{key}.weight"], self.state.get(f"{key}.bias"), stride, padding)

    def norm(self, x: Tensor, name: str) -> Tensor:
        key = self.prefix + name
        mean, var = self.state[f"{key}.running_mean"], self.state[f"{key}.running_var"]
        return f.batch_norm(x, mean, var, self.state[f"{key}.weight"], self.state[f"{key}.bias"], eps=1e-5)

    def deconv(self, x: Tensor, name: str) -> Tensor:
        key = self.prefix + name
        return f.conv_transpose2d(x, self.state[f"{key}.weight"], self.state[f"{key}.bias"], stride=2)

    def trunk(self, x: Tensor) -> list[Tensor]:
        x = f.relu(self.norm(self.conv(x, "backbone.conv1", 2, 3), "backbone.bn1"))
        x = f.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        stages = []
        for layer in (1, 2, 3, 4):
            for block in (0, 1):
                name = f"backbone.layer{layer}.{block}"
                stride = 2 if layer > 1 and block == 0 else 1
                out = f.relu(self.norm(self.conv(x, f"{name}.conv1", stride, 1), f"{name}.bn1"))
                out = self.norm(self.conv(out, f"{name}.conv2", 1, 1), f"{name}.bn2")
                if stride == 2:
                    x = self.norm(self.conv(x, f"{name}.downsample.0", 2), f"{name}.downsample.1")
                x = f.relu(out + x)
            stages.append(x)
        return stages

    def head(self, x: Tensor, name: str) -> Tensor:
        x = f.relu(self.norm(self.conv(x, f"{name}.0", 1, 1), f"{name}.1"))
        x = f.relu(self.norm(self.deconv(x, f"{name}.3"), f"{name}.4"))
        return torch.sigmoid(self.deconv(x, f"{name}.6"))


def _double(x: Tensor) -> Tensor:
    return f.interpolate(x, scale_factor=2, mode="nearest")


def decoder_map(state: State, image: Tensor, prefix: str = "", head: str = "binarize") -> Tensor:
    """MhLiao/DB's and ModelScope's forward pass: normalised BGR (1, 3, H, W) -> probability (1, 1, H, W)."""
    layers = Layers(state, prefix)
    c2, c3, c4, c5 = layers.trunk(image)
    in5, in4 = layers.conv(c5, "decoder.in5"), layers.conv(c4, "decoder.in4")
    in3, in2 = layers.conv(c3, "decoder.in3"), layers.conv(c2, "decoder.in2")
    out4 = _double(in5) + in4
    out3 = _double(out4) + in3
    out2 = _double(out3) + in2
    p5 = f.interpolate(layers.conv(in5, "decoder.out5.0", 1, 1), scale_factor=8, mode="nearest")
    p4 = f.interpolate(layers.conv(out4, "decoder.out4.0", 1, 1), scale_factor=4, mode="nearest")
    p3 = f.interpolate(layers.conv(out3, "decoder.out3.0", 1, 1), scale_factor=2, mode="nearest")
    p2 = layers.conv(out2, "decoder.out2", 1, 1)
    return layers.head(torch.cat((p5, p4, p3, p2), 1), f"decoder.{head}")


def mmocr_map(state: State, image: Tensor, head: str = "det_head", branch: str = "binarize") -> Tensor:
    """MMOCR's forward pass: normalised RGB (1, 3, H, W) -> probability (1, 1, H, W)."""
    layers = Layers(state)
    laterals = [layers.conv(c, f"neck.lateral_convs.{i}.conv") for i, c in enumerate(layers.trunk(image))]
    for i in (3, 2, 1):
        laterals[i - 1] = laterals[i - 1] + f.interpolate(laterals[i], size=laterals[i - 1].shape[2:], mode="nearest")
    outs = [layers.conv(lateral, f"neck.smooth_convs.{i}.conv", 1, 1) for i, lateral in enumerate(laterals)]
    outs = [f.interpolate(out, size=outs[0].shape[2:], mode="nearest") for out in outs]
    return layers.head(torch.cat(outs, dim=1), f"{head}.{branch}")


def _bgr_minus(mean: tuple[float, float, float]) -> Callable[[Pixels], Tensor]:
    def prepare(pixels: Pixels) -> Tensor:
        image = (pixels[:, :, ::-1].astype(np.float32) - np.array(mean, np.float32)) / 255.0
        return torch.from_numpy(image).permute(2, 0, 1).float().unsqueeze(0)

    return prepare


modelscope_image = _bgr_minus((123.68, 116.78, 103.94))
mhliao_image = _bgr_minus((122.67891434, 116.66876762, 104.00698793))


def mmocr_image(pixels: Pixels) -> Tensor:
    """RGB, the means and deviations of its configuration (of values up to 255)."""
    image = (
        torch.from_numpy(pixels.copy()).float().permute(2, 0, 1)
        - torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    )
    return (image / torch.tensor([58.395, 57.12, 57.375])[:, None, None]).unsqueeze(0)
