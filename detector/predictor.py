"""TextDetector: an image in, boxes out. The only class most callers need."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from detector.errors import CorruptImage, NotFound, TooLarge, is_out_of_memory
from detector.images.page import DEFAULT_MAX_BYTES, DEFAULT_MAX_PIXELS, MakeRoom, Page, open_page, open_strips
from detector.images.picture import Channels, Picture, picture_page
from detector.images.remarks import is_blank, remarks
from detector.images.sizes import needs_tiles, overview_limit, target_size
from detector.images.source import Source, reopenable
from detector.images.turning import lies_on_its_side, reads_better
from detector.memory import decode_budget, resident_bytes
from detector.models import DEFAULT_MODEL
from detector.postprocess import Box, Map, find_boxes
from detector.preprocess import Normaliser, normalise
from detector.reading.detection import DetectionViews
from detector.runtimes.choice import load_model
from detector.thresholds import Shape, Thresholds, check_shape
from detector.tiling import WholePage, blend_overview, merged_map

if TYPE_CHECKING:
    from detector.reading.line import Line
    from detector.reading.reader import LineReader

__all__ = ["Box", "Detection", "ModelInfo", "TextDetector", "normalise"]

NETWORK_BYTES_PER_PIXEL = 70
"""What a run of dbnet-resnet18 takes beside the page (ONNX Runtime, measured at 1280 to 2048); smaller ones less."""

READING_BYTES = 64 * 2**20
"""What reading takes beside page and networks: ONNX Runtime's memory for one batch of lines (ppocr-v6-rec-small)."""
THIN_MARGIN = 1.1
"""A page of this many times limit_side² pixels (a long one, see `target_size`) is run in tiles; sides are rounded."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which network made the boxes.

    Attributes:
        name: such as "dbnet-resnet18".
        sha256: of the model file, hex.
        runtime: library and precision, such as "onnxruntime-int8".
    """

    name: str
    sha256: str
    runtime: str


@dataclass(frozen=True, slots=True)
class Detection(DetectionViews):
    """What was found on one page.

    Attributes:
        width, height: original upright size, pixels (PDF page: at 200 dpi).
        boxes: in those pixels.
        input_size: (height, width) at which the network saw the page, before padding.
        flags: of "downscaled", "exif_rotated", "page_rendered", "degraded", "tiled", "attachments", "damaged",
            "turned", "blank", "small_text_lost", "more_pictures", "xfa".
        seconds: wall time of "open" (read, decode, shrink), "infer" (normalise, network; of a page in
            strips decoding too), "post" (boxes), if the page lay on its side "turn" (a second look), and if it was
            read "read".
        share: of its rows that could be read, of a damaged page.
        lines: what stands in the boxes, in their order; None if the page was not read.
    """

    width: int
    height: int
    boxes: list[Box]
    input_size: tuple[int, int]
    flags: tuple[str, ...]
    seconds: dict[str, float]
    share: float | None = None
    lines: list[Line] | None = None


