"""Fences, gates, ladders, shelves, crossings: rows of equal bars as large as a picture, easily taken for lettering."""

from __future__ import annotations

import cv2
import numpy as np

from detector.training.synth.background import paint

_TOPS = ("flat", "point", "round", "slant", "none")


def _post(left: float, top: float, width: float, foot: float, shape: str, cut: float) -> list[np.ndarray]:
    """Outline(s) of an upright bar as (N, 2) float pixels; ``cut`` is how high a pointed or slanted end is."""
    right, middle = left + width, left + width / 2
    if shape == "point":
        return [np.array([(left, foot), (left, top + cut), (middle, top), (right, top + cut), (right, foot)])]
    if shape == "slant":
        return [np.array([(left, foot), (left, top + cut), (right, top), (right, foot)])]
    outlines = [np.array([(left, foot), (left, top), (right, top), (right, foot)])]
    if shape == "round":
        angles = np.linspace(0, 2 * np.pi, 17)[:-1]
        around = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (width / 2, cut / 2 + width / 4)
        outlines.append(around + np.array([middle, top]))
    return outlines


def add_bars(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Lays a row of equal bars, with or without rails across them, over a picture.

    Args:
        rng: what decides.
        picture: (H, W, 3) uint8 RGB.

    Returns:
        Another picture of that shape; nothing on it is text.
    """
    height, width = picture.shape[:2]
    step = float(rng.uniform(0.012, 0.13)) * width
    thick = step * float(rng.uniform(0.15, 0.85))
    top, foot = height * float(rng.uniform(-0.1, 0.6)), height * float(rng.uniform(0.65, 1.1))
    start = float(rng.uniform(-0.1, 0.4)) * width if rng.random() < 0.4 else -0.2 * width
    count = int(min(90, max(4, (float(rng.uniform(0.6, 1.3)) * width - start) / step)))
    shape, cut = str(rng.choice(_TOPS)), thick * float(rng.uniform(0.2, 1.6))
    color, jitter = paint(rng), float(rng.choice((0.0, 0.0, 2.0, 14.0)))
    wobble = step * float(rng.choice((0.0, 0.0, 0.06)))

    # Turned a little (a fence), or by a right angle (a ladder, stairs, a shelf); seen from the side.
    angle = float(rng.normal(0, 0.06)) + (np.pi / 2 if rng.random() < 0.3 else 0.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([width, height]) / 2
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    seen = (corners - middle) @ turn.T + middle + rng.uniform(-0.12, 0.12, (4, 2)) * (width, height)
    matrix = cv2.getPerspectiveTransform(corners, seen.astype(np.float32))

    layer, cover = picture.copy(), np.zeros((height, width), np.uint8)

    def fill(outline: np.ndarray, tone: np.ndarray) -> None:
        points = cv2.perspectiveTransform(outline[None].astype(np.float32), matrix).round().astype(np.int32)
        cv2.fillPoly(layer, [points], tone.clip(0, 255).tolist(), cv2.LINE_AA)
        cv2.fillPoly(cover, [points], 255, cv2.LINE_AA)

    def rails() -> None:
        for _ in range(int(rng.choice((0, 1, 2, 2, 3)))):
            y, high = float(rng.uniform(min(top + cut, foot), foot)), thick * float(rng.uniform(0.3, 1.3))
            fill(_post(start, y, count * step, y + high, "none", 0)[0], color * float(rng.uniform(0.7, 1.1)))

    behind = rng.random() < 0.5
    if behind:
        rails()
    for number in range(count):
        tone = color + rng.normal(0, jitter, 3) if jitter else color
        left = start + number * step + float(rng.normal(0, 1)) * wobble
        for outline in _post(left, top + float(rng.normal(0, 1)) * wobble, thick, foot, shape, cut):
            fill(outline, np.asarray(tone))
    if not behind:
        rails()
    if rng.random() < 0.4:  # its shadow, or dirt: bars are not of one colour all over
        light = cv2.resize(
            rng.normal(1, 0.2, (4, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        layer = (layer * light[..., None]).clip(0, 255).astype(np.uint8)
    share = cv2.GaussianBlur(cover, (0, 0), float(rng.uniform(0.4, 1.6))).astype(np.float32)[..., None] / 255
    share *= float(rng.uniform(0.55, 1.0))
    return np.asarray((picture * (1 - share) + layer * share).clip(0, 255).astype(np.uint8))
