"""ImageNet weights: only the pinned file is opened, and nothing in it is run."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from detector.errors import ModelError
from detector.network import imagenet
from detector.network.build import build_network
from detector.network.torchvision_import import import_torchvision

KINDS = (("mobilenet_v3_small", True), ("shufflenet_v2_x1_0", False))


class Runs:
    """A pickle that makes a folder where it is opened."""

    def __init__(self, folder: Path) -> None:
        """Which one."""
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def saved(content: object, *, new: bool = True) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where torch keeps what it downloads; the internet gives what lies in ``served``."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(imagenet, "ADDRESS", (tmp_path / "served").as_uri() + "/")
    (tmp_path / "served").mkdir()
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    yield folder
    assert not (tmp_path / "code-ran").exists()


@pytest.mark.parametrize(("backbone", "new"), KINDS)
def test_a_strangers_file_is_not_opened(
    cache: Path, tmp_path: Path, backbone: str, new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: torchvision unpickled what lay in TORCH_HOME, unchecked, and a download of which 8 digits were right."""
    name, _ = imagenet.PINNED[backbone]
    kept, served = cache / name, tmp_path / "served" / name
    evil = saved(Runs(tmp_path / "code-ran"), new=new)
    trunk = torch.nn.Module()
    kept.write_bytes(evil)
    with pytest.raises(ModelError, match=rf"{name}: not the file that torchvision publishes .another sha256.; remove"):
        imagenet.load_imagenet(trunk, backbone)
    kept.unlink()
    with pytest.raises(OSError, match=name):
        imagenet.load_imagenet(trunk, backbone)
    served.write_bytes(evil)
    with pytest.raises(OSError, match="another sha256"):
        imagenet.load_imagenet(trunk, backbone)
    assert list(cache.iterdir()) == []
    for content, complaint in (
        (evil, "more than plain weights"),
        (saved({"a": torch.ones(1)}), f"holds no {backbone}"),
    ):
        served.write_bytes(content)  # whose sha256 were the pinned one, all the same
        monkeypatch.setitem(imagenet.PINNED, backbone, (name, hashlib.sha256(content).hexdigest()))
        with pytest.raises(ModelError, match=complaint):
            imagenet.load_imagenet(trunk, backbone)
        kept.unlink()


@pytest.mark.parametrize(("backbone", "new"), KINDS)
def test_the_pinned_file_is_taken(
    cache: Path, tmp_path: Path, backbone: str, new: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch saved it in 2019 and since; downloaded once."""
    trunk = getattr(import_torchvision().models, backbone)()
    content, name = saved(trunk.state_dict(), new=new), imagenet.PINNED[backbone][0]
    monkeypatch.setitem(imagenet.PINNED, backbone, (name, hashlib.sha256(content).hexdigest()[: 64 if new else 10]))
    (tmp_path / "served" / name).write_bytes(content)
    for _ in range(2):
        theirs, ours = trunk.state_dict(), build_network(backbone, width=16, pretrained=True).state_dict()
        assert len(same := theirs.keys() & ours.keys()) > 100
        assert all(torch.equal(theirs[key], ours[key]) for key in same)
        (tmp_path / "served" / name).unlink(missing_ok=True)
    assert (cache / name).read_bytes() == content
    monkeypatch.setattr(imagenet, "MOST_BYTES", 1000)
    assert not imagenet.is_pinned(content, "")
