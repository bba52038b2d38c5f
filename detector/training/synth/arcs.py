"""Words along arcs, as on labels and stamps, with the map of what was written: the band of the letters, shrunk.

Signs with ground truth in quads teach that a bent line is the whole area under its arc. A few hundred of these pages
keep what `--shape polygon` needs (NOTES.md, "Run 8").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.training.run_folder import write_picture
from detector.training.synth.background import pick_ground
from detector.training.synth.font import Face, draw_ink, pick_face
from detector.training.synth.sign import sign_colors
from detector.training.synth.text import latin_sign
from detector.training.targets import offset_distance, offset_polygon

SIDE = 640
SIZES = (14.0, 72.0)  # of the letters, pixels
RADII = (2.2, 9.0)  # of the middle line, letter sizes
LEGIBLE = 60.0  # grey levels between ink and ground; with less the letters get a plate
WIDEST = 0.9 * math.pi  # of an arc


def arc_band(centre: np.ndarray, radius: float, height: float, start: float, end: float) -> np.ndarray:
    """Corners of the band of letters between two angles from the top, clockwise: (48, 2) float."""
    angles = np.linspace(start, end, 24)
    directions = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    return np.concatenate(
        [centre + directions * (radius + height / 2), (centre + directions * (radius - height / 2))[::-1]]
    )


def write_arc(
    rng: np.random.Generator, cover: np.ndarray, face: Face, text: str, size: int, radius: float
) -> np.ndarray | None:
    """Writes a text along a circle into a (640, 640) uint8 cover; returns its band, or None if it has no place."""
    upward, turn = rng.random() < 0.6, rng.normal(0, 0.35)
    letters = [draw_ink(face, letter, size) if letter != " " else None for letter in text]
    widths = [size * 0.3 if ink is None else ink.shape[1] + size * 0.08 for ink in letters]
    inks = [ink for ink in letters if ink is not None]
    total = sum(widths) / radius
    if len(inks) < 3 or total > WIDEST:
        return None
    height = max(ink.shape[0] for ink in inks)
    reach = radius + height
    if 2 * reach * math.sin(min(total, math.pi) / 2) > SIDE * 0.95:
        return None
    middle = rng.uniform(0.25, 0.75, 2) * SIDE
    sign = 1 if upward else -1
    centre = middle + sign * radius * np.array([-math.sin(turn), math.cos(turn)])
    place = -total / 2
    drawn = np.zeros_like(cover)
    for ink, width in zip(letters, widths, strict=True):
        angle = place + width / radius / 2
        place += width / radius
        if ink is None:
            continue
        towards = turn + sign * angle
        x, y = centre + sign * radius * np.array([math.sin(towards), -math.cos(towards)])
        matrix = cv2.getRotationMatrix2D((ink.shape[1] / 2, ink.shape[0] / 2), -math.degrees(towards), 1.0)
        # Letters stand on the line: shorter ones are moved towards its foot.
        drop = (height - ink.shape[0]) / 2
        matrix[:, 2] += (
            np.array([x, y])
            + drop * np.array([-math.sin(towards), math.cos(towards)])
            - np.array([ink.shape[1] / 2, ink.shape[0] / 2])
        )
        np.maximum(drawn, cv2.warpAffine(ink, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR), out=drawn)
    start, end = turn - sign * total / 2, turn + sign * total / 2
    if not upward:
        start, end = start + math.pi, end + math.pi
    band = arc_band(centre, radius, height * 1.08, start, end)
    if band.min() < 2 or band.max() > SIDE - 2:
        return None
    np.maximum(cover, drawn, out=cover)
    return band


def make_arcs(rng: np.random.Generator, photos: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """One page: (640, 640, 3) uint8 RGB, and the (640, 640) uint8 map of its text."""
    ground = pick_ground(rng, photos)
    picture = cv2.resize(ground, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    known, taken = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(12):
        size = int(np.exp(rng.uniform(*np.log(SIZES))))
        radius = size * float(np.exp(rng.uniform(*np.log(RADII))))
        cover = np.zeros((SIDE, SIDE), np.uint8)
        band = write_arc(rng, cover, pick_face(rng, False), latin_sign(rng)[:28], size, radius)
        if band is None:
            continue
        place = np.zeros((SIDE, SIDE), np.uint8)
        cv2.fillPoly(place, [np.round(offset_polygon(band, size * 0.35)[0]).astype(np.int32)], 1)
        if (place & taken).any():
            continue
        taken |= place
        plate, ink = (np.asarray(color, np.float32) for color in sign_colors(rng))
        light = float(picture[place > 0].mean())
        if rng.random() < 0.5 or abs(light - float(ink.mean())) < LEGIBLE:
            picture[place > 0] = plate
        alpha = cover.astype(np.float32)[..., None] / 255
        picture = np.asarray(picture * (1 - alpha) + ink * alpha, np.float32)
        for kernel in offset_polygon(band, -offset_distance(band)):
            cv2.fillPoly(known, [np.round(kernel * 16).astype(np.int32)], 255, shift=4)
    return picture.clip(0, 255).astype(np.uint8), known


def render_arcs(folder: Path, numbers: Sequence[int], photos: Sequence[Path], seed: int = 0) -> None:
    """Writes pages that are not there yet: FOLDER/arc-000001.jpg and its map, named as the teacher's are."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        image = folder / f"arc-{number:06}.jpg"
        target = folder / f"arc-{number:06}.teacher.png"
        if image.is_file() and target.is_file():
            continue
        picture, known = make_arcs(np.random.default_rng((seed, number, 2)), photos)
        write_picture(target, known, [])
        write_picture(image, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
