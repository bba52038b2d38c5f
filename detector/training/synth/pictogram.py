"""Ink of pictograms and logos: what stands beside lettering and is none."""

from __future__ import annotations

import cv2
import numpy as np

from detector.training.synth.font import draw_picture


def make_picture(rng: np.random.Generator, size: int) -> np.ndarray | None:
    """Ink of something that is no text: a pictogram, a logo of simple shapes, either maybe in a ring or a frame."""
    size = max(12, size)
    if rng.random() < 0.6:
        drawn = draw_picture(rng, size)
        if drawn is None or max(drawn.shape) > 3 * size:
            return None
        ink = drawn
    else:
        ink = np.zeros((size, size), np.uint8)
        for _ in range(int(rng.integers(1, 5))):
            centre = (size / 2 + rng.normal(0, size / 8, 2)).astype(int).tolist()
            radius, thick = int(size * rng.uniform(0.1, 0.42)), -1 if rng.random() < 0.5 else max(1, size // 12)
            value, kind = 255 if rng.random() < 0.75 else 0, rng.random()
            if kind < 0.35:
                start = float(rng.uniform(0, 360))
                cv2.ellipse(ink, centre, (radius, int(radius * rng.uniform(0.5, 1))), float(rng.uniform(0, 180)),
                            start, start + float(rng.uniform(120, 360)), value, thick, cv2.LINE_AA)  # fmt: skip
            else:
                angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 7))))
                points = np.array(centre) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
                if thick < 0:
                    cv2.fillPoly(ink, [points.astype(np.int32)], value, cv2.LINE_AA)
                else:
                    cv2.polylines(ink, [points.astype(np.int32)], True, value, thick, cv2.LINE_AA)
    frame = rng.random()
    if frame < 0.4:
        ink = _framed(ink, frame)
    return ink if ink.max() > 40 else None


def _framed(ink: np.ndarray, frame: float) -> np.ndarray:
    """Ink in a ring, a struck-out ring, a triangle, a disc or a square, by a number from 0 to 0.4."""
    height, width = ink.shape
    side = int(max(height, width) * 1.45) + 4
    around: np.ndarray = np.zeros((side, side), np.uint8)
    middle, thick = (side // 2, side // 2), max(1, side // 14)
    top, left = (side - height) // 2, (side - width) // 2
    around[top : top + height, left : left + width] = ink
    if frame < 0.15:
        cv2.circle(around, middle, side // 2 - thick, 255, thick, cv2.LINE_AA)
        if frame < 0.07:
            cv2.line(around, (side // 6, side // 6), (side * 5 // 6, side * 5 // 6), 255, thick, cv2.LINE_AA)
    elif frame < 0.25:
        corners = np.array([[side // 2, thick], [side - thick, side - thick], [thick, side - thick]], np.int32)
        cv2.polylines(around, [corners], True, 255, thick, cv2.LINE_AA)
    elif frame < 0.33:
        disc = np.zeros_like(around)
        cv2.circle(disc, middle, side // 2 - 1, 255, -1, cv2.LINE_AA)
        around = cv2.subtract(disc, around)
    else:
        cv2.rectangle(around, (thick, thick), (side - 1 - thick, side - 1 - thick), 255, thick)
    return around
