"""A fetched public detector -> int8 under the same name: rewritten to our contract, calibrated on the user's images."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from detector.atomic import atomic_write
from detector.convert import quantize
from detector.convert.import_onnx import CONVENTIONS, convert
from detector.convert.onnx_file import read_onnx
from detector.errors import ModelError, is_file, read_json, sha256_of, show
from detector.public.models import PublicModel

LIMIT_SIDE = 640


def make_int8(model: PublicModel, fetched: Path, data: Path) -> Path:
    """Writes NAME.int8.onnx beside a fetched detector, and its card; the fp32 file goes, since a name has one card.

    Args:
        model: what was fetched.
        fetched: its .onnx file.
        data: a folder of calibration images, or one with train_images in it.

    Returns:
        The int8 file.

    Raises:
        ModelError: there are no images.
        OnnxImportError: the network cannot be rewritten.
    """
    folder = data / "train_images" if (data / "train_images").is_dir() else data
    images = sorted(file for file in folder.iterdir() if is_file(file)) if folder.is_dir() else []
    if not images:
        raise ModelError(f"{show(folder)}: no images in it; give some to calibrate on")
    convention = CONVENTIONS["ppocr"]
    rewritten, _ = convert(read_onnx(fetched), convention)
    mean, std = convention.rgb()
    card = read_json(model.card)
    for key in ("tensors", "channels"):
        card.pop(key, None)
    card |= {"mean": mean, "std": std, "calibrated_on": f"{min(len(images), quantize.CALIBRATION_IMAGES)} images"}
    target = fetched.with_name(f"{model.name}.int8.onnx")
    with tempfile.TemporaryDirectory() as unfinished:  # not beside the file, where others may write
        fp32 = Path(unfinished) / f"{model.name}.fp32.onnx"
        fp32.write_bytes(rewritten.SerializeToString())
        fp32.with_name(f"{model.name}.json").write_text(json.dumps(card), encoding="utf-8")
        int8 = Path(unfinished) / target.name
        quantize.quantize_static(
            fp32, int8, quantize.spread(images, quantize.CALIBRATION_IMAGES), limit_side=LIMIT_SIDE
        )
        card["sha256"] = sha256_of(int8)
        with atomic_write(target, sync=True) as part:
            shutil.copyfile(int8, part)
    with atomic_write(fetched.with_suffix(".json"), sync=True) as written:
        written.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    fetched.unlink()
    return target
