"""A finished checkpoint -> the three files that are shipped: int8 ONNX, fp16 safetensors, model card."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.export import export_onnx
from detector.network.build import load_network, save_half
from detector.quantize import quantize_static
from detector.weights import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True, slots=True)
class CardNotes:
    """What the card says besides the technical facts.

    Attributes:
        data: what the weights were trained on, licences included.
        recipe: how, in a few sentences.
        failures: what the model is known to get wrong.
        rules: binarize, box_threshold, unclip_ratio; chosen on validation data.
    """

    data: str
    recipe: str
    failures: str = ""
    rules: dict[str, float] = field(
        default_factory=lambda: {"binarize": 0.3, "box_threshold": 0.5, "unclip_ratio": 1.5}
    )


def release(checkpoint: Path, folder: Path, name: str, images: Sequence[Path], notes: CardNotes) -> Path:
    """Writes NAME.fp16.safetensors, NAME.int8.onnx and NAME.json; returns the card's path.

    The int8 file is made from the rounded fp16 weights, so that both are the same network.

    Args:
        checkpoint: of the trainer (its EMA weights), or weights.
        folder: to write into.
        name: of the model.
        images: for calibration; training images, never validation ones.
        notes: for the card.
    """
    half = folder / f"{name}.fp16.safetensors"
    save_half(load_network(checkpoint).state_dict(), half)
    network = load_network(half)
    int8 = folder / f"{name}.int8.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "fp32.onnx"
        export_onnx(network, full, (640, 640), dynamic=True)
        quantize_static(full, int8, images)
    card = folder / f"{name}.json"
    content: dict[str, Any] = {
        "name": name,
        "sha256": hashlib.sha256(int8.read_bytes()).hexdigest(),
        "files": {"int8_onnx": int8.name, "fp16_safetensors": half.name},
        "backbone": network.backbone,
        "width": network.width,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "level": "line",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        **notes.rules,
        "scores": {},
        "data": notes.data,
        "recipe": notes.recipe,
        "failures": notes.failures,
    }
    card.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def add_scores(card: Path, scores: dict[str, float]) -> None:
    """Writes measured scores into a card, such as {"td500 val @640 int8": 0.69}."""
    content = json.loads(card.read_text(encoding="utf-8"))
    content["scores"] = scores
    card.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
