"""MobileNetV3-Small trunk (Howard et al., ICCV 2019), torchvision's implementation and names."""

from __future__ import annotations

from torch import Tensor, nn

from detector.network.dbnet import DBNet
from detector.network.imagenet import load_imagenet
from detector.network.torchvision_import import import_torchvision


class MobileNetV3SmallDBNet(DBNet):
    """DBNet on MobileNetV3-Small; the last 1x1 convolution (576 channels) is the deepest stage.

    Args:
        width: of the feature pyramid.
        pretrained: ImageNet weights (imagenet.py).
    """

    backbone = "mobilenet_v3_small"
    # Index of the last block before each stride doubles, in torchvision's `features`: strides 4, 8, 16, 32.
    _ENDS = (2, 4, 9, 13)

    def __init__(self, width: int = 96, pretrained: bool = False) -> None:
        super().__init__((16, 24, 48, 576), width)
        trunk = import_torchvision().models.mobilenet_v3_small()
        if pretrained:
            load_imagenet(trunk, self.backbone)
        self.features = trunk.features
        for module in self.features.modules():
            if isinstance(module, nn.BatchNorm2d):
                # torchvision's 0.01 suits ImageNet's million steps; in a short run statistics would never arrive.
                module.momentum = 0.1

    def stages(self, image: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> features at strides 4, 8, 16, 32."""
        outputs, start, x = [], 0, image
        for end in self._ENDS:
            for block in self.features[start:end]:
                x = block(x)
            outputs.append(x)
            start = end
        return outputs
