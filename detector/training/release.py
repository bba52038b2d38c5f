"""A finished checkpoint -> the three files that are shipped: int8 ONNX, fp16 safetensors, model card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from detector.atomic import atomic_write
from detector.convert.export import export_onnx
from detector.convert.quantize import quantize_static
from detector.errors import sha256_of
from detector.models import IMAGENET_MEAN, IMAGENET_STD, read_card
from detector.network.build import load_network, save_half
from detector.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class DataSource:
    """Something that a model learned from.

    Attributes:
        name: of the data set.
        use: how many images, and what served as their target.
        terms: of its owners.
    """

    name: str
    use: str
    terms: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that a model is known to get wrong.

    Attributes:
        what: in a sentence.
        picture: one of our own that shows it, path from the repository's root; "" for none.
    """

    what: str
    picture: str = ""


RRC_TERMS = "Robust Reading Competition (rrc.cvc.uab.es): its organisers' terms, research"
SOURCES = {
    "td500": DataSource("MSRA-TD500", "{} photos of signs, Chinese and English; lines", "no licence given"),
    "sroie": DataSource("SROIE 2019", "{} scanned receipts; lines", RRC_TERMS),
    "funsd": DataSource("FUNSD", "{} scanned forms; lines", "its own licence: non-commercial, research, educational"),
    "lines/mtwi": DataSource(
        "ICPR MTWI 2018", "{} pictures of shops, Chinese; lines", "its organisers' terms, research"
    ),
    "lines/kannada": DataSource("Kannada book pages", "{}; lines", "rights unknown"),
    "ic15": DataSource("ICDAR 2015 incidental text", "{} photos; the teacher's maps", RRC_TERMS),
    "mlt17": DataSource("ICDAR 2017 MLT", "{} photos, English and French; the teacher's maps", RRC_TERMS),
    "more": DataSource("varied photos with text", "{} of public repositories; the teacher's maps", "rights unknown"),
    "scenes": DataSource("scenes with text", "{} photos of public repositories; the teacher's maps", "rights unknown"),
    "docs": DataSource(
        "scans and PDF pages", "{} of public repositories, in many scripts; the teacher's maps", "rights unknown"
    ),
    "backgrounds": DataSource(
        "photos of ImageNet's classes", "{}, mostly text-free; the teacher's maps", "ImageNet: research"
    ),
    "synthetic": DataSource(
        "synthetic signs and documents", "{}, drawn in free fonts (Noto, DejaVu, Liberation and others)", "our own"
    ),
}
"""What `line_level` learns from. Only the images' influence on the weights is shipped, never an image."""

TEACHER = DataSource("PP-OCRv6 small", "the teacher: its probability maps of the photos above", "Apache-2.0")

FAILURES = (
    Failure("Fences, fins and other rows of equal strokes may be taken for text.", "examples/hard/fence.jpg"),
    Failure("Lettering along a curve is missed or cut: boxes are straight.", "examples/hard/curved.jpg"),
    Failure("Hollow, brush-like or very stylised lettering is often missed.", "examples/hard/outlined.jpg"),
    Failure(
        "Print thinner than about 6 pixels at the network's input size is missed.", "examples/hard/small-print.jpg"
    ),
    Failure("Low-contrast and glaring signs, brush lettering and very large letters are often missed."),
)
"""Of the models so far; look at docs/models.md after a release and keep what is still true."""

LICENCE = "Apache-2.0. The data sets' own terms are listed under data; no image of theirs is redistributed."


@dataclass(frozen=True, slots=True)
class CardNotes:
    """What the card says besides the technical facts.

    Attributes:
        recipe: how it was trained, in a few sentences.
        data: what it was trained on.
        failures: what it is known to get wrong.
        thresholds: of box formation; chosen on validation data.
    """

    recipe: str
    data: Sequence[DataSource] = ()
    failures: Sequence[Failure] = FAILURES
    thresholds: Thresholds = field(default_factory=Thresholds)


def sources(counts: Mapping[str, int]) -> list[DataSource]:
    """What a card says of the data: the folders of `SOURCES` with their numbers of images, and the teacher."""
    used = [replace(SOURCES[name], use=SOURCES[name].use.format(count)) for name, count in counts.items() if count]
    return [*used, TEACHER]


def release(checkpoint: Path, folder: Path, name: str, images: Sequence[Path], notes: CardNotes) -> Path:
    """Writes NAME.fp16.safetensors, NAME.int8.onnx and NAME.json; returns the card's path.

    The int8 file is made from the rounded fp16 weights, so that both are the same network.

    Args:
        checkpoint: of the trainer (its EMA weights), or weights.
        folder: to write into; made if it is not there.
        name: of the model.
        images: for calibration; training images, never validation ones.
        notes: for the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    half = folder / f"{name}.fp16.safetensors"
    save_half(load_network(checkpoint).state_dict(), half)
    network = load_network(half)
    int8 = folder / f"{name}.int8.onnx"
    with tempfile.TemporaryDirectory() as scratch:
        full = Path(scratch) / "fp32.onnx"
        export_onnx(network, full, (640, 640), dynamic=True)
        quantize_static(full, int8, images)
    card = folder / f"{name}.json"
    facts = {
        "name": name,
        "sha256": sha256_of(int8),
        "files": {"int8_onnx": int8.name, "fp16_safetensors": half.name},
        "backbone": network.backbone,
        "width": network.width,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "level": "line",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        **thresholds_on_card(notes.thresholds),
        "scores": {},
        "licence": LICENCE,
        "data": [asdict(source) for source in notes.data],
        "recipe": notes.recipe,
        "failures": [asdict(failure) for failure in notes.failures],
    }
    _write(card, facts)
    return card


def thresholds_on_card(thresholds: Thresholds) -> dict[str, float]:
    """Thresholds as a card's fields."""
    fields = {
        "binarize": thresholds.binarize,
        "box_threshold": thresholds.box_threshold,
        "unclip_ratio": thresholds.unclip_ratio,
    }
    return {name: round(value, 4) for name, value in fields.items()}


def add_thresholds(card: Path, thresholds: Thresholds, chosen_on: str) -> None:
    """Writes chosen thresholds of box formation into a card, and the pages that they were chosen on, in words."""
    _change(card, thresholds_on_card(thresholds) | {"chosen_on": chosen_on})


def add_scores(card: Path, scores: Mapping[str, float]) -> None:
    """Writes measured scores into a card, such as {"td500 val @640 int8": 0.69}."""
    _change(card, {"scores": dict(scores)})


def _change(card: Path, fields: Mapping[str, Any]) -> None:
    _write(card, {**read_card(card), **fields})


def _write(card: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(card, sync=True) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
