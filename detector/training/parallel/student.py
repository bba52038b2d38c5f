"""A network that learns beside others from the same crops: its optimizer, its average, its norms."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detector.network.build import network_from_state
from detector.training.dataset import Batch
from detector.training.losses import LossWeights, db_loss, sampled_bce
from detector.training.parallel.norms import add_norms, folded_state
from detector.training.parallel.recording import Recording
from detector.training.trainer import parameter_groups, revive_norms

CLIP = 5.0  # largest gradient norm, as in the trainer
DECAY = 1e-3  # of weights, not of biases and norms: with norms behind them their size means nothing


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a model learns.

    Attributes:
        lr: peak learning rate.
        trunk_lr: factor on it for the trunk.
    """

    lr: float
    trunk_lr: float


class Student:
    """One of the models of a run.

    Args:
        name: of the model.
        state: weights to start from.
        pace: of learning.
        first: (N, 3, S, S) normalised crops; the added norms begin with their statistics.
        ema: decay of the average, reached gradually.
        alone: inside it nothing else uses the device: so a step is recorded, see `recording`.
    """

    def __init__(
        self,
        name: str,
        state: dict[str, Tensor],
        pace: Pace,
        first: Tensor,
        ema: float,
        alone: AbstractContextManager[Any] | None = None,
    ) -> None:
        self.name, self._pace, self._ema = name, pace, ema
        self.network = network_from_state(state)
        revive_norms(self.network)
        add_norms(self.network)
        device = first.device
        self.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            self.network.train().logits(first)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        groups = parameter_groups(self.network.named_parameters(), pace.trunk_lr, DECAY)
        gpu = device.type == "cuda"
        self._optimizer = torch.optim.AdamW(groups, lr=pace.lr, betas=(0.9, 0.99), fused=gpu, capturable=gpu)
        self._device = device
        self._own_rates()
        self._recording = Recording(self._learn, alone or nullcontext()) if gpu else None
        averaged, current = self.average.state_dict(), self.network.state_dict()
        floats = [key for key, value in averaged.items() if value.is_floating_point()]
        self._averaged, self._current = [averaged[key] for key in floats], [current[key] for key in floats]
        self.steps = 0
        self._terms: dict[str, Tensor] = {}
        self._since = 0

    def step(self, batch: Batch, rate: float) -> None:
        """One step at ``rate`` times the peak rate; nothing waits for the device."""
        for group in self._optimizer.param_groups:
            group["lr"].fill_(self._pace.lr * rate * group["factor"])
        terms = (self._recording or self._learn)(batch.image, batch.targets)
        decay = min(self._ema, (1 + self.steps) / (10 + self.steps))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._current, 1 - decay)
        self.steps += 1
        self._since += 1
        self._terms = {name: self._terms.get(name, torch.zeros_like(term)) + term for name, term in terms.items()}

    def _learn(self, image: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Forward, backward and the optimizer's step; returns the terms of the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(image.device.type, torch.bfloat16):
            probability, threshold = self.network.logits(image)
        target, weight, height, band = targets.unbind(1)
        logits = probability.float()[:, 0], threshold.float()[:, 0]
        loss, terms = db_loss(*logits, target, weight, height, band, LossWeights(), sampled_bce)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP, foreach=True)
        self._optimizer.step()
        return terms

    def _own_rates(self) -> None:
        """A recorded step reads its learning rate from the device's memory, so each group has a tensor there."""
        for group in self._optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=self._device)

    def means(self) -> dict[str, float]:
        """Mean terms of the loss since this was asked last (which waits for the device)."""
        means = {name: float(total) / max(1, self._since) for name, total in self._terms.items()}
        self._terms, self._since = {}, 0
        return means

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights, as the model is shipped."""
        return folded_state(self.average)

    def state(self) -> dict[str, Any]:
        """What `restore` takes."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a state."""
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._own_rates()
        self.steps = state["steps"]
