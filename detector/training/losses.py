"""Losses of DBNet (Liao et al., AAAI 2020, section "Optimization")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

STEEPNESS = 50.0  # k of the differentiable binarization, equation 2


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Factors of the terms; 10 for the threshold in the paper, 5 does as well here and leaves more for the map."""

    bce: float = 5.0
    dice: float = 1.0
    binary: float = 1.0
    threshold: float = 5.0


def balanced_bce(logits: Tensor, target: Tensor, weight: Tensor, ratio: float = 3.0) -> Tensor:
    """Binary cross entropy over all positives and the hardest ``ratio`` times as many negatives (OHEM).

    Args:
        logits: any shape, float.
        target: same shape, in [0, 1]; above 0.5 counts as positive.
        weight: same shape, >= 0; pixels of weight 0 are never chosen.
        ratio: negatives per positive.

    Returns:
        Scalar: weighted sum of the chosen losses over the number chosen.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    positive = (target > 0.5) & (weight > 0)
    count = int(positive.sum())
    negative = loss[(target <= 0.5) & (weight > 0)]
    # A crop without text still teaches: its hardest pixels (1/64 of the area at least).
    wanted = min(negative.numel(), max(int(count * ratio), loss.numel() // 64))
    hardest = torch.topk(negative, wanted, sorted=False).values.sum() if wanted else loss.new_zeros(())
    return (loss[positive].sum() + hardest) / max(count + wanted, 1)


SAMPLE = 131_072  # pixels from which the bound of the hardest negatives is estimated: within .3 % of the share wanted


def sampled_bce(logits: Tensor, target: Tensor, weight: Tensor, ratio: float = 3.0) -> Tensor:
    """`balanced_bce` without sorting all pixels and without waiting for the device, which both cost a GPU its time.

    The loss that the hardest negatives exceed is read off a random sample, so their number is nearly the one wanted.
    """
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
    positive = (target > 0.5) & (weight > 0)
    negative = (target <= 0.5) & (weight > 0)
    with torch.no_grad():
        wanted = torch.minimum(negative.sum(), (positive.sum() * ratio).long().clamp(min=loss.numel() // 64))
        places = torch.randint(loss.numel(), (SAMPLE,), device=loss.device)
        sample = torch.where(negative, loss, -1.0).flatten()[places].sort(descending=True).values
        rank = (wanted.double() * SAMPLE / loss.numel()).long().clamp(0, SAMPLE - 1)
        bound = sample.take(rank).clamp(min=0)  # sample[rank] would wait for the device
        chosen = (positive | (negative & (loss >= bound))).to(loss.dtype)
    return (loss * chosen).sum() / chosen.sum().clamp(min=1)


def dice(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """1 - 2 |P T| / (|P| + |T|) over weighted pixels; 0 for a perfect map."""
    overlap = (prediction * target * weight).sum()
    total = (prediction * weight).sum() + (target * weight).sum()
    return 1 - 2 * overlap / (total + 1e-6)


def masked_l1(prediction: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference where the mask is 1; 0 if it is empty."""
    return ((prediction - target).abs() * mask).sum() / (mask.sum() + 1e-6)


def db_loss(
    probability_logits: Tensor,
    threshold_logits: Tensor,
    target: Tensor,
    weight: Tensor,
    threshold: Tensor,
    band: Tensor,
    factors: LossWeights,
    bce: Callable[[Tensor, Tensor, Tensor], Tensor] = balanced_bce,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The whole loss of a batch; all inputs (N, 1, H, W) or (N, H, W), float32; ``bce`` is one of the two above.

    Returns:
        The weighted sum, and its terms (detached) by name.
    """
    probability = torch.sigmoid(probability_logits)
    border = torch.sigmoid(threshold_logits)
    binary = torch.sigmoid(STEEPNESS * (probability - border))
    # The binary map is only meaningful where the threshold is trained.
    near = weight * torch.maximum(band, target)
    terms = {
        "bce": factors.bce * bce(probability_logits, target, weight),
        "dice": factors.dice * dice(probability, target, weight),
        "binary": factors.binary * dice(binary, (target > 0.5).to(target.dtype), near),
        "threshold": factors.threshold * masked_l1(border, threshold, band),
    }
    return torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()}
