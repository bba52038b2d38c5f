"""Pictures without any text, drawn here: what a detector may take for text and must not."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
HEIGHT, WIDTH = 480, 640


def _clouds(rng: np.random.Generator, cells: int, low: int = 0, high: int = 256) -> npt.NDArray[np.float32]:
    """Soft colours, (HEIGHT, WIDTH, 3)."""
    coarse = rng.integers(low, high, (cells, cells, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.float32)


def _finish(rng: np.random.Generator, picture: npt.NDArray[np.floating], noise: float = 6.0) -> Pixels:
    """What a lens and a sensor do: a little blur and noise."""
    soft = cv2.GaussianBlur(np.asarray(picture, np.float32), (0, 0), 0.7)
    return np.clip(soft + rng.normal(0, noise, soft.shape), 0, 255).astype(np.uint8)


def _tilt(rng: np.random.Generator, picture: npt.NDArray[np.float32], by: float = 0.15) -> npt.NDArray[np.float32]:
    """The picture seen from the side."""
    corners = np.array([[0, 0], [WIDTH, 0], [WIDTH, HEIGHT], [0, HEIGHT]], np.float32)
    moved = (corners + rng.uniform(-by, by, (4, 2)) * (WIDTH, HEIGHT)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, moved)
    return np.asarray(cv2.warpPerspective(picture, matrix, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT), np.float32)


def gradient(rng: np.random.Generator) -> Pixels:
    """A sky."""
    return _finish(rng, _clouds(rng, 2, 60), 2)


def clouds(rng: np.random.Generator) -> Pixels:
    """Blurred shapes, as behind the point of focus."""
    return _finish(rng, _clouds(rng, 9, 20, 230))


def sand(rng: np.random.Generator) -> Pixels:
    """Noise of every grain size."""
    picture = _clouds(rng, 3, 90, 190) + rng.normal(0, 28, (HEIGHT, WIDTH, 1))
    return _finish(rng, picture)


def fins(rng: np.random.Generator) -> Pixels:
    """A radiator: many parallel bars."""
    picture = _clouds(rng, 3, 120, 230)
    step, thick = int(rng.integers(9, 22)), float(rng.uniform(0.3, 0.6))
    dark = (np.arange(WIDTH) % step) < step * thick
    picture[60:420, dark] *= 0.35
    return _finish(rng, _tilt(rng, picture))


def grid(rng: np.random.Generator) -> Pixels:
    """The windows of a tall house."""
    picture = _clouds(rng, 3, 130, 220)
    across, down = int(rng.integers(34, 60)), int(rng.integers(30, 54))
    for y in range(10, HEIGHT - down, down):
        for x in range(10, WIDTH - across, across):
            shade = float(rng.uniform(20, 90))
            cv2.rectangle(picture, (x, y), (x + across // 2, y + down * 2 // 3), (shade, shade, shade + 15), -1)
    return _finish(rng, _tilt(rng, picture))


def bricks(rng: np.random.Generator) -> Pixels:
    """A wall in running bond."""
    picture = np.full((HEIGHT, WIDTH, 3), 175, np.float32)
    width, height = int(rng.integers(60, 110)), int(rng.integers(22, 40))
    for row, y in enumerate(range(0, HEIGHT, height)):
        for x in range(-width, WIDTH, width):
            shade = float(rng.uniform(0.75, 1.15))
            left = x + (width // 2 if row % 2 else 0)
            tone = (150 * shade, 82 * shade, 62 * shade)
            cv2.rectangle(picture, (left + 2, y + 2), (left + width - 3, y + height - 3), tone, -1)
    return _finish(rng, _tilt(rng, picture, 0.08), 9)


def foliage(rng: np.random.Generator) -> Pixels:
    """Leaves: thousands of small strokes of green."""
    picture = _clouds(rng, 5, 20, 110)
    for _ in range(2600):
        centre = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
        axes = (int(rng.integers(3, 15)), int(rng.integers(1, 6)))
        tone = (float(rng.uniform(20, 140)), float(rng.uniform(60, 220)), float(rng.uniform(10, 90)))
        cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, tone, -1)
    return _finish(rng, picture)


def fence(rng: np.random.Generator) -> Pixels:
    """Pickets and rails before grass."""
    picture = _clouds(rng, 6, 40, 140)
    step = int(rng.integers(26, 48))
    for x in range(0, WIDTH, step):
        cv2.rectangle(picture, (x, 120), (x + step // 2, 440), (214, 208, 196), -1)
    for y in (180, 370):
        cv2.rectangle(picture, (0, y), (WIDTH, y + 22), (190, 184, 172), -1)
    return _finish(rng, _tilt(rng, picture))


def pebbles(rng: np.random.Generator) -> Pixels:
    """Round stones beside each other."""
    picture = np.full((HEIGHT, WIDTH, 3), 70, np.float32)
    for _ in range(900):
        radius = int(rng.integers(7, 22))
        centre = (int(rng.integers(WIDTH)), int(rng.integers(HEIGHT)))
        tone = float(rng.uniform(90, 220))
        cv2.circle(picture, centre, radius, (tone, tone * 0.97, tone * 0.9), -1)
        cv2.circle(picture, centre, radius, (tone * 0.5, tone * 0.5, tone * 0.5), 1)
    return _finish(rng, picture)


def planks(rng: np.random.Generator) -> Pixels:
    """Wood with its grain."""
    grain = rng.normal(0, 1, (HEIGHT, 8)).astype(np.float32)
    veins = cv2.resize(grain, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)[..., None] * 14
    picture = np.array((168.0, 122.0, 82.0)) + veins
    for y in range(0, HEIGHT, int(rng.integers(80, 160))):
        picture[y : y + 4] *= 0.4
    return _finish(rng, picture)


KINDS: tuple[Callable[[np.random.Generator], Pixels], ...] = (
    gradient,
    clouds,
    sand,
    fins,
    grid,
    bricks,
    foliage,
    fence,
    pebbles,
    planks,
)


def text_free(each: int) -> dict[str, Pixels]:
    """``each`` pictures of every kind, (480, 640, 3) uint8 RGB, by name."""
    return {
        f"{kind.__name__}-{number}": kind(np.random.default_rng((index, number)))
        for index, kind in enumerate(KINDS)
        for number in range(each)
    }
