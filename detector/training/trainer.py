"""The training loop, top to bottom: batches, loss, AdamW or SGD, EMA, checkpoints that resume exactly."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.atomic import atomic_write
from detector.errors import ModelError, first_line, is_out_of_memory
from detector.network.build import build_network, network_from_state
from detector.network.dbnet import DBNet
from detector.network.plain_weights import load_plain
from detector.training.dataset import Batch, BatchSource
from detector.training.feature_distillation import FeatureDistillation
from detector.training.losses import LossWeights, db_loss


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the run: crops of ``crop`` pixels, ``batch`` of them a step, until this fraction of all steps."""

    until: float
    crop: int
    batch: int


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides a run besides the pages.

    Attributes:
        steps: of the whole run.
        phases: in order; the last one's ``until`` must be 1.
        optimizer: 'adamw' or 'sgd' (momentum 0.9, weight decay 1e-4, as in the paper).
        lr: peak learning rate.
        trunk_lr: factor on lr for the trunk (it starts from good weights).
        schedule: 'poly' (power 0.9, as in the paper) or 'flat' (then a cosine fall over the last ``cooldown``).
        cooldown: fraction of the steps.
        warmup: steps.
        first: step that the run begins with: it goes on in the plan of another run from that one's averaged weights.
        clip: largest gradient norm.
        ema: decay of the averaged weights, reached gradually.
        amp: bfloat16 (CPU) or float16 (CUDA) autocast.
        micro_batch: crops that pass through the network at a time (0: all); bounds the memory of a step.
        hint: factor of the loss on a teacher network's features (feature_distillation.py); 0 for a run without one.
        hint_until: fraction of the steps after which the teacher network has said enough.
        freeze_norm: BatchNorm keeps its statistics (fine-tuning with tiny batches).
        seed: of every random choice.
        save_every: steps between checkpoints.
    """

    steps: int
    phases: tuple[Phase, ...]
    backbone: str = "resnet18"
    width: int | None = None
    optimizer: str = "adamw"
    lr: float = 1e-3
    trunk_lr: float = 0.3
    weight_decay: float = 1e-4
    schedule: str = "flat"
    cooldown: float = 0.3
    warmup: int = 100
    first: int = 0
    clip: float = 5.0
    ema: float = 0.999
    amp: bool = True
    micro_batch: int = 0
    hint: float = 0.0
    hint_until: float = 0.6
    freeze_norm: bool = False
    device: str = "cpu"
    threads: int = 0
    seed: int = 0
    save_every: int = 200
    loss: LossWeights = field(default_factory=LossWeights)

    def phase_at(self, step: int) -> Phase:
        """The phase that a step (0-based) belongs to."""
        return next((phase for phase in self.phases if step < phase.until * self.steps), self.phases[-1])

    def rate_at(self, step: int) -> float:
        """Learning rate of a step."""
        warm = min(1.0, (step - self.first + 1) / max(self.warmup, 1))
        done = step / max(self.steps, 1)
        if self.schedule == "poly":
            return float(self.lr * warm * (1 - done) ** 0.9)
        falling = max(0.0, (done - (1 - self.cooldown)) / max(self.cooldown, 1e-9))
        return self.lr * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(falling, 1.0))))

    def plain(self) -> dict[str, Any]:
        """As built-in types: what a checkpoint and config.json hold."""
        return asdict(self) | {"phases": [asdict(phase) for phase in self.phases]}


@dataclass(frozen=True, slots=True)
class Progress:
    """What the loop reports after each step."""

    step: int
    loss: float
    terms: dict[str, float]
    rate: float


class Trainer:
    """Network, optimizer and average of one run.

    Args:
        config: of the run.
        state: initial weights (a state dict, which also decides the network's shape, a pruned one's too), or None
            for the random initialisation of a network built from the config.
        network: a network to train instead; it keeps its weights unless ``state`` is given too.
        teacher_network: a trained network whose features are a second target; needed if the config has a ``hint``.
    """

    def __init__(
        self,
        config: TrainConfig,
        state: dict[str, Tensor] | None = None,
        network: DBNet | None = None,
        teacher_network: DBNet | None = None,
    ) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.device = torch.device(config.device)
        if network is not None:
            self.network = network
            if state is not None:
                self.network.load_state_dict(state, strict=True)
        elif state is not None:
            self.network = network_from_state(state)
        else:
            self.network = build_network(config.backbone, width=config.width)
        revive_norms(self.network)
        if config.amp and self.device.type == "cpu":
            _keep_depthwise_in_fp32(self.network)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.distillation = None
        if config.hint:
            if teacher_network is None:
                raise ValueError("a run with a hint needs a teacher network")
            teacher_network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.distillation = FeatureDistillation(self.network.width, teacher_network).to(self.device)
        self.optimizer = _make_optimizer(config, self.network, self.distillation)
        self.scaler = torch.amp.GradScaler("cuda", enabled=config.amp and self.device.type == "cuda")
        self.step = config.first
        self.notes: dict[str, Any] = {}  # the caller's own record (best score, history); saved with the checkpoint

    def run(self, source: BatchSource, until: int | None = None) -> Iterator[Progress]:
        """Trains on, yielding after each step (so the caller can validate, log, stop).

        Args:
            source: of batches; the batch of a step depends on the step alone.
            until: stop before this step; default the end of the run.
        """
        end = min(until or self.config.steps, self.config.steps)
        plan = []
        for step in range(self.step, end):
            phase = self.config.phase_at(step)
            plan.append((step, phase.crop, phase.batch))
        with closing(source.stream(plan)) as batches:
            for batch in batches:
                loss, terms = self._train_step(batch)
                self.step += 1
                yield Progress(self.step, loss, terms, self.config.rate_at(self.step - 1))

    def _train_step(self, batch: Batch) -> tuple[float, dict[str, float]]:
        config = self.config
        self.network.train()
        if config.freeze_norm:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        rate = config.rate_at(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        total, terms = 0.0, dict[str, float]()
        size = len(batch.image)
        part = config.micro_batch or size
        for start in range(0, size, part):
            share = min(part, size - start) / size
            loss, found = self._loss(batch.image[start : start + part], batch.targets[start : start + part])
            self.scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) * share
            for name, term in found.items():
                terms[name] = terms.get(name, 0.0) + float(term) * share
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
        if torch.isfinite(norm):  # one broken batch must not end the run
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self._update_average()
        return total, terms

    def _loss(self, image: Tensor, targets: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        image = image.to(self.device).contiguous(memory_format=torch.channels_last)
        half = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        hinted = self.distillation is not None and self.step < self.config.hint_until * self.config.steps
        with torch.autocast(self.device.type, half) if self.config.amp else nullcontext():
            features = self.network.pyramid(image)
            probability, threshold = self.network.head(features), self.network.thr(features)
            distance = self.distillation(image, features) if self.distillation is not None and hinted else None
        target, weight, height, band = targets.to(self.device).unbind(dim=1)
        factors = self.config.loss
        loss, terms = db_loss(probability.float()[:, 0], threshold.float()[:, 0], target, weight, height, band, factors)
        if distance is None:
            return loss, terms
        return loss + self.config.hint * distance, terms | {"hint": distance.detach()}

    @torch.no_grad()
    def _update_average(self) -> None:
        # Early averages forget quickly: (1 + n) / (10 + n) rises to the final decay.
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        averaged, current = self.average.state_dict(), self.network.state_dict()
        floats = [key for key, value in averaged.items() if value.is_floating_point()]
        torch._foreach_lerp_([averaged[key] for key in floats], [current[key] for key in floats], 1 - decay)
        for key, value in averaged.items():
            if not value.is_floating_point():
                value.copy_(current[key])

    def save(self, path: Path) -> None:
        """Writes a checkpoint, atomically; loadable with ``weights_only=True``."""
        content = {
            "format": 1,
            "step": self.step,
            "config": self.config.plain(),
            "model": self.network.state_dict(),
            "ema": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "hint": self.distillation.state_dict() if self.distillation is not None else {},
            "random": torch.get_rng_state(),
            "notes": self.notes,
        }
        with atomic_write(path, sync=True) as unfinished:
            torch.save(content, unfinished)

    def restore(self, path: Path) -> None:
        """Continues from a checkpoint exactly where it was saved.

        Raises:
            ModelError: not a checkpoint of this trainer, with the file's name.
        """
        content = load_plain(path)
        if not isinstance(content, dict) or content.get("format") != 1:
            raise ModelError(f"{path}: not a checkpoint of ocr-detector train")
        try:
            self.network.load_state_dict(content["model"])
            self.average.load_state_dict(content["ema"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            if self.distillation is not None:
                self.distillation.load_state_dict(content["hint"])
            torch.set_rng_state(content["random"])
            self.step, self.notes = int(content["step"]), dict(content["notes"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(f"{path}: a checkpoint of something else ({first_line(error, 200)})") from None


def revive_norms(network: nn.Module) -> None:
    """Resets BatchNorm statistics that are not finite (variances above 65504 overflow in fp16 files).

    An infinite variance would stay infinite for ever, since the running average only ever mixes it with new ones, and
    turn into NaN in the weights' average; the first batches set it again.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.nan_to_num_(0.0, 0.0, 0.0)
            module.running_var.copy_(torch.where(module.running_var.isfinite(), module.running_var, 1.0))


