"""hmean of a torch network on held-out pages, by the same opening, boxes and protocol as `ocr-detector evaluate`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from detector.evaluation.annotations import Sample
from detector.evaluation.metrics import Counts, evaluate_image
from detector.images.page import open_page
from detector.models import IMAGENET_MEAN, IMAGENET_STD
from detector.network.dbnet import DBNet
from detector.postprocess import find_boxes
from detector.predictor import normalise
from detector.thresholds import Thresholds


def validate(
    network: DBNet, samples: Iterable[Sample], limit_side: int, thresholds: Thresholds | None = None
) -> Counts:
    """Counts over all samples; the network's mode is left as it was.

    Args:
        network: on any device.
        samples: images with ground truth.
        limit_side: longest side shown to the network, pixels.
        thresholds: of the boxes; default the paper's.
    """
    device = next(network.parameters()).device
    training, total = network.training, Counts()
    network.eval()
    try:
        for sample in samples:
            page = open_page(sample.image, limit_side=limit_side)
            height, width = page.pixels.shape[:2]
            batch = torch.from_numpy(normalise(page.pixels, IMAGENET_MEAN, IMAGENET_STD)).to(device)
            with torch.inference_mode():
                found = network(batch)[0, 0, :height, :width].float().cpu().numpy()
            scale = (page.width / width, page.height / height)
            boxes = find_boxes(
                np.ascontiguousarray(found), scale, (page.width, page.height), thresholds or Thresholds()
            )
            regions = sample.regions()
            total += evaluate_image(
                [np.array(region.points) for region in regions],
                [region.ignore for region in regions],
                [np.array(box.points) for box in boxes],
            )
    finally:
        network.train(training)
    return total
