"""A trained network's features as a second target: how a trunk without ImageNet weights learns to see.

Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015. A probability map says one thing per pixel, the pyramid's
output says a hundred: with both, a small network from random weights is where the map alone brings it several times
later.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detector.network.dbnet import DBNet


class FeatureDistillation(nn.Module):
    """Distance between a student's pyramid and that of a trained network, through a learned 1x1 convolution.

    Args:
        student_width: channels of the student's pyramid.
        teacher_network: the trained network, any backbone; kept in eval mode and never trained.

    Attributes:
        adapter: student_width -> the teacher network's width; the only part that learns, gone after training.
    """

    def __init__(self, student_width: int, teacher_network: DBNet) -> None:
        super().__init__()
        # In a list: no submodule, so that neither the optimizer nor checkpoints see the teacher network.
        self._teacher = [teacher_network.eval().requires_grad_(False)]
        self.adapter = nn.Conv2d(student_width, teacher_network.width, 1)

    def forward(self, image: Tensor, features: Tensor) -> Tensor:
        """Mean squared error, every channel of the teacher network scaled to unit variance; about 1 for a blind one.

        Args:
            image: (N, 3, H, W) normalised, as the student saw it.
            features: (N, student_width, H/4, W/4), the student's pyramid of it.
        """
        (teacher_network,) = self._teacher
        with torch.no_grad():
            wanted = teacher_network.pyramid(image).float()
            variance, mean = torch.var_mean(wanted, dim=(0, 2, 3), keepdim=True)
            wanted = (wanted - mean) * torch.rsqrt(variance + 1e-4)
        return functional.mse_loss(self.adapter(features).float(), wanted)
