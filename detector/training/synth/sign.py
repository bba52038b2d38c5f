"""Synthetic signs: lines of lettering with pictures, plates, borders and effects, flat, and their corners."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from detector.training.synth.background import paint, pattern_tile
from detector.training.synth.font import draw_ink, find_faces, pick_face
from detector.training.synth.layer import Layer
from detector.training.synth.pictogram import make_picture
from detector.training.synth.text import chinese_sign, latin_sign

MAX_SIDE = 1700  # a longer sign is not drawn: it would be shrunk beyond recognition
LEAST_GAP = 24.0  # mean difference of ink and plate, grey levels


@dataclass(slots=True)
class Piece:
    """Ink at a place on a sign; text, or a picture."""

    ink: np.ndarray
    x: float
    y: float
    text: bool = True


def sign_colors(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Ground and ink: mostly well apart, one time in five close together."""
    ground = rng.integers(0, 256, 3) if rng.random() < 0.3 else paint(rng)
    gap = rng.uniform(22, 60) if rng.random() < 0.2 else rng.uniform(80, 230)
    if rng.random() < 0.35:
        vivid = ((200, 20, 30), (20, 60, 160), (10, 110, 60), (240, 200, 30), (245, 245, 245), (20, 20, 20))
        ground = np.array(vivid[rng.integers(len(vivid))])
    toward = 255 if ground.mean() < 128 else 0
    ink = ground + np.sign(toward - ground) * gap + rng.normal(0, 25, 3)
    ground = np.asarray(ground).clip(0, 255)
    return ground, legible(ground, ink.clip(0, 255))


