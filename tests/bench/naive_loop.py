"""The reference that we replace: torch eager in fp32, every picture decoded whole and stretched to 800x800.

    python tests/bench/naive_loop.py IMAGE...

One line a picture, "path<TAB>boxes<TAB>seconds". It has no memory limit, no admission and no guard, on purpose.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.models import IMAGENET_MEAN, IMAGENET_STD, weights_path
from detector.network.build import load_network
from detector.postprocess import find_boxes
from detector.thresholds import Thresholds


def main() -> None:
    torch.set_num_threads(1)
    network = load_network(weights_path("dbnet-resnet18", "fp16_safetensors"))
    for name in sys.argv[1:]:
        started = time.perf_counter()
        picture = cv2.imread(name)
        if picture is None:
            print(name, -1, 0.0, sep="\t", flush=True)
            continue
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        small = cv2.resize(rgb, (800, 800)).astype(np.float32) / 255
        batch = ((small - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32)).transpose(2, 0, 1)[
            None
        ]
        with torch.no_grad():
            probability = network(torch.from_numpy(np.ascontiguousarray(batch)))[0, 0].numpy()
        height, width = picture.shape[:2]
        boxes = find_boxes(probability, (width / 800, height / 800), (width, height), Thresholds())
        print(name, len(boxes), round(time.perf_counter() - started, 4), sep="\t", flush=True)


if __name__ == "__main__":
    main()
