"""ResNet-18 trunk with most BatchNorm folded into biased convolutions (He et al., CVPR 2016).

Folding costs nothing in quality here (batches are small, so BatchNorm statistics would be noisy anyway) and makes
training faster; layer4's 3x3 convolutions keep theirs because they may start from random weights.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from detector.network.dbnet import DBNet


class Block(nn.Module):
    """Basic residual block: two 3x3 convolutions and a shortcut (1x1 convolution where the shape changes).

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: of the first convolution and the shortcut.
        normalised: BatchNorm after each 3x3 convolution (which then has no bias) instead of a bias.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, normalised: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not normalised)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=not normalised)
        self.bn1: nn.Module = nn.BatchNorm2d(outputs) if normalised else nn.Identity()
        self.bn2: nn.Module = nn.BatchNorm2d(outputs) if normalised else nn.Identity()
        changes = stride != 1 or inputs != outputs
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/stride, W/stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        return functional.relu(out + shortcut, inplace=True)


def _layer(inputs: int, outputs: int, stride: int, normalised: bool = False) -> nn.Sequential:
    return nn.Sequential(Block(inputs, outputs, stride, normalised), Block(outputs, outputs, 1, normalised))


class ResNet18DBNet(DBNet):
    """DBNet on ResNet-18: 11.6 M parameters at width 128."""

    backbone = "resnet18"

    def __init__(self, width: int = 128) -> None:
        super().__init__((64, 128, 256, 512), width)
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _layer(64, 64, 1)
        self.layer2 = _layer(64, 128, 2)
        self.layer3 = _layer(128, 256, 2)
        self.layer4 = _layer(256, 512, 2, normalised=True)
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation by fan-in, so that every stage's output has about the same size without BatchNorm."""
        for name, module in self.named_modules():
            if not isinstance(module, nn.Conv2d) or name.startswith(("fpn.", "head.", "thr.")):
                continue
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        # Without BatchNorm the residual sums would grow with depth: start the folded blocks near the identity.
        for layer in (self.layer1, self.layer2, self.layer3):
            for block in layer:
                block.conv2.weight.data.mul_(0.25)  # type: ignore[union-attr, operator]

    def stages(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features of layers 1 to 4."""
        c2 = self.layer1(self.maxpool(functional.relu(self.conv1(image), inplace=True)))
        c3 = self.layer2(c2)
        c4 = self.layer3(c3)
        return [c2, c3, c4, self.layer4(c4)]
