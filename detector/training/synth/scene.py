"""Synthetic scenes: signs, posters and loose lettering in perspective on a background, in bad light."""

from __future__ import annotations

import cv2
import numpy as np

from detector.training.synth.font import draw_ink, find_faces
from detector.training.synth.layer import Layer
from detector.training.synth.sign import make_blank_sign, make_sign

LEAST_VISIBLE = 0.55  # of a line that runs over the edge of the picture
LEAST_HEIGHT = 5.0  # of a line, pixels: smaller print is a grey bar
LEAST_CONTRAST = 14  # mean difference in grey levels that lettering makes; less, and nobody could read it


def _turn(rng: np.random.Generator) -> float:
    """Rotation of a sign, radians: mostly level, often tilted, sometimes on its side."""
    chance = rng.random()
    if chance < 0.65:
        return float(np.radians(rng.normal(0, 6)))
    if chance < 0.93:
        return float(np.radians(rng.uniform(-50, 50)))
    return float(np.radians(rng.choice((-90, 90)) + rng.normal(0, 12)))


def _place(
    rng: np.random.Generator, layer: Layer, size: tuple[int, int], *, least: float = 0.35, over: bool = False
) -> np.ndarray | None:
    """A perspective (3, 3) map that lays the layer somewhere on a canvas of (height, width); None if it won't fit.

    Args:
        rng: source of randomness.
        layer: the sign.
        size: of the canvas.
        least: give up where it would have to be shrunk more than this.
        over: it may stick out of the canvas.
    """
    height, width = layer.alpha.shape
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    angle = _turn(rng)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.diag([rng.uniform(0.5, 1), 1] if rng.random() < 0.35 else [1, 1])
    target = (corners - corners.mean(axis=0)) @ squeeze @ turn.T
    if rng.random() < 0.6:
        target += rng.uniform(-0.12, 0.12, (4, 2)) * min(width, height * 3)
    span = target.max(axis=0) - target.min(axis=0)
    room = np.array([size[1], size[0]]) * (1.25 if over else 0.98)
    fit = min(1.0, float((room / span).min()))
    if fit < least:
        return None
    target *= fit
    span, low = span * fit, target.min(axis=0)
    free = np.array([size[1], size[0]]) - span
    stray = span * 0.25 if over else 0.0
    target = (target - low - stray + rng.random(2) * (free + 2 * stray)).astype(np.float32)
    if not cv2.isContourConvex(target):
        return None
    return cv2.getPerspectiveTransform(corners, target)