class _FullPrecisionConv(nn.Conv2d):
    """A convolution that stays out of autocast."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def _keep_depthwise_in_fp32(network: nn.Module) -> None:
    """oneDNN's backward pass of bf16 depthwise convolutions is 4 to 9 times slower than that of fp32 ones."""
    for module in network.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1:
            module.__class__ = _FullPrecisionConv


def parameter_groups(
    learned: Iterable[tuple[str, nn.Parameter]], trunk_lr: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Four groups: trunk and the rest (own rates), each with and without weight decay (biases, norms: none).

    Args:
        learned: parameters with their names in the network.
        trunk_lr: ``factor`` of the trunk's groups; that of the rest is 1.
        weight_decay: of the groups with one.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in learned:
        trunk = not name.startswith(("fpn.", "head.", "thr."))
        groups.setdefault((trunk, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": members, "factor": trunk_lr if trunk else 1.0, "weight_decay": weight_decay if decays else 0.0}
        for (trunk, decays), members in groups.items()
    ]


def _make_optimizer(config: TrainConfig, network: DBNet, hint: FeatureDistillation | None) -> torch.optim.Optimizer:
    learned = [*network.named_parameters(), *(hint.named_parameters("head") if hint else ())]
    params = parameter_groups(learned, config.trunk_lr, config.weight_decay)
    if config.optimizer == "sgd":
        return torch.optim.SGD(params, lr=config.lr, momentum=0.9)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(params, lr=config.lr, betas=(0.9, 0.99), foreach=True)
    raise ValueError(f"unknown optimizer {config.optimizer!r}; choose adamw or sgd")