class _Budget(TypedDict):
    max_pixels: int
    max_bytes: int
    make_room: MakeRoom


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the network said of a page: map, original size, flags, and when (perf_counter) the page was open."""

    map: Map
    width: int
    height: int
    flags: tuple[str, ...]
    ready: float
    share: float | None = None
    blank: bool = False


class TextDetector:
    """Finds text on pages. Holds the loaded network; not for use by several threads at once.

    Nothing of the process is changed, but by the runtime "torch" (its number of threads) and by libvips, which reads
    large pages (no cache, one thread); see `detector.configure_process` for what suits a process that only detects.

    Args:
        model: name of a shipped model, or path of an .onnx file (torch runtime: of .safetensors).
        runtime: a name of `detector.runtimes.RUNTIMES`, or "auto": what `ocr-detector tune` found best here for this
            model and size, else ONNX Runtime.
        threads: of one inference; 1 is best where several workers share a machine. None: as tuned, else 1.
        limit_side: longest side shown to the network, pixels; pages are only ever shrunk.
        max_pixels: pages that claim more are refused (TooLarge).
        max_bytes: pages whose decoding needs more memory (estimated) are opened smaller or refused (TooLarge).
        memory_limit: of this whole process, bytes; what the process with its network holds is taken off, and the rest
            lowers `max_bytes`. Pages for which the network itself would need more are run in tiles. None: no limit.
        thresholds: of the post-processing, instead of those on the model's card.
        tiled: pages larger than a tile of 672x672 are run in overlapping tiles (detector.tiling); `limit_side` then
            costs time and a few megabytes of map, not memory of the network.
        read: name of a recogniser on this machine, or path of its .onnx file: the boxes of every page are read too.
        shape: of the boxes: "quad" (tilted rectangles), "rect" (along the page's axes), or "polygon" (quads that also
            have an outline, which follows curved lettering).

    Raises:
        ModelError: no such model or runtime, or it cannot be loaded.
        ValueError: no such shape.

    Attributes:
        info: which network it is.
        threads: of one inference, as given or as tuned.
    """

    def __init__(
        self,
        model: str | Path = DEFAULT_MODEL,
        *,
        runtime: str = "auto",
        threads: int | None = 1,
        limit_side: int = 640,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        max_bytes: int = DEFAULT_MAX_BYTES,
        memory_limit: int | None = None,
        thresholds: Thresholds | None = None,
        tiled: bool = False,
        read: str | Path | None = None,
        shape: Shape = "quad",
    ) -> None:
        self.card, self._runtime, threads = load_model(model, runtime, threads, limit_side, tiled, memory_limit)
        self.threads = threads
        self._normalise = Normaliser(self.card.mean, self.card.std, self.card.channels, stretch=self.card.stretch)
        self.thresholds = thresholds or self.card.thresholds
        self.shape = check_shape(shape)
        self.limit_side = limit_side
        self.tiled = tiled
        self.max_pixels = max_pixels
        self.memory_limit = memory_limit
        self.max_bytes = self._most_bytes = max_bytes
        self._reader: LineReader | None = None
        self._read = read
        if read is not None:
            self.load_reader(read)
        self._fit_memory()
        self.info = ModelInfo(self.card.name, self.card.sha256, self._runtime.name)

    def _fit_memory(self) -> None:
        """What a page may take: what the limit leaves beside the networks, and a batch of lines if they are read."""
        if self.memory_limit is not None:
            held = resident_bytes() + (READING_BYTES if self._reader else 0)
            self.max_bytes = min(self._most_bytes, decode_budget(self.memory_limit, held))

    def load_reader(self, reader: str | Path) -> LineReader:
        """The recogniser, loaded now unless it is the one that is loaded already.

        Raises:
            ModelError: it is not on this machine, or cannot be loaded.
        """
        from detector.reading.reader import LineReader

        if self._reader is None or str(reader) not in (self._reader.name, self._reader.source):
            self._reader = LineReader(reader, self.threads)
            self._fit_memory()
        return self._reader

    def detect(
        self,
        source: Source | Picture,
        page: int = 0,
        *,
        limit_side: int | None = None,
        channels: Channels = "rgb",
        read: str | Path | None = None,
    ) -> Detection:
        """Finds the text on one page, and reads it if the detector or this call names a recogniser.

        Args:
            source: path of an image, TIFF or PDF; such a file's content as bytes; a binary file object; a numpy array,
                (H, W, 3) or (H, W) uint8; or a PIL image. All are shrunk by the same rule.
            page: of a TIFF or PDF, counted from 0.
            limit_side: instead of the detector's own.
            channels: of an array's last axis: "rgb", or "bgr" as OpenCV has it.
            read: a recogniser instead of the detector's own.

        Raises:
            ImageError: NotFound, CorruptImage, UnsupportedFormat, TooLarge or NetworkFailed.
            MemoryError: there is no memory, whichever library says so, in whatever words.
        """
        started = time.perf_counter()
        if not isinstance(source, str | os.PathLike | np.ndarray | Image.Image):
            source = reopenable(source)
        try:
            seen = self._see(source, page, limit_side or self.limit_side, channels)
            inferred = time.perf_counter()
            boxes = self._boxes(seen.map, seen.width, seen.height)
            done = turned = time.perf_counter()
            if lies_on_its_side(boxes):
                seen, boxes = self._look_again(source, page, limit_side or self.limit_side, channels, seen, boxes)
                turned = time.perf_counter()
            reader = self._read if read is None else read
            lines = None if reader is None else self._lines(reader, source, page, boxes, seen, channels)
        except Exception as error:
            if is_out_of_memory(error) and not isinstance(error, MemoryError):
                raise MemoryError(str(error)) from error
            raise
        seconds = {"open": seen.ready - started, "infer": inferred - seen.ready, "post": done - inferred}
        if turned != done:
            seconds["turn"] = turned - done
        if lines is not None:
            seconds["read"] = time.perf_counter() - turned
        flags = (*seen.flags, *remarks(seen.map.shape, (seen.width, seen.height), blank=seen.blank and not boxes))
        return Detection(seen.width, seen.height, boxes, seen.map.shape, flags, seconds, seen.share, lines)

    def _lines(
        self, name: str | Path, source: Source | Picture, page: int, boxes: list[Box], seen: _Seen, channels: Channels
    ) -> list[Line]:
        """Reads the boxes on the page opened again, as large as its lines need to be; detection is left as it was."""
        reader = self.load_reader(name)
        if not boxes:
            return []
        corners = [box.points for box in boxes]
        side = reader.side(corners, seen.width, seen.height)
        pixels = self._open(source, page, side, channels).pixels
        return reader.read(pixels, corners, seen.width, seen.height)

    def _look_again(
        self, source: Source | Picture, page: int, limit_side: int, channels: Channels, first: _Seen, boxes: list[Box]
    ) -> tuple[_Seen, list[Box]]:
        """The page turned upright, if it reads better so; its map is turned back before boxes are made of it."""
        try:
            opened = self._open(source, page, limit_side, channels)
        except TooLarge:  # it was read in strips, and cannot be held whole
            return first, boxes
        pixels = np.ascontiguousarray(np.rot90(opened.pixels))
        height, width = pixels.shape[:2]
        turned: Map = self._tiled(pixels) if self._in_tiles(height, width, limit_side) else self.probability(pixels)
        upright = cast("Map", np.ascontiguousarray(np.rot90(turned, -1)))
        seen = replace(first, map=upright, flags=(*first.flags, "turned"))
        again = self._boxes(seen.map, seen.width, seen.height)
        return (seen, again) if reads_better(again, boxes) else (first, boxes)

    def _see(self, source: Source | Picture, page: int, limit_side: int, channels: Channels) -> _Seen:
        """The page's map: of a page in memory, or, where tiles allow it, of one read in strips."""
        if (
            self.tiled
            and not isinstance(source, np.ndarray | Image.Image)
            and (seen := self._see_strips(source, page, limit_side))
        ):
            smaller = overview_limit(*seen.map.shape)
            if smaller is not None and smaller < limit_side:
                overview = self._see(source, page, smaller, channels).map
                blend_overview(cast("npt.NDArray[np.uint8]", seen.map), overview)
            return seen
        opened = self._open(source, page, limit_side, channels)
        ready = time.perf_counter()
        rest = (ready, opened.share, is_blank(opened.pixels))
        height, width = opened.pixels.shape[:2]
        if self._in_tiles(height, width, limit_side):
            merged = self._tiled(opened.pixels)
            return _Seen(merged, opened.width, opened.height, (*opened.flags, "tiled"), *rest)
        return _Seen(self.probability(opened.pixels), opened.width, opened.height, opened.flags, *rest)

    def _in_tiles(self, height: int, width: int, limit_side: int) -> bool:
        """Whether a page is run in tiles: as asked, or because the network would need too much memory for it whole."""
        too_large = height * width > THIN_MARGIN * limit_side * limit_side
        too_large |= self.memory_limit is not None and height * width * NETWORK_BYTES_PER_PIXEL > self.max_bytes
        return (self.tiled or too_large) and needs_tiles(height, width)

    def _see_strips(self, source: Source, page: int, limit_side: int) -> _Seen | None:
        """The map of a large page's tiles, without its overview; None if it is small, damaged or must be held whole."""
        try:
            with open_strips(source, page, limit_side=limit_side, **self._budget()) as large:
                if large is None or not needs_tiles(large.strips.height, large.strips.width):
                    return None
                ready = time.perf_counter()
                merged = merged_map(large.strips, self.probability)
                return _Seen(merged, large.width, large.height, (*large.flags, "tiled"), ready)
        except CorruptImage:  # whole one can see how much of it is there
            return None

    def _tiled(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, larger than a tile -> (H, W) uint8: its tiles and its overview."""
        height, width = pixels.shape[:2]
        merged = merged_map(WholePage(pixels), self.probability)
        limit = overview_limit(height, width)
        smaller = target_size(width, height, limit) if limit else (width, height)
        if smaller != (width, height):
            small = np.asarray(cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA), np.uint8)
            blend_overview(merged, self._tiled(small) if needs_tiles(*small.shape[:2]) else self.probability(small))
        return merged

    def _open(self, source: Source | Picture, page: int, limit_side: int, channels: Channels) -> Page:
        if not isinstance(source, np.ndarray | Image.Image):
            return open_page(source, page, limit_side=limit_side, **self._budget())
        if page:
            raise NotFound(f"a picture in memory has one page, page {page} (counted from 0) was asked for")
        return picture_page(source, limit_side=limit_side, max_pixels=self.max_pixels, channels=channels)

    def _budget(self) -> _Budget:
        return {"max_pixels": self.max_pixels, "max_bytes": self.max_bytes, "make_room": self._make_room}

    def _make_room(self, needed: int) -> None:
        """Memory that the network keeps from page to page goes back if the next page needs it."""
        if self.memory_limit is not None and needed > decode_budget(self.memory_limit, resident_bytes()):
            self._runtime.release()

    def detect_pixels(self, pixels: npt.NDArray[np.uint8]) -> list[Box]:
        """Finds the text in (H, W, 3) uint8 RGB as it is: nothing is shrunk. Boxes are in pixels of `pixels`."""
        height, width = pixels.shape[:2]
        return self._boxes(self.probability(pixels), width, height)

    def probability(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(H, W, 3) uint8 RGB -> (H, W) float32, the probability of text at every pixel."""
        found = self._runtime.probability(self._normalise(pixels))
        return self._normalise.restore(found, *pixels.shape[:2])

    def _boxes(self, probability: Map, width: int, height: int) -> list[Box]:
        map_height, map_width = probability.shape
        scale = (width / map_width, height / map_height)
        return find_boxes(probability, scale, (width, height), self.thresholds, self.shape)
