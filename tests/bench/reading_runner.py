"""One program that detects and reads pictures, timed; started by bench_reading.py inside that program's environment.

    python reading_runner.py NAME IMAGE...     NAME: rapidocr, or ours:DETECTOR:RECOGNISER:LIMIT_SIDE

One JSON line a picture: image, cpu and wall (s, file to text), boxes, texts; then one with the peak RSS. The first
picture is run twice; its first time is not told.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.peak import own_peak_mb
from tests.bench.peer_runner import one_thread

Read = Callable[[str], tuple[list[list[list[float]]], list[str]]]


def ours(model: str, reader: str, limit_side: int) -> Read:
    from detector.memory import configure_process
    from detector.predictor import TextDetector

    configure_process()
    detector = TextDetector(model, runtime="onnxruntime", limit_side=limit_side, threads=1, read=reader)

    def read(name: str) -> tuple[list[list[list[float]]], list[str]]:
        found = detector.detect(Path(name))
        return [[list(point) for point in box.points] for box in found.boxes], [line.text for line in found.lines or ()]

    return read


def rapidocr() -> Read:
    import cv2
    from rapidocr import RapidOCR  # type: ignore[import-not-found]

    engine = RapidOCR(params={"Global.log_level": "error"})

    def read(name: str) -> tuple[list[list[list[float]]], list[str]]:
        found = engine(cv2.imread(name))
        if found.boxes is None:
            return [], []
        return [box.tolist() for box in found.boxes], list(found.txts)

    return read


def main() -> None:
    logging.disable(logging.INFO)
    name, *images = sys.argv[1:]
    if name == "rapidocr":
        one_thread()
        read = rapidocr()
    else:
        _, model, reader, limit_side = name.split(":")
        read = ours(model, reader, int(limit_side))
    read(images[0])
    for image in images:
        wall, cpu = time.perf_counter(), time.process_time()
        boxes, texts = read(image)
        spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps({"image": image, **spent, "boxes": boxes, "texts": texts}), flush=True)
    print(json.dumps({"peak_mb": own_peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
