"""Synthetic scenes: signs, posters and loose lettering in perspective on photos without text."""

from __future__ import annotations

import cv2
import numpy as np

from detector.training.synth_text import chinese, draw_ink, english, find_faces, number


class Layer:
    """A flat RGBA picture with the corners of the text on it, to be laid on a photo.

    Attributes:
        color: (H, W, 3) uint8.
        alpha: (H, W) float32 in [0, 1].
        quads: (4, 2) float arrays, layer pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        self.color = np.zeros((height, width, 3), np.uint8)
        self.alpha = np.zeros((height, width), np.float32)
        self.quads: list[np.ndarray] = []

    def stamp(self, ink: np.ndarray, x: int, y: int, color: np.ndarray, opacity: float = 1.0) -> bool:
        """Puts ink on the layer if it lies fully inside; says whether it did."""
        height, width = ink.shape
        if x < 0 or y < 0 or x + width > self.alpha.shape[1] or y + height > self.alpha.shape[0]:
            return False
        cover = ink.astype(np.float32) / 255 * opacity
        window = self.color[y : y + height, x : x + width]
        below = self.alpha[y : y + height, x : x + width]
        share = cover / np.maximum(cover + below * (1 - cover), 1e-6)
        window[:] = (window * (1 - share[..., None]) + color * share[..., None]).astype(np.uint8)
        below[:] = cover + below * (1 - cover)
        return True

    def text(self, ink: np.ndarray, x: int, y: int, color: np.ndarray) -> bool:
        """Stamps a line and remembers its corners, with a little air as annotators leave."""
        if not self.stamp(ink, x, y, color):
            return False
        height, width = ink.shape
        air = 0.04 * min(height, width) + 0.5
        x0, y0, x1, y1 = x - air, y - air, x + width + air, y + height + air
        self.quads.append(np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))
        return True


def _colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ground and ink: mostly well apart, one time in five close together."""
    ground = rng.integers(0, 256, 3)
    gap = rng.uniform(25, 60) if rng.random() < 0.2 else rng.uniform(80, 230)
    if rng.random() < 0.4:
        vivid = ((200, 20, 30), (20, 60, 160), (10, 110, 60), (240, 200, 30), (245, 245, 245), (20, 20, 20))
        ground = np.array(vivid[rng.integers(len(vivid))])
    toward = 255 if ground.mean() < 128 else 0
    ink = ground + np.sign(toward - ground) * gap + rng.normal(0, 25, 3)
    return ground.clip(0, 255), ink.clip(0, 255)


