"""One model over pictures in a process of its own, timed; started by bench_frontier.py.

    python frontier_runner.py ours MODEL LIMIT_SIDE IMAGE...
    python frontier_runner.py peer FILE.onnx LIMIT_SIDE IMAGE...

One JSON line a picture: image, ms (resized pixels to boxes: normalise, network, boxes), boxes; then one with the
peak RSS. The first picture is run twice; its first time is not told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.postprocess import Box
from tests.bench.peak import own_peak_mb

Find = Callable[[Path], tuple[list[Box], float]]


def ours(model: str, limit_side: int) -> Find:
    from detector.memory import configure_process
    from detector.predictor import TextDetector

    configure_process()
    detector = TextDetector(model, runtime="onnxruntime", limit_side=limit_side, threads=1)

    def find(image: Path) -> tuple[list[Box], float]:
        detection = detector.detect(image)
        return detection.boxes, detection.seconds["infer"] + detection.seconds["post"]

    return find


def peer(model: str, limit_side: int) -> Find:
    from tests.bench.ppocr import PADDLE_THRESHOLDS, PeerNetwork

    network = PeerNetwork(Path(model), PADDLE_THRESHOLDS)
    return lambda image: network.detect(image, limit_side)


def main() -> None:
    kind, model, limit_side, *images = sys.argv[1:]
    find = {"ours": ours, "peer": peer}[kind](model, int(limit_side))
    find(Path(images[0]))
    for image in images:
        boxes, seconds = find(Path(image))
        corners = [[list(point) for point in box.points] for box in boxes]
        print(json.dumps({"image": image, "ms": seconds * 1000, "boxes": corners}), flush=True)
    print(json.dumps({"peak_mb": own_peak_mb()}), flush=True)


if __name__ == "__main__":
    main()
