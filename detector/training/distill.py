"""A teacher for fine-tuning: any DB-family ONNX file, its maps of all training pages kept in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from detector.atomic import atomic_write
from detector.errors import ModelError, sha256_of, show
from detector.predictor import TextDetector
from detector.training.dataset import TrainingPage
from detector.training.run_folder import RunFolderError
from detector.training.teacher import cache_page, input_size, resize

LIMIT = 960  # longest side shown to the teacher, pixels
KEPT = 1280  # longest side of the copies that maps belong to
SAY_EVERY = 50


class Mapper:
    """Runs the teacher by its card, as `detector.predictor` runs any model.

    Args:
        model: keeps this project's ONNX contract.
        threads: of one inference.

    Raises:
        ModelError: the file cannot be loaded.
    """

    def __init__(self, model: Path, threads: int) -> None:
        self._detector = TextDetector(model, runtime="onnxruntime", threads=threads)

    def ensemble(self, pixels: np.ndarray, limits: tuple[int, ...]) -> np.ndarray:
        """Mean map of a page over several sizes.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            limits: longest sides of the network's input, pixels.

        Returns:
            (H, W) float32 in [0, 1].
        """
        height, width = pixels.shape[:2]
        maps = [
            cv2.resize(self._detector.probability(resize(pixels, *input_size(height, width, limit))), (width, height))
            for limit in limits
        ]
        return np.asarray(np.mean(maps, axis=0, dtype=np.float32))


def load_teacher(file: Path, folder: Path, threads: int) -> Mapper:
    """The teacher, taken over into ``folder`` if it is another project's (see `detector.convert.import_onnx`).

    Raises:
        ModelError: not there, or no DB-family network that is known; one line with the file's name.
        RunFolderError: something that is not ours has the folder's name.
    """
    from detector.convert.import_weights import ImportWeightsError, import_onnx

    known, mark = folder / "teacher.onnx", folder / "teacher.sha256"
    if file.is_file():
        digest = sha256_of(file).encode()
        if not file.resolve().is_relative_to(folder.resolve()) and not _is_marked(folder, mark, digest):
            _empty(folder, mark)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(mark, sync=True) as unfinished:
            unfinished.write_bytes(digest)
    elif not known.is_file():
        raise ModelError(f"{file}: no such file; --distill wants the .onnx file of a teacher")
    if known.is_file():  # a resumed run
        return Mapper(known, threads)
    try:
        return Mapper(file, threads)
    except ModelError:
        pass  # not one that keeps our contract
    try:
        import_onnx(file, known)
    except ImportWeightsError as error:
        raise ModelError(f"{error} (ocr-detector import-weights, then give its result to --distill)") from None
    return Mapper(known, threads)


def _is_marked(folder: Path, mark: Path, digest: bytes) -> bool:
    """Whether the folder holds the maps of this teacher.

    Raises:
        RunFolderError: it has no mark, and something in it: it is none of ours.
    """
    if mark.is_file():
        with mark.open("rb") as content:
            return content.read(len(digest) + 1) == digest
    if folder.is_dir() and any(not entry.name.endswith(".part") for entry in folder.iterdir()):
        raise RunFolderError(
            f"{show(folder)}: is not of ocr-detector train (it has no {mark.name}), which would keep a teacher's maps "
            "there; move it, or choose another -o"
        )
    return False


def _empty(folder: Path, mark: Path) -> None:
    """Removes the maps of another teacher; the mark stays to the last, so that a killed run finds it."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != mark:
            entry.unlink()


def teach(pages: list[TrainingPage], teacher: Mapper, folder: Path, say: Callable[[str], None]) -> list[TrainingPage]:
    """The same pages with the teacher's maps beside shrunk copies; text that only the teacher sees is doubted.

    Args:
        pages: with their own ground truth.
        teacher: as loaded.
        folder: for the copies and maps; what is there already is used.
        say: gets lines for the user.
    """
    taught = []
    for number, page in enumerate(pages):
        kept = cache_page(page.image, folder / f"{number:06}", teacher, limits=(LIMIT,), keep_side=KEPT)
        taught.append(replace(page, image=kept.image, quads=page.quads * np.float32(kept.scale), teacher=kept.teacher))
        if (number + 1) % SAY_EVERY == 0 or number + 1 == len(pages):
            say(f"teacher: {number + 1} of {len(pages)} pages")
    return taught
