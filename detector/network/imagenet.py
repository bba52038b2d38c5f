"""ImageNet weights of a trunk, as torchvision publishes them: checked by sha256, and opened as plain weights alone.

Not `weights="DEFAULT"`: torchvision compares 8 or 10 hex digits of a file that it downloads and nothing of one that is
there, and unpickles both.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from http.client import HTTPException
from io import BytesIO
from pathlib import Path
from urllib.request import build_opener

import torch
from torch import nn

from detector.atomic import atomic_write
from detector.errors import ModelError
from detector.http.few_headers import HTTPHandler, HTTPSHandler
from detector.network.plain_weights import check_plain, load_plain

ADDRESS = "https://download.pytorch.org/models/"
PINNED = {
    "mobilenet_v3_small": (
        "mobilenet_v3_small-047dcff4.pth",
        "047dcff4addef86ea5bc2eff13c9614dc11f47ab1160d0a71a25e7db994f4e1f",
    ),
    # Nobody publishes more of its sha256 than the 40 bits in its name, and no copy was at hand to hash.
    "shufflenet_v2_x1_0": ("shufflenetv2_x1-5666bf0f80.pth", "5666bf0f80"),
}
"""Trunk -> name of its file, and how its sha256 begins (hex)."""

MOST_BYTES = 32 << 20  # they have 10 MB


def load_imagenet(trunk: nn.Module, backbone: str) -> None:
    """Gives a trunk of torchvision's its ImageNet weights, from torch's cache (TORCH_HOME) or the internet.

    Args:
        trunk: torchvision's whole network, with its classifier.
        backbone: our name of it.

    Raises:
        OSError: it is not here and could not be downloaded, or what came is not the pinned file.
        ModelError: what lies in the cache is not the pinned file, with its name.
    """
    name, digest = PINNED[backbone]
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if not is_pinned(content, digest):
            raise ModelError(f"{path}: not the file that torchvision publishes (another sha256); remove it")
    else:
        content = _download(ADDRESS + name)
        if not is_pinned(content, digest):
            raise OSError(f"{ADDRESS}{name} gave another file (another sha256)")
        with suppress(OSError):  # not to be written, or full: it is downloaded again the next time
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, sync=True) as unfinished:
                unfinished.write_bytes(content)
    state = load_plain(path, BytesIO(content))  # the bytes that were checked, whatever the file has become
    check_plain(state)
    try:
        trunk.load_state_dict(state)
    except RuntimeError:
        raise ModelError(f"{path}: holds no {backbone}; remove it") from None


def is_pinned(content: bytes, digest: str) -> bool:
    """Whether the sha256 of a whole file begins so."""
    return len(content) <= MOST_BYTES and hashlib.sha256(content).hexdigest().startswith(digest)


def _download(address: str) -> bytes:
    try:
        with build_opener(HTTPHandler, HTTPSHandler).open(address) as answer:
            content: bytes = answer.read(MOST_BYTES + 1)
    except HTTPException as error:
        raise OSError(f"{address}: {error!r}") from None
    return content
