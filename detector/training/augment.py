"""Random crops: one affine warp over image and teacher map, then cheap changes of light, focus and noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

LARGEST_LINE = 0.6  # height of the line a crop is centred on, in crop sides: 307 of 512 pixels


@dataclass(frozen=True, slots=True)
class View:
    """How far geometry may vary for a kind of page.

    Attributes:
        sides: range of the page's long side after scaling, pixels (log-uniform).
        tilt: standard deviation of the rotation, degrees.
        free_turn: chance of a rotation within +-45 degrees.
        quarter_turn: chance of an extra 90 or 270 degrees.
        mirror: chance of a horizontal flip.
        stretch: standard deviation of the log of the aspect-ratio change.
        heights: range of the height of the line in the middle, pixels (log-uniform), in ``by_height`` of the crops.
        by_height: share of the crops that are scaled so, instead of by the page's long side.
    """

    sides: tuple[float, float] = (480.0, 1400.0)
    tilt: float = 5.0
    free_turn: float = 0.0
    quarter_turn: float = 0.0
    mirror: float = 0.0
    stretch: float = 0.1
    heights: tuple[float, float] = (6.0, 300.0)
    by_height: float = 0.0


# Of lines under 8 pixels high v5 found 6 % (its teacher 38 %), of those of 64 to 96 pixels 76 % (98 %): a third of the
# photos' crops are scaled by the height of a line, from the smallest to the largest that are met.
# Documents are shown at the sizes of use (640 to 1440) and seldom turned: with quarter turns of 0.12 a column of single
# digits is, now and then, a vertical line, and receipts lose 1.4 points (NOTES.md, "Why receipts lost"); with 0.02 at
# the end pages that lie on their side were lost.
VIEWS = {
    "scene": View(
        (360.0, 1600.0), tilt=7.0, free_turn=0.15, quarter_turn=0.1, mirror=0.15, stretch=0.15, by_height=0.33
    ),
    "document": View((600.0, 1500.0), tilt=2.0, free_turn=0.03, quarter_turn=0.06, stretch=0.08),
    "page": View((480.0, 1600.0), tilt=5.0, free_turn=0.05, quarter_turn=0.02, mirror=0.05),
}
UPRIGHT = 3.0  # degrees: text that leans less was scanned or photographed straight


def suit_view(quads: np.ndarray, sides: tuple[float, float]) -> View:
    """The view for fine-tuning on a user's own pages: turned as far as their text is.

    Args:
        quads: (N, 4, 2) text corners of all pages.
        sides: see `View`.
    """
    edges = quads[:, 1] - quads[:, 0]
    lean = np.degrees(np.arctan2(edges[:, 1], edges[:, 0]))
    lean = np.abs((lean + 45) % 90 - 45)
    if len(quads) and float(np.mean(lean < UPRIGHT)) > 0.95:
        return View(sides, tilt=1.5, stretch=0.08)
    return View(sides, tilt=7.0, free_turn=0.1, quarter_turn=0.03, mirror=0.1, stretch=0.12)


def choose_matrix(
    rng: np.random.Generator, shape: tuple[int, int], quads: np.ndarray, crop: int, view: View
) -> np.ndarray:
    """Chooses an affine map from page to crop pixels.

    Args:
        rng: source of randomness.
        shape: (height, width) of the page.
        quads: (N, 4, 2) text corners; most crops are centred near one of them.
        crop: side of the square crop.
        view: ranges.

    Returns:
        (2, 3) float64.
    """
    height, width = shape
    side = np.exp(rng.uniform(*np.log(view.sides)))
    scale = side / max(height, width)
    target = quads[int(rng.integers(len(quads)))] if len(quads) and rng.random() < 0.85 else None
    if target is not None:
        tall = min(np.linalg.norm(target[3] - target[0]), np.linalg.norm(target[1] - target[0]))
        if view.by_height and rng.random() < view.by_height:
            wanted = np.exp(rng.uniform(*np.log(view.heights)))
            # Not beyond what the page bears: shrunk to a stamp, or blown up to four times its pixels.
            scale = float(np.clip(wanted / max(tall, 1.0), 0.4 * crop / max(height, width), 4.0))
        # Of lettering larger than this a crop would hold strokes only, which nobody can tell from any other edge:
        # v1, trained without this limit, found nothing higher than 70 pixels.
        if tall * scale > LARGEST_LINE * crop:
            scale = LARGEST_LINE * crop / tall * rng.uniform(0.5, 1)
    angle = rng.normal(0, view.tilt)
    if rng.random() < view.free_turn:
        angle = rng.uniform(-45, 45)
    if rng.random() < view.quarter_turn:
        angle += rng.choice((90, 270))
    stretch = np.exp(rng.normal(0, view.stretch) / 2)
    flip = -1.0 if rng.random() < view.mirror else 1.0
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.diag([scale * stretch * flip, scale / stretch])
    if target is not None:
        quad = target
        along = rng.random(2)
        top, bottom = quad[0] + (quad[1] - quad[0]) * along[0], quad[3] + (quad[2] - quad[3]) * along[0]
        centre = top + (bottom - top) * along[1] + rng.uniform(-0.45, 0.45, 2) * crop / scale
    else:
        centre = rng.random(2) * (width, height)
    # Pull the window back over the page: half of it would be border; a page smaller than the crop may lie anywhere.
    page, half = np.array([width, height], float), crop / 2 / scale
    low, high = np.minimum(half, page - half), np.maximum(half, page - half)
    centre = np.where(page > 2 * half, np.clip(centre, low, high), rng.uniform(low, high))
    offset = np.array([crop / 2, crop / 2]) - linear @ centre
    return np.column_stack([linear, offset])


def warp(pixels: np.ndarray, matrix: np.ndarray, crop: int, border: tuple[int, ...] | int) -> np.ndarray:
    """One warpAffine; halves the source first where the map shrinks more than 0.6, or thin strokes would alias."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    matrix = matrix.copy()
    while scale < 0.6 and min(pixels.shape[:2]) > 2:
        height, width = pixels.shape[0] // 2, pixels.shape[1] // 2
        matrix[:, :2] = matrix[:, :2] @ np.diag([pixels.shape[1] / width, pixels.shape[0] / height])
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        scale *= 2
    return cv2.warpAffine(pixels, matrix, (crop, crop), flags=cv2.INTER_LINEAR, borderValue=border)


