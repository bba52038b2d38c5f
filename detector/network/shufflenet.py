"""ShuffleNetV2 x1.0 trunk (Ma et al., ECCV 2018), torchvision's layers and names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detector.network.dbnet import DBNet
from detector.network.imagenet import load_imagenet
from detector.network.torchvision_import import import_torchvision


def shuffle_channels(x: Tensor) -> Tensor:
    """Interleaves the two halves of the channels: (a0 a1 .. b0 b1 ..) -> (a0 b0 a1 b1 ..).

    Written with -1 for the batch and plain views, which ONNX exports with dynamic sizes.
    """
    _, channels, height, width = x.shape
    x = x.view(-1, 2, channels // 2, height, width)
    return x.transpose(1, 2).reshape(-1, channels, height, width)


def _unit(unit: nn.Module, x: Tensor) -> Tensor:
    """One of torchvision's inverted residual units, with our channel shuffle."""
    if unit.stride == 1:
        half = x.shape[1] // 2
        joined = torch.cat((x[:, :half], unit.branch2(x[:, half:])), dim=1)  # type: ignore[operator]
    else:
        joined = torch.cat((unit.branch1(x), unit.branch2(x)), dim=1)  # type: ignore[operator]
    return shuffle_channels(joined)


class ShuffleNetV2DBNet(DBNet):
    """DBNet on ShuffleNetV2 x1.0.

    Args:
        width: of the feature pyramid.
        pretrained: ImageNet weights (imagenet.py).
    """

    backbone = "shufflenet_v2_x1_0"

    def __init__(self, width: int = 96, pretrained: bool = False) -> None:
        super().__init__((24, 116, 232, 464), width)
        trunk = import_torchvision().models.shufflenet_v2_x1_0()
        if pretrained:
            load_imagenet(trunk, self.backbone)
        self.conv1, self.maxpool = trunk.conv1, trunk.maxpool
        self.stage2, self.stage3, self.stage4 = trunk.stage2, trunk.stage3, trunk.stage4

    def stages(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features at strides 4, 8, 16, 32."""
        x = self.maxpool(self.conv1(image))
        outputs = [x]
        for stage in (self.stage2, self.stage3, self.stage4):
            for unit in stage:
                x = _unit(unit, x)
            outputs.append(x)
        return outputs
