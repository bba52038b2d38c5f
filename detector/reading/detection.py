"""What a `Detection` can tell of itself. Every import that costs something is made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from detector.postprocess import Box
    from detector.reading.line import Line, Word


class DetectionViews:
    """Methods of `detector.Detection`: its text, its words, pictures of it."""

    __slots__ = ()

    # The fields of Detection that are used here:
    width: int
    height: int
    boxes: list[Box]
    input_size: tuple[int, int]
    flags: tuple[str, ...]
    seconds: dict[str, float]
    lines: list[Line] | None

    def _read(self) -> list[Line]:
        if self.lines is None:
            raise ValueError("this page was not read: TextDetector(read=NAME), or detect(..., read=NAME)")
        return self.lines

    @property
    def text(self) -> str:
        """The page's text in reading order: a row a line, an empty line between blocks.

        Raises:
            ValueError: the page was not read.
        """
        from detector.reading.text import page_text

        return page_text([box.points for box in self.boxes], [line.text for line in self._read()])

    @property
    def words(self) -> list[Word]:
        """All words with their places, in reading order.

        Raises:
            ValueError: the page was not read.
        """
        return [word for line in sorted(self._read(), key=lambda line: line.order) for word in line.words]

    def draw(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A copy of the page with its boxes drawn in.

        Args:
            pixels: (H, W, 3) uint8 RGB, the page at any size.
        """
        import cv2
        import numpy as np

        drawn = pixels.copy()
        scale = (pixels.shape[1] / self.width, pixels.shape[0] / self.height)
        corners = [np.round(np.array(box.outline) * scale).astype(np.int32) for box in self.boxes]
        cv2.polylines(drawn, corners, True, (255, 45, 85), max(1, round(max(pixels.shape) / 800)), cv2.LINE_AA)
        return drawn

    def crops(self, pixels: npt.NDArray[np.uint8], height: int | None = None) -> Iterator[npt.NDArray[np.uint8]]:
        """Every box as an upright strip, in the boxes' order; vertical lines are turned.

        Args:
            pixels: (H, W, 3) uint8 RGB, the page at any size.
            height: of the strips, pixels; None: each as high as it is.
        """
        import numpy as np

        from detector.reading.crop import cut, reading_quad

        scale = np.array([pixels.shape[1] / self.width, pixels.shape[0] / self.height])
        for box in self.boxes:
            yield cut(pixels, reading_quad(np.array(box.points, np.float64) * scale), height)

    def to_dict(self) -> dict[str, Any]:
        """What a record of `ocr-detector detect` has of it, ready for JSON: size, boxes with their text, flags."""
        import msgspec

        from detector.record import box_records

        return {
            "width": self.width,
            "height": self.height,
            "boxes": msgspec.to_builtins(box_records(self.boxes, self.lines)),
            "input_size": list(self.input_size),
            "flags": list(self.flags),
            "seconds": dict(self.seconds),
        }