def clip_quad(quad: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The part of a (4, 2) quad inside a canvas of (height, width), as a rotated rectangle, and its share."""
    height, width = size
    canvas = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    area = float(cv2.contourArea(quad.astype(np.float32)))
    if quad.min() >= 0 and quad[:, 0].max() <= width and quad[:, 1].max() <= height:
        return quad, 1.0
    inside, part = cv2.intersectConvexConvex(quad.astype(np.float32), canvas)
    if part is None or inside <= 0 or area <= 0:
        return quad, 0.0
    return cv2.boxPoints(cv2.minAreaRect(part)), inside / area


def _lay(
    rng: np.random.Generator, picture: np.ndarray, taken: np.ndarray, layer: Layer, matrix: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]] | None:
    """The picture with the layer on it, and the layer's corners; None where something is already."""
    height, width = picture.shape[:2]
    cover = cv2.warpPerspective(np.ones_like(layer.alpha), matrix, (width, height))
    footprint = cover > 0.05
    if not footprint.any() or (taken[footprint] > 0).any():
        return None
    quads = []
    for quad in layer.quads:
        moved = cv2.perspectiveTransform(quad[None].astype(np.float32), matrix)[0]
        clipped, share = clip_quad(moved, (height, width))
        if 0 < share < LEAST_VISIBLE or min(cv2.minAreaRect(moved)[1]) < LEAST_HEIGHT:
            return None
        if share:
            quads.append(clipped)
    alpha = cv2.warpPerspective(layer.alpha, matrix, (width, height), flags=cv2.INTER_AREA)
    color = cv2.warpPerspective(layer.color, matrix, (width, height), flags=cv2.INTER_AREA)
    if rng.random() < 0.2:
        alpha = alpha * float(rng.uniform(0.55, 0.9))
    blur = rng.uniform(0.3, 1.2)
    color, alpha = cv2.GaussianBlur(color, (0, 0), blur), cv2.GaussianBlur(alpha, (0, 0), blur)
    # What shows through keeps some of the ground's grain and light: lettering is part of its wall.
    if rng.random() < 0.5:
        gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        light = gray / np.maximum(cv2.GaussianBlur(gray, (0, 0), 25), 8)
        color = np.clip(color * (1 + (light - 1) * rng.uniform(0.1, 0.6))[..., None], 0, 255)
    laid = (picture * (1 - alpha[..., None]) + color * alpha[..., None]).astype(np.uint8)
    change = cv2.absdiff(laid, picture).mean(axis=2)
    for quad in quads:
        inside = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(inside, np.round(quad).astype(np.int32), 1)
        seen = (inside > 0) & (alpha > 0.3)
        if not seen.any() or change[seen].mean() < LEAST_CONTRAST:
            return None
    taken[footprint] = 1
    return laid, quads


def _stamp_date(rng: np.random.Generator, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The date a camera writes into the corner."""
    height, width = picture.shape[:2]
    face = find_faces()[0][int(rng.integers(len(find_faces()[0])))]
    text = f"{rng.integers(1, 13):02}/{rng.integers(1, 29):02}/20{rng.integers(3, 26):02}"
    ink = draw_ink(face, text, int(rng.integers(14, 26))) if face.has_all(text) else None
    if ink is None or ink.shape[1] > width // 2:
        return None
    layer = Layer(height, width)
    color = np.array(((250, 140, 30), (250, 210, 60), (240, 60, 40))[rng.integers(3)])
    if not layer.text(ink, width - ink.shape[1] - 20, height - ink.shape[0] - 20, color):
        return None
    alpha = cv2.GaussianBlur(layer.alpha, (0, 0), 0.6)[..., None]
    return (picture * (1 - alpha) + layer.color * alpha).astype(np.uint8), layer.quads[0]


def spoil(rng: np.random.Generator, picture: np.ndarray, *, near: bool = False) -> np.ndarray:
    """Glare, vignette, night, haze, shake, defocus and noise over a whole (H, W, 3) uint8 picture.

    Args:
        rng: source of randomness.
        picture: RGB.
        near: taken from near, hence more often out of focus.
    """
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    if rng.random() < 0.18:  # a lamp's or the sky's reflection
        centre, reach = rng.random(2) * (width, height), rng.uniform(0.05, 0.4) * width
        stretch = rng.uniform(0.2, 3)
        spot = np.exp(-(((x - centre[0]) / reach) ** 2 + ((y - centre[1]) / (reach * stretch)) ** 2))
        picture = np.clip(picture + spot[..., None] * rng.uniform(60, 230), 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        away = ((x / width - 0.5) ** 2 + (y / height - 0.5) ** 2) * 2
        picture = (picture * (1 - rng.uniform(0.2, 0.8) * away)[..., None]).astype(np.uint8)
    if rng.random() < 0.1 and picture.mean() > 70:  # little light
        picture = (picture * rng.uniform(0.25, 0.6)).astype(np.uint8)
    if rng.random() < 0.1:  # haze, a dirty pane
        veil = rng.uniform(0.2, 0.6)
        picture = (picture * (1 - veil) + rng.integers(90, 240) * veil).astype(np.uint8)
    chance = rng.random()
    if chance < (0.4 if near else 0.18):
        most = 4.5 if near else 1.8
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.6, most)))
    elif chance < (0.6 if near else 0.26):
        length = int(rng.integers(4, 26 if near else 10))
        kernel = np.zeros((length, length), np.float32)
        angle, middle = rng.uniform(0, np.pi), (length - 1) / 2
        arm = np.array([np.cos(angle), np.sin(angle)]) * middle
        start, end = np.round(middle - arm).astype(int), np.round(middle + arm).astype(int)
        cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    if rng.random() < 0.3:
        noise = (rng.standard_normal(picture.shape, np.float32) * rng.uniform(2, 12)).astype(np.int16)
        picture = cv2.add(picture, noise, dtype=cv2.CV_8U)
    return picture


def _occlude(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """A few branches, cables or bars before everything."""
    height, width = picture.shape[:2]
    picture = picture.copy()
    for _ in range(int(rng.integers(1, 4))):
        ends = (rng.random((2, 2)) * 1.4 - 0.2) * (width, height)
        middle = ends.mean(axis=0) + rng.normal(0, width / 15, 2)
        along = np.linspace(0, 1, 20)[:, None]
        curve = (1 - along) ** 2 * ends[0] + 2 * along * (1 - along) * middle + along**2 * ends[1]
        cv2.polylines(picture, [curve.astype(np.int32)], False, rng.integers(0, 120, 3).tolist(),
                      int(rng.integers(1, 5)), cv2.LINE_AA)  # fmt: skip
    return picture


def make_scene(rng: np.random.Generator, photo: np.ndarray, *, blank: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Lays signs on a background: one large piece of lettering (two pages of five), or up to six signs of any size.

    Args:
        rng: source of randomness.
        photo: (H, W, 3) uint8 RGB without text.
        blank: the signs hold pictures only.

    Returns:
        The picture, and (N, 4, 2) corners of its lines.
    """
    height, width = photo.shape[:2]
    picture, taken = photo.copy(), np.zeros((height, width), np.uint8)
    found: list[np.ndarray] = []
    huge = bool(rng.random() < 0.4)
    if rng.random() < 0.12:
        picture = (picture * rng.uniform(0.15, 0.5)).astype(np.uint8)  # lit signs at night
    for place in range(int(rng.integers(1, 3 if huge else 7))):
        first = huge and place == 0
        # Log-uniform in either case: 10 to 120 pixels, or from an eighth to two fifths of the picture's short side.
        low, high = (min(height, width) / 8, min(height, width) / 2.5) if first else (10, 120)
        size = int(np.exp(rng.uniform(np.log(low), np.log(high))))
        layer = None
        for _ in range(4 if first else 1):
            without = blank or rng.random() < 0.08
            layer = make_blank_sign(rng, size) if without else make_sign(rng, size, huge=first)
            if layer is not None:
                break
        over = bool(rng.random() < 0.15)
        matrix = None if layer is None else _place(rng, layer, (height, width), over=over)
        laid = None if layer is None or matrix is None else _lay(rng, picture, taken, layer, matrix)
        if laid is not None:
            picture = laid[0]
            found += laid[1]
    if rng.random() < 0.06:
        picture = _occlude(rng, picture)
    picture = spoil(rng, picture, near=huge)
    if not blank and rng.random() < 0.03 and not taken[-60:, -width // 2 :].any():
        stamped = _stamp_date(rng, picture)
        if stamped is not None:
            picture = stamped[0]
            found.append(stamped[1])
    return picture, np.array(found, np.float32).reshape(-1, 4, 2)
