"""BatchNorm behind the folded convolutions while a network learns; folded again before anybody sees it.

Our ResNet trunks have most of their BatchNorm folded into biased convolutions, which suits small batches on CPUs. With
32 crops a step the statistics are good, and norms let the rate be higher. Each begins as the identity, so that the
network's output does not change by it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detector.network.dbnet import DBNet


class ConvNorm(nn.Module):
    """A biased convolution and a BatchNorm that takes the statistics of the first batch as its own scale and shift.

    Args:
        conv: with a bias.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(conv.out_channels, momentum=0.05)
        self.begun = False

    def forward(self, x: Tensor) -> Tensor:
        """As the convolution does, until the statistics move away from those of the first batch."""
        y: Tensor = self.conv(x)
        if not self.begun:
            self._begin(y.detach().float())
            return y
        normed: Tensor = self.bn(y)
        return normed

    @torch.no_grad()
    def _begin(self, y: Tensor) -> None:
        mean, variance = y.mean((0, 2, 3)), y.var((0, 2, 3), unbiased=False)
        self.bn.weight.copy_((variance + self.bn.eps).sqrt())
        self.bn.bias.copy_(mean)
        for statistic, value in ((self.bn.running_mean, mean), (self.bn.running_var, variance)):
            if statistic is not None:
                statistic.copy_(value)
        self.begun = True

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the one convolution that does the same in evaluation."""
        mean, variance = self.bn.running_mean, self.bn.running_var
        assert mean is not None and variance is not None and self.conv.bias is not None
        scale = self.bn.weight / (variance + self.bn.eps).sqrt()
        return self.conv.weight * scale[:, None, None, None], (self.conv.bias - mean) * scale + self.bn.bias


def add_norms(network: DBNet) -> None:
    """Puts a `ConvNorm` in the place of every biased convolution of the trunk; heads and pyramid keep theirs."""
    for name, module in list(network.named_modules()):
        trunk = not name.startswith(("fpn.", "head.", "thr."))
        if trunk and isinstance(module, nn.Conv2d) and module.bias is not None and module.groups == 1:
            network.set_submodule(name, ConvNorm(module))


def folded_state(network: DBNet) -> dict[str, Tensor]:
    """The state dict of the network as it is without `add_norms`: float32, on the CPU."""
    state = {key: value.detach().cpu().clone() for key, value in network.state_dict().items()}
    for name, module in network.named_modules():
        if isinstance(module, ConvNorm):
            state = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
            weight, bias = module.folded()
            state[f"{name}.weight"], state[f"{name}.bias"] = weight.detach().cpu(), bias.detach().cpu()
    return state