def _line(rng: np.random.Generator, size: int, vertical: bool) -> np.ndarray | None:
    latin, han = find_faces()
    stroke = int(rng.integers(1, max(2, size // 14))) if rng.random() < 0.25 else 0
    spacing = float(rng.uniform(0.05, 0.7)) if rng.random() < 0.25 else 0.0
    arc = float(rng.uniform(-0.6, 0.6)) if not vertical and rng.random() < 0.06 else 0.0
    if han and (vertical or rng.random() < 0.68):
        face = han[rng.integers(len(han))]
        length = int(rng.integers(1, 5)) if rng.random() < 0.35 else int(rng.integers(3, 13))
        text = chinese(rng, max(2, length) if vertical else length, face)
    else:
        face = latin[rng.integers(len(latin))]
        text = number(rng) if rng.random() < 0.25 else english(rng, int(rng.integers(1, 5)))
        if not face.has_all(text):
            return None
    if not text.strip():
        return None
    return draw_ink(face, text, size, vertical=vertical, spacing=spacing, stroke=stroke, arc=arc)


def make_sign(rng: np.random.Generator, size: int) -> Layer | None:
    """One to five lines, maybe on a plate, maybe outlined or with a shadow.

    Args:
        rng: source of randomness.
        size: of the main line's characters, pixels.
    """
    vertical = rng.random() < 0.16
    lines = []
    for place in range(int(rng.choice((1, 1, 1, 2, 2, 3, 4, 5)))):
        scale = 1.0 if place == 0 else rng.uniform(0.35, 1.0)
        ink = _line(rng, max(9, int(size * scale)), vertical)
        if ink is not None and max(ink.shape) < 1400:
            lines.append(ink)
    if not lines:
        return None
    gap, margin = int(size * rng.uniform(0.25, 0.9)) + 3, int(size * rng.uniform(0.3, 1.2)) + 5
    axis = 1 if vertical else 0
    along = sum(ink.shape[axis] for ink in lines) + gap * (len(lines) - 1) + 2 * margin
    across = max(ink.shape[1 - axis] for ink in lines) + 2 * margin
    layer = Layer(across, along) if vertical else Layer(along, across)
    height, width = layer.alpha.shape
    ground, color = _colors(rng)
    if rng.random() < 0.55:
        _plate(rng, layer, ground, color)
    align = rng.choice((0.0, 0.5, 0.5, 1.0))
    effect = rng.random()
    position = margin
    for ink in lines:
        room = across - 2 * margin - ink.shape[1 - axis]
        offset = margin + int(room * align)
        x, y = (position, offset) if vertical else (offset, position)
        if effect < 0.2:  # outline
            border = cv2.dilate(np.pad(ink, 3), np.ones((5, 5), np.uint8))
            layer.stamp(border, x - 3, y - 3, 255 - color)
        elif effect < 0.4:  # shadow
            shift = max(1, size // 16)
            layer.stamp(cv2.GaussianBlur(ink, (0, 0), 1 + size / 40), x + shift, y + shift, color * 0.15, 0.8)
        tint = color if rng.random() < 0.8 else (color + rng.normal(0, 50, 3)).clip(0, 255)
        layer.text(ink, x, y, tint)
        position += ink.shape[axis] + gap
    if rng.random() < 0.2:  # light falls unevenly
        slope = np.linspace(rng.uniform(0.5, 1), rng.uniform(0.7, 1.3), width, dtype=np.float32)
        layer.color = np.clip(layer.color * slope[None, :, None], 0, 255).astype(np.uint8)
    return layer if layer.quads and height * width else None


def _plate(rng: np.random.Generator, layer: Layer, ground: np.ndarray, ink: np.ndarray) -> None:
    height, width = layer.alpha.shape
    layer.alpha[:] = 1.0 if rng.random() < 0.8 else rng.uniform(0.5, 0.9)
    layer.color[:] = ground
    kind = rng.random()
    if kind < 0.25:  # gradient
        other = rng.integers(0, 256, 3) * 0.5 + ground * 0.5
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        layer.color[:] = (ground * (1 - ramp) + other * ramp).astype(np.uint8)
    elif kind < 0.4:  # boards, tiles, shutters
        for y in range(0, height, max(3, int(rng.integers(4, 30)))):
            layer.color[y : y + 1] = np.clip(ground * 0.75, 0, 255)
    if rng.random() < 0.4:
        edge = tuple(float(v) for v in (ink if rng.random() < 0.5 else rng.integers(0, 256, 3)))
        cv2.rectangle(layer.color, (2, 2), (width - 3, height - 3), edge, max(1, min(height, width) // 40))


def _place(rng: np.random.Generator, layer: Layer, size: tuple[int, int]) -> np.ndarray | None:
    """A perspective (3, 3) map that lays the layer somewhere on a canvas of (height, width); None if it won't fit."""
    height, width = layer.alpha.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    angle = np.radians(rng.normal(0, 6) if rng.random() < 0.75 else rng.uniform(-50, 50))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.diag([rng.uniform(0.55, 1), 1] if rng.random() < 0.35 else [1, 1])
    target = (corners - corners.mean(axis=0)) @ squeeze @ turn.T
    if rng.random() < 0.6:
        target += rng.uniform(-0.12, 0.12, (4, 2)) * min(width, height * 3)
    span = target.max(axis=0) - target.min(axis=0)
    fit = min(1.0, size[1] * 0.98 / span[0], size[0] * 0.98 / span[1])
    if fit < 0.35:
        return None
    target *= fit
    span, low = span * fit, target.min(axis=0)
    free = np.array([size[1], size[0]]) - span
    target = (target - low + rng.random(2) * free).astype(np.float32)
    return cv2.getPerspectiveTransform(corners, target)


def make_scene(rng: np.random.Generator, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lays signs on a photo.

    Args:
        rng: source of randomness.
        photo: (H, W, 3) uint8 RGB without text.

    Returns:
        The picture, and (N, 4, 2) corners of its lines.
    """
    height, width = photo.shape[:2]
    picture = photo.copy()
    taken = np.zeros((height, width), np.uint8)
    found: list[np.ndarray] = []
    for _ in range(int(rng.integers(1, 7))):
        size = int(np.exp(rng.uniform(np.log(12), np.log(90))))
        layer = make_sign(rng, size)
        matrix = None if layer is None else _place(rng, layer, (height, width))
        if layer is None or matrix is None:
            continue
        cover = cv2.warpPerspective(np.ones_like(layer.alpha), matrix, (width, height))
        footprint = cover > 0.05
        if not footprint.any() or (taken[footprint] > 0).any():
            continue
        taken[footprint] = 1
        alpha = cv2.warpPerspective(layer.alpha, matrix, (width, height), flags=cv2.INTER_AREA)
        color = cv2.warpPerspective(layer.color, matrix, (width, height), flags=cv2.INTER_AREA)
        if rng.random() < 0.25:
            alpha = alpha * float(rng.uniform(0.55, 0.9))
        blur = rng.uniform(0.3, 1.3)
        color, alpha = cv2.GaussianBlur(color, (0, 0), blur), cv2.GaussianBlur(alpha, (0, 0), blur)
        picture = (picture * (1 - alpha[..., None]) + color * alpha[..., None]).astype(np.uint8)
        found += [cv2.perspectiveTransform(quad[None].astype(np.float32), matrix)[0] for quad in layer.quads]
    if rng.random() < 0.2:
        picture = cv2.add(picture, rng.normal(0, rng.uniform(2, 9), picture.shape).astype(np.int16), dtype=cv2.CV_8U)
    return picture, np.array(found, np.float32).reshape(-1, 4, 2)