def move_points(quads: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, 4, 2) points through an affine (2, 3) matrix."""
    moved: np.ndarray = quads @ matrix[:, :2].T + matrix[:, 2]
    return moved.astype(np.float32)


def _tone(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Brightness, contrast, gamma, colour cast, rarely inversion: one look-up table per channel."""
    ramp = np.linspace(0, 1, 256, dtype=np.float32)
    gamma = np.exp(rng.normal(0, 0.3))
    contrast, light = np.exp(rng.normal(0, 0.25)), rng.normal(0, 0.1)
    table = np.empty((1, 256, 3), np.uint8)
    inverted = rng.random() < 0.04
    for channel in range(3):
        curve = (ramp**gamma - 0.5) * contrast * np.exp(rng.normal(0, 0.12)) + 0.5 + light
        table[0, :, channel] = np.round(np.clip(1 - curve if inverted else curve, 0, 1) * 255)
    return cv2.LUT(pixels, table)


def _light_slope(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """A linear or sharp-edged shadow across the crop."""
    height, width = pixels.shape[:2]
    direction = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:height:16, 0:width:16].astype(np.float32)
    slope = (x - width / 2) * np.cos(direction) / width + (y - height / 2) * np.sin(direction) / height
    if rng.random() < 0.4:
        slope = np.clip(slope * 12 + rng.uniform(-3, 3), -0.5, 0.5)
    shade = cv2.resize((1 + slope * rng.uniform(0.3, 1.1)).astype(np.float32), (width, height))
    shaded: np.ndarray = np.clip(pixels * shade[..., None], 0, 255)
    return shaded.astype(np.uint8)


def _focus(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Defocus, motion blur, or a loss of resolution."""
    kind = rng.random()
    if kind < 0.4:
        return cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 2.6))
    if kind < 0.65:
        length = int(rng.integers(3, 15))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        arm = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
        middle = (length - 1) / 2
        start, end = np.round(middle - arm).astype(int), np.round(middle + arm).astype(int)
        cv2.line(kernel, tuple(start.tolist()), tuple(end.tolist()), 1.0)
        return cv2.filter2D(pixels, -1, kernel / kernel.sum())
    height, width = pixels.shape[:2]
    factor = rng.uniform(0.4, 0.9)
    small = cv2.resize(pixels, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _night(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Little light of one colour, and the noise of a camera that makes the most of it."""
    light = rng.uniform(0.12, 0.5) * np.exp(rng.normal(0, 0.25, 3))
    dark = pixels * np.clip(light, 0.06, 0.8).astype(np.float32)
    grain = rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(1, 10))
    return np.asarray(np.clip(dark + grain, 0, 255), np.uint8)


def change_look(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Random light, focus, noise and compression of an (H, W, 3) uint8 crop."""
    if rng.random() < 0.85:
        pixels = _tone(rng, pixels)
    if rng.random() < 0.15:
        pixels = _light_slope(rng, pixels)
    if rng.random() < 0.06:
        pixels = _night(rng, pixels)
    if rng.random() < 0.1:
        pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.3:
        pixels = _focus(rng, pixels)
    if rng.random() < 0.2:
        noise = (rng.standard_normal(pixels.shape, np.float32) * rng.uniform(3, 16)).astype(np.int16)
        pixels = cv2.add(pixels, noise, dtype=cv2.CV_8U)
    if rng.random() < 0.2:
        encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 75))])[1]
        pixels = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    return pixels
