"""The ResNet-18 DBNet as the paper has it and others publish it, for their weights.

Liao et al., AAAI 2020, as built by MhLiao/DB, ModelScope and MMOCR alike: a plain ResNet-18 with BatchNorm everywhere
(He et al., CVPR 2016), a feature pyramid 256 wide, heads that reach full resolution with two transposed convolutions.
`detector.network.foreign_keys` turns their state dicts into this network's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.network.dbnet import DBNet, initialise


class PlainBlock(nn.Module):
    """Basic residual block with BatchNorm; names as torchvision's.

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: of the first convolution and the shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = shortcut if stride != 1 or inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(out)) + shortcut, inplace=True)


def make_transposed_head(width: int) -> nn.Sequential:
    """(N, width, H/4, W/4) features -> (N, 1, H, W) logits."""
    quarter = width // 4
    return nn.Sequential(
        nn.Conv2d(width, quarter, 3, padding=1, bias=False),
        nn.BatchNorm2d(quarter),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(quarter, quarter, 2, 2),
        nn.BatchNorm2d(quarter),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(quarter, 1, 2, 2),
    )


class PlainResNet18DBNet(DBNet):
    """DBNet on an unfolded ResNet-18 with transposed convolutions: 12.3 M parameters at width 256.

    Args:
        width: of the feature pyramid.

    Attributes:
        shift: (1, 3, 1, 1), added to the input. Like all networks of this project this one takes RGB normalised with
            ImageNet's mean and std; the shift moves that to the mean of the images that the weights were trained on.
            It is added before the first convolution pads, because their padding is their mean colour, not ours.
    """

    backbone = "resnet18_plain"
    shift: Tensor

    def __init__(self, width: int = 256) -> None:
        super().__init__((64, 128, 256, 512), width)
        self.head = make_transposed_head(width)
        self.thr = make_transposed_head(width)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(PlainBlock(64, 64, 1), PlainBlock(64, 64, 1))
        self.layer2 = nn.Sequential(PlainBlock(64, 128, 2), PlainBlock(128, 128, 1))
        self.layer3 = nn.Sequential(PlainBlock(128, 256, 2), PlainBlock(256, 256, 1))
        self.layer4 = nn.Sequential(PlainBlock(256, 512, 2), PlainBlock(512, 512, 1))
        initialise(self)

    def stages(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features of layers 1 to 4."""
        stem = functional.relu(self.bn1(self.conv1(image + self.shift)), inplace=True)
        c2 = self.layer1(self.maxpool(stem))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c2, c3, c4, self.layer4(c4)]
