"""A CTC recogniser in ONNX Runtime: strips of pixels in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from detector.errors import ModelError, NetworkFailed, read_text
from detector.models import MOST_CARD_BYTES
from detector.reading.ctc import Decoded, decode
from detector.reading.models import ReaderCard
from detector.runtimes.onnx import open_session
from detector.runtimes.output import check_finite

STEP = 8
"""Pixels a step of the output stands for, in PP-OCR's and nearly all other networks: only used to foresee memory."""

BATCH_BYTES = 12 * 2**20
"""Of one batch's output: with 18,710 classes (75 KB a step) some 1,300 pixels of lines, or one longer line. More lines
at a time are not faster on one core."""

SIMILAR = 0.8
"""Lines are run together if the shortest is at least this much of the longest: padding is computed like text."""

ROUND = 32
"""Widths are rounded up to multiples of this: fewer shapes, for which memory is used again."""


class Recogniser:
    """Reads strips. Holds the loaded network; not for use by several threads at once.

    Args:
        card: of the network.
        threads: of one inference.

    Raises:
        ModelError: it cannot be loaded, is no recogniser, or has no list of its characters.
    """

    def __init__(self, card: ReaderCard, threads: int = 1) -> None:
        self.height = card.height
        self._session = open_session(card.path, threads)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 3:
            raise ModelError(f"{card.path}: is no CTC recogniser (image in, (lines, steps, classes) out)")
        self._given, self._found = inputs[0].name, outputs[0].name
        classes = outputs[0].shape[2]
        metadata = self._session.get_modelmeta().custom_metadata_map
        self._characters = _characters(card, metadata.get("character", ""), classes)
        self._classes = len(self._characters)
        mean, std = np.array(card.mean, np.float32), np.array(card.std, np.float32)
        self._scale, self._shift = 1 / (np.float32(255) * std), mean / std
        self._flip = card.channels == "bgr"

    def batches(self, widths: Sequence[int]) -> Iterator[list[int]]:
        """Which strips to read together: similar widths, and no more than BATCH_BYTES of output.

        Args:
            widths: of the strips, pixels.
        """
        batch, longest = list[int](), 0
        for number in sorted(range(len(widths)), key=lambda number: -widths[number]):
            full = (len(batch) + 1) * self._padded(longest) // STEP * self._classes * 4 > BATCH_BYTES
            if batch and (full or widths[number] < SIMILAR * longest):
                yield batch
                batch = []
            if not batch:
                longest = widths[number]
            batch.append(number)
        if batch:
            yield batch

    def _padded(self, width: int) -> int:
        return -(-width // ROUND) * ROUND

    def read(self, strips: Sequence[npt.NDArray[np.uint8]]) -> list[Decoded]:
        """Reads strips in one run.

        Args:
            strips: (height, width, 3) uint8 RGB each.

        Raises:
            NetworkFailed: the output is no (lines, steps, classes) floats, or not finite where it is read.
        """
        width = self._padded(max(strip.shape[1] for strip in strips))
        batch = np.zeros((len(strips), 3, self.height, width), np.float32)
        for image, strip in zip(batch, strips, strict=True):
            ordered = strip[..., ::-1] if self._flip else strip
            image[:, :, : strip.shape[1]] = (ordered * self._scale - self._shift).transpose(2, 0, 1)
        (output,) = self._session.run([self._found], {self._given: batch})
        self._check(output, len(strips))
        return [
            decode(steps, self._characters, strip.shape[1] / width) for steps, strip in zip(output, strips, strict=True)
        ]

    def _check(self, output: object, lines: int) -> None:
        # Without the last class, the space, in networks whose number of classes is known at a run alone.
        classes = (self._classes, self._classes - 1)
        if (
            not isinstance(output, np.ndarray)
            or output.dtype.kind != "f"
            or output.ndim != 3
            or output.shape[0] != lines
            or not output.shape[1]
            or output.shape[2] not in classes
        ):
            found = f"{output.dtype} {output.shape}" if isinstance(output, np.ndarray) else f"a {type(output).__name__}"
            raise NetworkFailed(
                f"the recogniser's output is no text: expected float32 ({lines}, steps, {self._classes}), found {found}"
            )
        # The largest of each step is all that is read, and NaN counts as that: 0.2 ms for 12 MB.
        check_finite(output.max(axis=2))


def _characters(card: ReaderCard, metadata: str, classes: object) -> list[str]:
    """Characters by class: the blank, the list's, and a space, which PaddleOCR adds after its lists."""
    text = metadata or (_text(card.characters) if card.characters else "")
    if not text:
        raise ModelError(
            f"{card.path}: holds no list of its characters; put one beside it as {card.path.with_suffix('.txt').name}, "
            "a character a line"
        )
    listed = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    characters = ["", *listed, " "]
    if not isinstance(classes, int) or classes == len(characters):
        return characters
    if classes == len(characters) - 1:  # a list with its own space, or a network without one
        return characters[:-1]
    raise ModelError(f"{card.path}: knows {classes} classes, its list has {len(listed)} characters: not its list")


def _text(path: Path) -> str:
    try:
        return read_text(path, MOST_CARD_BYTES)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: the list of characters cannot be read ({error})") from error
