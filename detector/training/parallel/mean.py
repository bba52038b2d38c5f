"""The mean of two models' weights: where both began alike, often better on unseen pages than either.

Wortsman et al., "Model soups", ICML 2022. Here: agreement with the teacher on held-out sources .757 and .768, their
mean .773; held-out photos .839, .826 and .843 (NOTES.md, run 9).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from detector.errors import ModelError
from detector.network.build import network_from_state


def mean_of(one: Mapping[str, Tensor], other: Mapping[str, Tensor], images: Iterable[Tensor]) -> dict[str, Tensor]:
    """The mean of two state dicts, with running statistics as the mean network sees them: neither's would fit it.

    Args:
        one: float weights.
        other: of the same network.
        images: (N, 3, S, S) float32, normalised; some 40 batches of 8 training crops.

    Raises:
        ModelError: they are of different networks.
    """
    if {key: value.shape for key, value in one.items()} != {key: value.shape for key, value in other.items()}:
        raise ModelError("the mean of two different networks makes no sense: give weights of the same model")
    network = network_from_state(
        {
            key: (value.float() + other[key].float().to(value.device)) / 2 if value.is_floating_point() else value
            for key, value in one.items()
        }
    ).eval()
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
            norm.train()
    with torch.no_grad():
        for batch in images:
            network.logits(batch.cpu())
    return network.state_dict()
