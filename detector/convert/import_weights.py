"""Weights that people already have -> a model of this project, with a card beside it that says how to use it.

Checkpoints are recognised by their keys (`detector.network.foreign_keys`), ONNX files by the names in them
(`detector.convert.import_onnx`). Files are only ever loaded as plain tensors; torch and onnx are imported when needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.atomic import atomic_write
from detector.convert.import_onnx import CONVENTIONS, TOLERANCE, Convention, convert, recognise
from detector.convert.onnx_file import OnnxImportError, read_onnx
from detector.errors import DetectorError, ModelError, sha256_of
from detector.models import IMAGENET_MEAN, IMAGENET_STD, card_file, read_card, split_name

if TYPE_CHECKING:
    from torch import Tensor

    from detector.network.foreign_keys import Layout

NESTED = ("state_dict", "model_state_dict", "model", "net", "network")
"""Where checkpoints keep the weights beside optimizer and epoch."""


class ImportWeightsError(DetectorError):
    """The file cannot be taken over; one line that names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written.

    Attributes:
        path: the .safetensors or .onnx file.
        card: the .json beside it.
        lines: what to tell the user about it.
    """

    path: Path
    card: Path
    lines: tuple[str, ...]


def import_checkpoint(source: Path, target: Path, name: str = "") -> Imported:
    """Takes over a ResNet-18 DBNet of ModelScope, MhLiao/DB or MMOCR.

    Args:
        source: what torch.save wrote (.pt, .pth, .ckpt, any name), or .safetensors.
        target: .safetensors (float32; for torch, fine-tuning and export) or .onnx (exported, compared with torch).
        name: for the card; default the target's.

    Raises:
        ImportWeightsError, ModelError: not such a file, or not such a network; one line with the file's name.
        ExportError: the .onnx file differs from torch.
        OSError: a file cannot be read or written.
    """
    from detector.network.foreign import PlainResNet18DBNet
    from detector.network.foreign_keys import LayoutError
    from detector.network.foreign_keys import convert as convert_keys

    card = _free_card(source, target)
    try:
        weights, layout, thresholds = convert_keys(read_foreign(source))
    except LayoutError as error:
        raise ImportWeightsError(f"{source}: {error}") from None
    width = len(weights["fpn.lat.0.weight"])
    lines = [f"{source.name}: {layout.name}, ResNet-18, pyramid {width} wide"]
    if not thresholds:
        lines.append("it has no threshold branch; fine-tuning will start with a fresh one")
    if target.suffix == ".onnx":
        from detector.convert.export import export_onnx

        network = PlainResNet18DBNet(width)
        network.load_state_dict(weights)
        for item in export_onnx(network.eval(), target, (320, 320), dynamic=True):
            lines.append(f"{item.runtime} {item.size[0]}x{item.size[1]}: largest difference {item.difference:.1e}")
    else:
        from safetensors.torch import save

        _write(target, save(weights))
    details = {
        "name": name or split_name(target)[0],
        "backbone": PlainResNet18DBNet.backbone,
        "width": width,
        **_normalisation(IMAGENET_MEAN, IMAGENET_STD),
        **_thresholds(layout),
        "imported": _origin(source, layout) | {"threshold_branch": thresholds},
    }
    return _finish(target, card, details, lines)


def import_onnx(source: Path, target: Path, name: str = "", convention: Convention | None = None) -> Imported:
    """Takes over a DB-family ONNX file: same network, our names, RGB, free sizes, its mean and std on the card.

    Args:
        source: the .onnx file.
        target: the .onnx file to write.
        name: for the card; default the target's.
        convention: how the network wants its pixels; None: recognised from the names in the file.

    Raises:
        ImportWeightsError: no such network, an unknown convention, or the result differs; one line.
        OSError: a file cannot be read or written.
    """
    if target.suffix != ".onnx":
        raise ImportWeightsError(f"{source}: an ONNX file stays one: give -o {target.with_suffix('.onnx').name}")
    card = _free_card(source, target)
    try:
        graph = read_onnx(source)
        family = recognise(graph, source)
        if convention is None:
            if family is None:
                raise OnnxImportError(
                    "nothing in it tells how it wants its pixels; say it with --like "
                    f"{'|'.join(CONVENTIONS)}, or with --channels, --mean and --std"
                )
            convention = CONVENTIONS[family]
        model, difference = convert(graph, convention)
    except OnnxImportError as error:
        raise ImportWeightsError(f"{source}: {error}") from None
    if not difference <= TOLERANCE:
        raise ImportWeightsError(
            f"{source}: not imported, ONNX Runtime gives maps that differ by {difference:.2g} (at most {TOLERANCE:g})"
        )
    _write(target, model.SerializeToString())
    details = {
        "name": name or split_name(target)[0],
        **_normalisation(*convention.rgb()),
        **({"stretch": True} if convention.stretch else {}),
        **_thresholds(convention),
        "imported": _origin(source, convention),
    }
    lines = [f"{source.name}: {convention.name}", f"onnxruntime: largest difference {difference:.1e}"]
    return _finish(target, card, details, lines)


def read_foreign(source: Path) -> dict[str, Tensor]:
    """The flat state dict in a file, wherever the file keeps it.

    Raises:
        ImportWeightsError, ModelError: none in it, or one of this project; one line with the file's name.
    """
    from detector.network.build import read_state
    from detector.network.plain_weights import check_plain, load_plain

    try:
        content = read_state(source) if source.suffix == ".safetensors" else load_plain(source)
    except ModelError as error:
        raise ImportWeightsError(
            f"{error}; of a checkpoint keep the state_dict() alone, with torch.save in the project that wrote it "
            "(MMOCR: tools/model_converters/publish_model.py), and import that"
        ) from None
    state = find_state(content)
    if state is None:
        raise ImportWeightsError(
            f"{source}: holds no weights of a network; save its state_dict() with torch.save and import that"
        )
    try:
        check_plain(state)
    except ModelError as error:
        raise ImportWeightsError(f"{source}: {error}") from None
    if "fpn.lat.0.weight" in state or (isinstance(content, dict) and "ema" in content and "format" in content):
        raise ImportWeightsError(f"{source}: is a model of this project already; use it as it is")
    return state


def find_state(content: Any) -> dict[str, Tensor] | None:
    """The state dict in what a checkpoint holds; None if there is none."""
    from torch import Tensor

    waiting, seen = [content], set[int]()
    while waiting:
        inside = waiting.pop()
        if not isinstance(inside, Mapping) or id(inside) in seen:  # a pickle may hold itself
            continue
        seen.add(id(inside))
        tensors = {str(key): value for key, value in inside.items() if isinstance(value, Tensor)}
        if tensors and len(tensors) == len(inside):
            return tensors
        waiting += [inside.get(key) for key in reversed(NESTED)]
    return None


def _free_card(source: Path, target: Path) -> Path:
    """The card's path, if nothing of the user's is in the way."""
    if target.exists() and target.samefile(source):
        raise ImportWeightsError(f"{source}: would be overwritten; choose another -o")
    card = card_file(target)
    if card.is_file():
        try:
            known = "imported" in read_card(card)
        except ModelError:
            known = False
        if not known:
            raise ImportWeightsError(f"{card}: is there already and no card of import-weights; choose another -o")
    return card


def _normalisation(mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, list[float]]:
    return {"mean": [round(value, 6) for value in mean], "std": [round(value, 6) for value in std]}


def _thresholds(origin: Layout | Convention) -> dict[str, float]:
    return {key: getattr(origin, key) for key in ("binarize", "box_threshold", "unclip_ratio")}


def _origin(source: Path, origin: Layout | Convention) -> dict[str, Any]:
    return {
        "file": source.name,
        "sha256": sha256_of(source),
        "layout": origin.name,
        "channels": "bgr" if origin.bgr else "rgb",
        **_normalisation(origin.mean, origin.std),
    }


def _finish(target: Path, card: Path, details: dict[str, Any], lines: list[str]) -> Imported:
    _write(card, (json.dumps(details, indent=2, ensure_ascii=False) + "\n").encode())
    lines.append(f"{target}: {target.stat().st_size / 1e6:.1f} MB, its card {card.name}")
    return Imported(target, card, tuple(lines))


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path, sync=True) as unfinished:
        unfinished.write_bytes(content)