def legible(ground: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """The ink, moved away from the ground to a difference of `LEAST_GAP` where it was less."""
    if np.abs(ink - ground).mean() >= LEAST_GAP:
        return ink
    return np.asarray(ground + (LEAST_GAP if ground.mean() < 128 else -LEAST_GAP))


def make_line(
    rng: np.random.Generator, size: int, *, vertical: bool = False, han: bool | None = None, longest: int = 40
) -> np.ndarray | None:
    """Ink of one line, in a random face and shape.

    Args:
        rng: source of randomness.
        size: of the font, pixels.
        vertical: a column of characters.
        han: Chinese or Latin; None leaves it to chance.
        longest: characters.
    """
    if han is None:
        han = bool(rng.random() < 0.62) or vertical
    face = pick_face(rng, han and bool(find_faces()[1]))
    for _ in range(4):
        text = (chinese_sign(rng, face) if han and find_faces()[1] else latin_sign(rng))[:longest].strip()
        if text and face.has_all(text) and not (vertical and (len(text) < 2 or len(text) > 12)):
            break
    else:
        return None
    stroke = int(rng.integers(1, max(2, size // 14))) if rng.random() < 0.25 else 0
    spacing = 0.0
    if rng.random() < 0.3 and len(text) < 16:
        widest = 1.6 if len(text) <= 5 and rng.random() < 0.4 else 0.6
        spacing = float(rng.uniform(0.04, widest))
    arc = float(rng.uniform(-0.8, 0.8)) if not vertical and len(text) > 3 and rng.random() < 0.08 else 0.0
    jitter = float(rng.uniform(0.02, 0.1)) if rng.random() < 0.06 else 0.0
    ink = draw_ink(face, text, size, vertical=vertical, spacing=spacing, stroke=stroke, arc=arc, jitter=jitter)
    return None if ink is None else _reshape(rng, ink, size)


def _reshape(rng: np.random.Generator, ink: np.ndarray, size: int) -> np.ndarray:
    """Condensed, wide, slanted, worn or dotted letters: more faces out of the same fonts."""
    if rng.random() < 0.22:
        factor = float(np.exp(rng.uniform(np.log(0.62), np.log(1.5))))
        ink = cv2.resize(ink, (max(2, round(ink.shape[1] * factor)), ink.shape[0]), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.08:
        slant = float(rng.uniform(-0.15, 0.35))
        reach = int(abs(slant) * ink.shape[0]) + 1
        matrix = np.array([[1, -slant, max(0.0, slant) * ink.shape[0]], [0, 1, 0]], np.float32)
        ink = cv2.warpAffine(ink, matrix, (ink.shape[1] + reach, ink.shape[0]), flags=cv2.INTER_LINEAR)
    if rng.random() < 0.05:  # worn paint
        holes = cv2.resize(rng.random((ink.shape[0] // 3 + 2, ink.shape[1] // 3 + 2)), (ink.shape[1], ink.shape[0]))
        ink = (ink * (holes > rng.uniform(0.2, 0.42))).astype(np.uint8)
    elif size >= 28 and rng.random() < 0.05:  # lamps in a grid
        pitch = max(3, size // int(rng.integers(11, 20)))
        small = cv2.resize(ink, (max(1, ink.shape[1] // pitch), max(1, ink.shape[0] // pitch)),
                           interpolation=cv2.INTER_AREA)  # fmt: skip
        lamp = np.zeros((pitch, pitch), np.uint8)
        cv2.circle(lamp, (pitch // 2, pitch // 2), max(1, pitch // 2 - 1), 1, -1)
        ink = np.kron((small > 90).astype(np.uint8) * 255, lamp).astype(np.uint8)
    return ink


def _stack(rng: np.random.Generator, size: int, count: int, longest: int) -> list[Piece]:
    """Lines one below the other: a main one and smaller, equal or justified ones, Chinese above Latin above all."""
    pieces: list[Piece] = []
    align, y = float(rng.choice((0.0, 0.5, 0.5, 1.0))), 0.0
    han_first, gap = bool(rng.random() < 0.65), rng.uniform(0.1, 0.75)
    even = rng.random() < 0.35
    for place in range(count):
        scale = 1.0 if place == 0 or even else rng.uniform(0.3, 1.0)
        han = han_first if place == 0 else (not han_first if place == 1 and rng.random() < 0.6 else None)
        ink = make_line(rng, max(9, int(size * scale)), han=han, longest=longest if place == 0 else longest * 2)
        if ink is None or ink.shape[1] > MAX_SIDE:
            continue
        if pieces and rng.random() < 0.35:
            factor = pieces[0].ink.shape[1] / ink.shape[1]
            if 0.6 < factor < 1.6:
                ink = cv2.resize(ink, (pieces[0].ink.shape[1], ink.shape[0]), interpolation=cv2.INTER_LINEAR)
        if pieces:
            y += max(2.0, gap * min(ink.shape[0], pieces[-1].ink.shape[0]))
        pieces.append(Piece(ink, 0.0, y))
        y += ink.shape[0]
    widest = max((piece.ink.shape[1] for piece in pieces), default=0)
    for piece in pieces:
        piece.x = (widest - piece.ink.shape[1]) * align
    return pieces


def _columns(rng: np.random.Generator, size: int) -> list[Piece]:
    """Vertical lines side by side, or turned Latin beside a column."""
    pieces: list[Piece] = []
    x, gap = 0.0, rng.uniform(0.15, 0.8)
    for place in range(int(rng.choice((1, 1, 1, 2, 2, 3)))):
        scale = 1.0 if place == 0 else rng.uniform(0.4, 1.0)
        ink = make_line(rng, max(10, int(size * scale)), vertical=True)
        if place and rng.random() < 0.3:
            flat = make_line(rng, max(10, int(size * scale)), han=False)
            ink = None if flat is None else np.ascontiguousarray(np.rot90(flat, 3))
        if ink is None or max(ink.shape) > MAX_SIDE:
            continue
        pieces.append(Piece(ink, x, 0.0))
        x += ink.shape[1] * (1 + gap) + 2
    return pieces


def _add_pictures(rng: np.random.Generator, pieces: list[Piece], size: int) -> None:
    """A pictogram or logo beside, above or below the lines."""
    right = max(piece.x + piece.ink.shape[1] for piece in pieces)
    bottom = max(piece.y + piece.ink.shape[0] for piece in pieces)
    for _ in range(int(rng.choice((1, 1, 2)))):
        unit = size if rng.random() < 0.6 else min(3.5 * size, bottom)
        ink = make_picture(rng, int(unit * rng.uniform(0.7, 1.4)))
        if ink is None:
            continue
        height, width = ink.shape
        gap, side = size * rng.uniform(0.15, 0.8) + 2, rng.random()
        if side < 0.45:
            place = (-gap - width, (bottom - height) * rng.uniform(0.3, 0.7))
        elif side < 0.7:
            place = (right + gap, (bottom - height) * rng.uniform(0.3, 0.7))
        elif side < 0.88:
            place = ((right - width) * rng.random(), -gap - height)
        else:
            place = ((right - width) * rng.random(), bottom + gap)
        box = (place[0], place[1], place[0] + width, place[1] + height)
        if any(_meet(box, piece) for piece in pieces):
            continue
        pieces.append(Piece(ink, *place, text=False))


def _meet(box: tuple[float, float, float, float], piece: Piece) -> bool:
    right, bottom = piece.x + piece.ink.shape[1], piece.y + piece.ink.shape[0]
    return box[2] >= piece.x and box[0] <= right and box[3] >= piece.y and box[1] <= bottom


def make_sign(rng: np.random.Generator, size: int, *, huge: bool = False) -> Layer | None:
    """Lines of lettering, mostly on a plate, with pictures, effects and uneven light.

    Args:
        rng: source of randomness.
        size: of the main line's characters, pixels.
        huge: few and short lines.
    """
    if rng.random() < (0.1 if huge else 0.15):
        pieces = _columns(rng, size if not huge else size // 2)
    else:
        counts = (1, 1, 1, 2) if huge else (1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 7, 9)
        pieces = _stack(
            rng, size, int(rng.choice(counts)), int(rng.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 8))) if huge else 40
        )
    if not pieces:
        return None
    if rng.random() < 0.35:
        _add_pictures(rng, pieces, size)
    return _paint(rng, pieces, size)


def make_blank_sign(rng: np.random.Generator, size: int) -> Layer | None:
    """A plate that holds pictures only."""
    pieces: list[Piece] = []
    x = 0.0
    for _ in range(int(rng.integers(1, 4))):
        ink = make_picture(rng, size)
        if ink is not None:
            pieces.append(Piece(ink, x, 0.0, text=False))
            x += ink.shape[1] + size * 0.3
    return _paint(rng, pieces, size) if pieces else None


def _paint(rng: np.random.Generator, pieces: list[Piece], size: int) -> Layer | None:
    margin = int(size * rng.uniform(0.15, 1.1)) + 6
    left, top = min(piece.x for piece in pieces), min(piece.y for piece in pieces)
    width = int(max(piece.x + piece.ink.shape[1] for piece in pieces) - left) + 2 * margin + 2
    height = int(max(piece.y + piece.ink.shape[0] for piece in pieces) - top) + 2 * margin + 2
    if max(width, height) > MAX_SIDE + 2 * margin:
        return None
    layer = Layer(height, width)
    ground, color = sign_colors(rng)
    plate = rng.random() < 0.6
    if plate:
        _plate(rng, layer, ground, color)
    effect = rng.random()
    for piece in pieces:
        x, y = int(piece.x - left) + margin, int(piece.y - top) + margin
        tint = color if rng.random() < 0.8 else (color + rng.normal(0, 50, 3)).clip(0, 255)
        if not piece.text and rng.random() < 0.5:
            tint = paint(rng)
        tint = legible(ground, tint) if plate else tint
        _letter(rng, layer, piece, (x, y), (ground, tint), effect, size)
    if rng.random() < 0.25:  # light falls unevenly
        slope = np.linspace(rng.uniform(0.5, 1), rng.uniform(0.7, 1.3), width, dtype=np.float32)
        layer.color = np.clip(layer.color * slope[None, :, None], 0, 255).astype(np.uint8)
    return layer


def _letter(
    rng: np.random.Generator,
    layer: Layer,
    piece: Piece,
    place: tuple[int, int],
    colors: tuple[np.ndarray, np.ndarray],
    effect: float,
    size: int,
) -> None:
    """Stamps one piece with the sign's effect."""
    (x, y), (ground, color) = place, colors
    ink, reach = piece.ink, max(1, size // 18)
    if effect < 0.1:  # outline
        wide = 2 * min(reach, 5) + 1
        border = cv2.dilate(np.pad(ink, 6), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (wide, wide)))
        layer.stamp(border, x - 6, y - 6, 255 - color)
    elif effect < 0.2:  # shadow
        layer.stamp(cv2.GaussianBlur(ink, (0, 0), 1 + size / 40), x + reach, y + reach, color * 0.15, 0.8)
    elif effect < 0.27:  # glow of lamps
        glow = cv2.GaussianBlur(np.pad(ink, 6), (0, 0), 1 + size / 12)
        layer.stamp(glow, x - 6, y - 6, color, 0.9)
    elif effect < 0.35:  # letters as thick as a hand
        shift = (int(rng.integers(-reach, reach + 1)), int(rng.integers(-reach, reach + 1)))
        for step in range(1, reach + 1):
            layer.stamp(ink, x + shift[0] * step // reach, y + shift[1] * step // reach, color * 0.45)
    elif effect < 0.41:  # hollow letters
        thin = cv2.erode(ink, np.ones((3, 3), np.uint8), iterations=max(1, size // 30))
        ink = cv2.subtract(ink, thin) if size > 24 else ink
    elif effect < 0.48:  # carved or raised in the same material
        light = np.clip(ground * 1.35 + 25, 0, 255)
        layer.stamp(ink, x - max(1, reach // 2), y - max(1, reach // 2), light, 0.9)
        layer.stamp(ink, x + max(1, reach // 2), y + max(1, reach // 2), ground * 0.45, 0.9)
        color = ground * 0.85 + color * 0.15
    elif effect < 0.54:  # gradient
        ramp = np.linspace(0, 1, ink.shape[0], dtype=np.float32)[:, None, None]
        color = (color * (1 - ramp) + np.clip(color + rng.normal(0, 70, 3), 0, 255) * ramp).astype(np.float32)
    if piece.text:
        layer.text(ink, x, y, color)
    else:
        layer.stamp(ink, x, y, color)


def _plate(rng: np.random.Generator, layer: Layer, ground: np.ndarray, ink: np.ndarray) -> None:
    height, width = layer.alpha.shape
    layer.alpha[:] = 1.0 if rng.random() < 0.8 else rng.uniform(0.5, 0.9)
    layer.color[:] = ground
    kind = rng.random()
    if kind < 0.25:  # gradient
        other = rng.integers(0, 256, 3) * 0.5 + ground * 0.5
        ramp = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        layer.color[:] = (ground * (1 - ramp) + other * ramp).astype(np.uint8)
    elif kind < 0.35:  # boards, tiles, shutters
        for y in range(0, height, max(3, int(rng.integers(4, 30)))):
            layer.color[y : y + 1] = np.clip(ground * 0.75, 0, 255)
    elif kind < 0.42:  # a pattern all over, faint
        tile = cv2.resize(pattern_tile(rng, 300), (width, height)).astype(np.float32)[..., None] / 255 * 0.35
        layer.color[:] = (ground * (1 - tile) + paint(rng) * tile).astype(np.uint8)
    elif kind < 0.5:  # stripes of another colour above or below
        deep = max(1, height // int(rng.integers(5, 14)))
        for band in (layer.color[:deep], layer.color[-deep:])[: int(rng.integers(1, 3))]:
            band[:] = paint(rng)
    if rng.random() < 0.4:
        edge = tuple(float(v) for v in (ink if rng.random() < 0.5 else rng.integers(0, 256, 3)))
        inset = int(rng.integers(1, max(2, min(height, width) // 20) + 1))
        cv2.rectangle(layer.color, (inset, inset), (width - 1 - inset, height - 1 - inset), edge,
                      max(1, min(height, width) // 40))  # fmt: skip
    if rng.random() < 0.3:  # rounded or oval
        round_mask = np.zeros((height, width), np.uint8)
        radius = min(height, width) // int(rng.integers(2, 8))
        cv2.rectangle(round_mask, (radius, 0), (width - 1 - radius, height - 1), 255, -1)
        cv2.rectangle(round_mask, (0, radius), (width - 1, height - 1 - radius), 255, -1)
        for cx in (radius, width - 1 - radius):
            for cy in (radius, height - 1 - radius):
                cv2.circle(round_mask, (cx, cy), radius, 255, -1)
        layer.alpha *= round_mask / np.float32(255)
