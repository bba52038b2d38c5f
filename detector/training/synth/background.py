"""What lies behind synthetic text: photos, plain surfaces, and regular patterns that are easily taken for text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

# Walls, metal, paint, wood, glass, road, night: what signs hang on, RGB.
_PAINTS = np.array(
    [(225, 222, 215), (190, 188, 180), (140, 140, 138), (90, 92, 95), (45, 47, 50), (20, 20, 22), (200, 180, 140),
     (150, 110, 70), (110, 75, 45), (235, 205, 60), (230, 130, 30), (180, 30, 35), (120, 20, 30), (30, 70, 150),
     (15, 40, 90), (40, 120, 190), (25, 110, 70), (20, 80, 45), (120, 160, 90), (205, 225, 240), (160, 195, 220)],
    np.float32,
)  # fmt: skip


def paint(rng: np.random.Generator) -> np.ndarray:
    """(3,) float32 RGB of a common material, varied; half of them are duller than the list."""
    color = _PAINTS[int(rng.integers(len(_PAINTS)))] + rng.normal(0, 15, 3)
    if rng.random() < 0.5:
        color = color + (color.mean() - color) * rng.uniform(0.3, 1)
    return np.asarray(color.clip(0, 255), np.float32)


def _smooth(rng: np.random.Generator, height: int, width: int, cells: int, spread: float) -> np.ndarray:
    coarse = rng.normal(0, spread, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def plain_ground(rng: np.random.Generator) -> np.ndarray:
    """A background for want of a photo: smooth colours, stripes, bricks or noise; (H, W, 3) uint8."""
    height, width = int(rng.integers(420, 760)), int(rng.integers(420, 960))
    coarse = rng.integers(0, 256, (int(rng.integers(2, 7)), int(rng.integers(2, 7)), 3)).astype(np.uint8)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    kind = rng.random()
    if kind < 0.3:
        step = int(rng.integers(8, 60))
        for y in range(0, height, step):
            cv2.line(ground, (0, y), (width, y), rng.integers(0, 256, 3).tolist(), int(rng.integers(1, 4)))
            if kind < 0.15:
                for x in range((y // step % 2) * step, width, 2 * step):
                    cv2.line(ground, (x, y), (x, y + step), rng.integers(0, 256, 3).tolist(), 2)
    elif kind < 0.5:
        ground = np.clip(ground + rng.normal(0, 25, ground.shape), 0, 255).astype(np.uint8)
    return ground


def surface(rng: np.random.Generator) -> np.ndarray:
    """A wall, door, machine or road seen close: two or three painted areas with grain, light and reflections.

    Returns:
        (H, W, 3) uint8 RGB, long side 640 to 860.
    """
    long = int(rng.integers(640, 860))
    short = int(long * rng.uniform(0.7, 0.8))
    height, width = (short, long) if rng.random() < 0.75 else (long, short)
    ground = np.broadcast_to(paint(rng), (height, width, 3)).copy()
    for _ in range(int(rng.choice((0, 0, 1, 1, 2, 3)))):  # edges of furniture, frames, floors
        angle, reach = rng.uniform(0, np.pi), rng.uniform(-0.45, 0.45) * min(height, width)
        normal = np.array([np.cos(angle), np.sin(angle)])
        foot = np.array([width / 2, height / 2]) + normal * reach
        along, far = np.array([-normal[1], normal[0]]) * 2 * long, normal * 2 * long * np.sign(reach or 1)
        corners = np.round([foot - along, foot + along, foot + along + far, foot - along + far]).astype(np.int32)
        cv2.fillPoly(ground, [corners], paint(rng).tolist(), cv2.LINE_AA)
        if rng.random() < 0.5:
            ends = np.round([foot - along, foot + along]).astype(int)
            cv2.line(ground, ends[0].tolist(), ends[1].tolist(), (paint(rng) * 0.5).tolist(), int(rng.integers(1, 9)))
    kind = rng.random()
    grain: np.ndarray = rng.normal(0, 1, (height, width)).astype(np.float32)
    if kind < 0.15:  # brushed metal or wood
        grain = cv2.blur(grain, (int(rng.integers(30, 120)), 1)) * rng.uniform(20, 90)
        grain = grain if rng.random() < 0.6 else cv2.resize(grain.T, (width, height))
    elif kind < 0.3:  # rough plaster, stone
        grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.8, 3)) * rng.uniform(15, 50)
    elif kind < 0.4:  # corrugated sheet, blinds
        wave = np.sin(np.arange(height, dtype=np.float32) * 2 * np.pi / rng.uniform(6, 40))
        grain = grain + wave[:, None] * rng.uniform(8, 40)
        grain = grain if rng.random() < 0.5 else cv2.resize(grain.T, (width, height))
    else:
        grain = grain * rng.uniform(0.5, 6)
    shade = 1 + _smooth(rng, height, width, int(rng.integers(2, 5)), rng.uniform(0.03, 0.16))
    ground = (ground + grain[..., None]) * shade[..., None]
    if kind > 0.75:  # joints of tiles and panels
        step, tone = int(rng.integers(40, 260)), float(rng.uniform(0.5, 1.3))
        thick = int(rng.integers(1, 4))
        for x in range(int(rng.integers(step)), width, step):
            ground[:, x : x + thick] *= tone
        for y in range(int(rng.integers(step)), height, int(step * rng.uniform(0.4, 1.6)) + 2):
            ground[y : y + thick] *= tone
    return np.asarray(cv2.GaussianBlur(ground.clip(0, 255).astype(np.uint8), (0, 0), float(rng.uniform(0.3, 1.5))))


def pattern_tile(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size) uint8 mask: fins, a fence, window rows, dots, slots, bricks, a keyboard, leaves or cables."""
    tile = np.zeros((size, size), np.uint8)
    step = int(rng.integers(5, max(6, min(48, size // 3))))
    thick = max(1, int(step * rng.uniform(0.15, 0.7)))
    kind = int(rng.integers(9))
    rows = range(0, size, step)
    if kind == 0:  # fins, blinds, stairs
        for y in rows:
            tile[y : y + thick] = 255
    elif kind == 1:  # fence, grid
        for y in rows:
            tile[y : y + thick] = 255
            tile[:, y : y + max(1, thick // 3)] = 255
    elif kind == 2:  # perforated sheet
        for y in rows:
            for x in rows:
                cv2.circle(tile, (x + (y // step % 2) * step // 2, y), thick // 2 + 1, 255, -1)
    elif kind == 3:  # slots in rows, with gaps between the rows: the likest to lines of text
        wide, row = int(step * rng.uniform(0.3, 1.6)) + 2, int(step * rng.uniform(1.2, 3))
        for y in range(0, size, row):
            for x in range(0, size, wide + thick // 2 + 2):
                cv2.rectangle(tile, (x, y), (x + wide - 1, y + max(2, thick // 2)), 255, -1)
    elif kind == 4:  # windows of a building
        wide, high = int(step * rng.uniform(0.6, 1.6)) + 2, int(step * rng.uniform(0.6, 1.8)) + 2
        for y in range(0, size, high + thick + 2):
            for x in range(0, size, wide + thick + 1):
                tile[y : y + high, x : x + wide] = int(rng.integers(120, 256))
    elif kind == 5:  # bricks
        tile[:] = 255
        for place, y in enumerate(rows):
            tile[y : y + max(1, thick // 4)] = 0
            for x in range((place % 2) * step, size, 2 * step):
                tile[y : y + step, x : x + max(1, thick // 4)] = 0
    elif kind == 6:  # keys, tiles with a rim
        for y in rows:
            for x in rows:
                cv2.rectangle(tile, (x + 1, y + 1), (x + step - 2, y + step - 2), 255, 1 if thick < step / 2 else -1)
    elif kind == 7:  # leaves
        for _ in range(int(60 * rng.uniform(0.5, 4))):
            centre, axes = rng.integers(0, size, 2).tolist(), (step // 2 + 1, max(1, thick // 3))
            cv2.ellipse(tile, centre, axes, float(rng.uniform(0, 180)), 0, 360, int(rng.integers(90, 256)), -1)
    else:  # cables, branches
        for _ in range(int(rng.integers(3, 12))):
            points = np.cumsum(rng.normal(0, size / 12, (14, 2)), axis=0) + rng.random(2) * size
            cv2.polylines(tile, [points.astype(np.int32)], False, 255, max(1, thick // 4), cv2.LINE_AA)
    return tile


def add_patterns(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Lays some patterns in perspective on a picture: regular marks that are not text."""
    height, width = picture.shape[:2]
    picture = picture.copy()
    for _ in range(int(rng.integers(1, 4))):
        size = int(rng.integers(80, 420))
        tile = pattern_tile(rng, size)
        corners = np.array([[0, 0], [size, 0], [size, size], [0, size]], np.float32)
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        target = (corners - size / 2) @ np.diag([rng.uniform(0.4, 1.6), rng.uniform(0.2, 1.2)]) @ turn.T
        target += rng.uniform(-0.1, 0.1, (4, 2)) * size + rng.random(2) * (width, height)
        matrix = cv2.getPerspectiveTransform(corners, target.astype(np.float32))
        cover = cv2.warpPerspective(tile, matrix, (width, height), flags=cv2.INTER_AREA).astype(np.float32)[..., None]
        cover *= float(rng.uniform(0.4, 1)) / 255
        picture = (picture * (1 - cover) + paint(rng) * cover).astype(np.uint8)
    return picture


def pick_ground(rng: np.random.Generator, photos: Sequence[Path]) -> np.ndarray:
    """A photo of the list (half of the time; never, if the list is empty), a surface, or plain colours.

    Returns:
        (H, W, 3) uint8 RGB, long side at most 960.
    """
    chance = rng.random()
    if photos and chance < 0.5:
        read = cv2.imread(str(photos[int(rng.integers(len(photos)))]), cv2.IMREAD_COLOR)
        if read is not None:
            scale = rng.uniform(640, 860) / max(read.shape[:2])
            size = (round(read.shape[1] * scale), round(read.shape[0] * scale))
            photo = cv2.cvtColor(cv2.resize(read, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2RGB)
            return np.ascontiguousarray(photo[:, ::-1]) if rng.random() < 0.5 else photo
    return plain_ground(rng) if chance > 0.93 else surface(rng)
