"""A folder of things that commands of `ocr-detector` stumble over."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.detector.tiny_model import write_tiny_model

TRUTH = "10,10,90,10,90,40,10,40,text\n"


def make_data(folder: Path, *, image: bool = True, truth: str = TRUTH) -> None:
    for split in ("train", "val"):
        (folder / f"{split}_images").mkdir(parents=True)
        (folder / f"{split}_gts").mkdir()
        (folder / f"{split}_gts" / "a.txt").write_text(truth)
        if image:
            Image.fromarray(np.full((64, 128, 3), 200, np.uint8)).save(folder / f"{split}_images" / "a.png")
        else:
            (folder / f"{split}_images" / "a.png").write_bytes(b"no image at all")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of things to stumble over."""
    import onnx
    import torch

    folder = tmp_path_factory.mktemp("place")
    make_data(folder / "data")
    make_data(folder / "bad-image", image=False)
    make_data(folder / "bad-line", truth="1,2,3\n")
    for name in ("empty", "broken-run", "odd-run", "vast-run", "cards"):
        (folder / name).mkdir()
    (folder / "broken-run" / "config.json").write_text('{"no": "settings"}')
    (folder / "odd-run" / "config.json").write_text('{"data": "data", "epochs": "x"}')
    (folder / "odd-run" / "prune.json").write_text('{"model": "x", "ratio": 1, "int8": true, "training": {"data": 5}}')
    (folder / "broken-run" / "prune.json").write_text('{"no": "plan"}')
    (folder / "cards" / "mine.json").write_text("{")
    for name in ("vast-run/config.json", "vast-run/prune.json", "vast.onnx"):  # 4 KB of disk
        (folder / name).touch()
        os.truncate(folder / name, 6 << 30)
    (folder / "text.txt").write_text("hello\n")
    for name in ("junk.onnx", "junk.pt", "junk.safetensors"):
        (folder / name).write_bytes(b"junk" * 20)
    torch.save({"backbone.stage.weight": torch.zeros(3)}, folder / "keys.pt")
    write_tiny_model(folder / "model.onnx")
    write_tiny_model(folder / "cards" / "mine.onnx")
    write_tiny_model(folder / "input.onnx", input_name="x")
    write_tiny_model(folder / "fixed.onnx", sides=(320, 320))
    flat = onnx.load(str(folder / "fixed.onnx"))
    del flat.graph.input[0].type.tensor_type.shape.dim[2:]
    blind = onnx.load(str(folder / "model.onnx"))
    del blind.graph.input[:]
    (folder / "blind.onnx").write_bytes(blind.SerializeToString())
    (folder / "flat.onnx").write_bytes(flat.SerializeToString())
    return folder
