"""A sheet of paper to write on, what else lies on it, and how scanners and folds treat it."""

from __future__ import annotations

import cv2
import numpy as np

from detector.training.synth.font import Face, draw_ink, find_faces, pick_face, pick_typewriter
from detector.training.synth.layer import Layer
from detector.training.synth.pictogram import make_picture
from detector.training.synth.text import chinese, english, number


class Paper:
    """A page that is written from top to bottom; nothing is written over anything else.

    Args:
        rng: source of randomness.
        width, height: pixels.

    Attributes:
        layer: pixels and corners.
        taken: (H, W) bool, where something is.
        face, size, ink: of the common text; size in pixels, ink RGB.
        hand: a face like handwriting, for what is filled in.
    """

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.rng, self.width, self.height = rng, width, height
        self.layer = Layer(height, width, air=(0.09, 0.1))
        self.layer.alpha[:] = 1
        self.layer.color[:] = rng.integers(225, 256, 3) if rng.random() < 0.75 else rng.integers(170, 256, 3)
        self.taken = np.zeros((height, width), bool)
        self.chinese = bool(find_faces()[1]) and rng.random() < 0.4
        # Clean typescript was cut between its wide-set letters: one page in eight is typed, one in ten spaced out.
        typed = not self.chinese and rng.random() < 0.2
        self.face: Face = pick_typewriter(rng) if typed else pick_face(rng, self.chinese, text=rng.random() < 0.85)
        self.spacing = float(rng.uniform(0.05, 0.45)) if rng.random() < 0.1 else 0.0
        self.hand: Face = pick_face(rng, self.chinese)
        self.ink = np.full(3, float(rng.uniform(0, 90))) + rng.normal(0, 6, 3)
        # Log-uniform: small print is the rule on real forms and receipts (10 pixels at a long side of 640).
        self.size = int(np.exp(rng.uniform(np.log(9), np.log(26))))

    def words(self, count: int) -> str:
        """Text of about ``count`` English words' length."""
        return chinese(self.rng, count * 3, self.face) if self.chinese else english(self.rng, count)

    def written_width(self, text: str, size: int | None = None) -> float:
        """Rough width of a line in pixels: Chinese characters are square, Latin ones about half as wide."""
        widths = (1.0 if character > "\u2e80" else 0.55 for character in text)
        return (sum(widths) + self.spacing * len(text)) * (size or self.size)

    def write(
        self, text: str, x: float, y: float, size: int | None = None, *, align: float = 0.0, bold: bool = False,
        hand: bool = False,
    ) -> int:  # fmt: skip
        """Writes a line; returns its width, 0 if there was no room.

        Args:
            text: the line; left out if the face lacks a character.
            x: of the line's left end, middle or right end (align 0, 0.5, 1), pixels.
            y: of its upper edge, pixels.
            size: of the font, pixels.
            align: what x is.
            bold: thicker strokes.
            hand: as if filled in by hand: another face, blue or black, not quite on the line.
        """
        face = self.hand if hand else self.face
        if not text.strip() or not face.has_all(text):
            return 0
        size = size or self.size
        stroke = 1 if (bold or self.rng.random() < 0.04) and size > 13 else 0
        ink = draw_ink(face, text, size, stroke=stroke, jitter=0.05 if hand else 0.0, spacing=self.spacing)
        if ink is None:
            return 0
        left, top = int(x - align * ink.shape[1]), int(y)
        taken = self.taken[max(0, top) : top + ink.shape[0], max(0, left - 3) : left + ink.shape[1] + 3]
        color = np.array((30, 50, 150)) if hand and self.rng.random() < 0.6 else self.ink
        if taken.any() or not self.layer.text(ink, left, top, color):
            return 0
        taken[:] = True
        return int(ink.shape[1])

    def rule(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A drawn line."""
        start, end = (int(x0), int(y0)), (int(x1), int(y1))
        cv2.line(self.layer.color, start, end, tuple(float(v) for v in self.ink), 1 + int(self.rng.random() < 0.2))

    def dashes(self, y: float, x0: float, x1: float) -> None:
        """A line of hyphens, equals signs or stars, as receipts have between their parts; it is not text."""
        mark = str(self.rng.choice(("-", "-", "=", "*", "_", ".")))
        ink = draw_ink(self.face, mark * 8, self.size) if self.face.has_all(mark) else None
        if ink is None or x1 - x0 < ink.shape[1]:
            self.rule(x0, y, x1, y)
            return
        row = np.tile(np.pad(ink, ((0, 0), (0, 2))), (1, int((x1 - x0) / (ink.shape[1] + 2))))
        top = int(y)
        if not self.taken[top : top + row.shape[0], int(x0) : int(x1)].any():
            self.layer.stamp(row, int(x0), top, self.ink)

    def picture(self, x: float, y: float, size: int) -> int:
        """A logo with its middle at x; returns its height."""
        ink = make_picture(self.rng, size)
        if ink is None:
            return 0
        left, top = int(x - ink.shape[1] / 2), int(y)
        if not self.layer.stamp(ink, left, top, self.ink):
            return 0
        self.taken[top : top + ink.shape[0], left : left + ink.shape[1]] = True
        return int(ink.shape[0])


def add_clutter(paper: Paper) -> None:
    """Things on paper that are not text: bar codes, photos, rings, signatures, black edges; and side notes."""
    rng, color = paper.rng, paper.layer.color
    for _ in range(int(rng.integers(0, 4))):
        width, height = int(rng.integers(40, 170)), int(rng.integers(20, 90))
        x, y = int(rng.integers(0, paper.width - width)), int(rng.integers(0, paper.height - height))
        kind = rng.random()
        corner = np.array((x, y), np.int32)
        if kind > 0.85:  # somebody circled or struck something: it may cross text
            centre, axes = (x + width // 2, y + height // 2), (width // 2 - 1, height // 2 - 1)
            cv2.ellipse(color, centre, axes, 0, 0, 360, rng.integers(0, 200, 3).tolist(), int(rng.integers(1, 3)))
            continue
        if paper.taken[y : y + height, x : x + width].any():
            continue
        area = color[y : y + height, x : x + width]
        paper.taken[y : y + height, x : x + width] = True
        if kind < 0.3:
            bars = np.repeat(rng.random(width // 2 + 1) < 0.5, 2)[:width]
            area[:, bars] = 20
        elif kind < 0.4:
            squares = np.kron(rng.random((20, 20)) < 0.5, np.ones((3, 3), bool))[:height, :width]
            area[: squares.shape[0], : squares.shape[1]][squares] = 20
        elif kind < 0.65:  # a signature
            steps = np.cumsum(rng.normal((0.6, 0), 1, (40, 2)), axis=0)
            steps = (steps - steps.min(axis=0)) / np.maximum(np.ptp(steps, axis=0), 1e-6) * (width - 1, height - 1)
            cv2.polylines(color, [steps.astype(np.int32) + corner], False, paper.ink.tolist(), 1, cv2.LINE_AA)
        elif kind < 0.75:
            area[:] = cv2.resize(rng.integers(0, 256, (5, 7, 3)).astype(np.uint8), (width, height))
        else:
            cv2.rectangle(color, (x, y), (x + width - 1, y + height - 1), paper.ink.tolist(), 1)
    if rng.random() < 0.1:  # a number up the margin
        ink = draw_ink(paper.face, text, paper.size) if paper.face.has_all(text := number(rng)) else None
        if ink is not None:
            turned = np.ascontiguousarray(np.rot90(ink, int(rng.choice((1, 3)))))
            left, top = paper.width - turned.shape[1] - 4, int(rng.uniform(0.1, 0.8) * paper.height)
            if not paper.taken[top : top + turned.shape[0], left:].any():
                paper.layer.text(turned, left, top, paper.ink)
    if rng.random() < 0.12:  # the scanner saw more than the page
        for edge in (color[: int(rng.integers(1, 9))], color[:, : int(rng.integers(1, 9))], color[-3:], color[:, -3:]):
            if rng.random() < 0.5:
                edge[:] = int(rng.integers(0, 60))


def wear(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Stains, folds with their shadows, print from the other side, fading, scanner noise, hard thresholding."""
    height, width = pixels.shape[:2]
    coarse = rng.normal(1, 0.06, (5, 5)).astype(np.float32)
    shade: np.ndarray = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for across in (False, True):
        if rng.random() < 0.25:
            long = width if across else height
            place = np.arange(long) - int(rng.integers(long // 6, long * 5 // 6))
            # Dark on one side, a light ridge on the other.
            reach = np.exp(-np.abs(place) / rng.uniform(3, 60)) * np.where(place > 0, 1, rng.uniform(-0.5, 1))
            crease = (1 - rng.uniform(0.08, 0.4) * reach).astype(np.float32)
            shade *= crease[None, :] if across else crease[:, None]
    if rng.random() < 0.12:
        behind = cv2.GaussianBlur(pixels[:, ::-1], (0, 0), 1.2)
        pixels = np.minimum(pixels, 255 - ((255 - behind) * rng.uniform(0.05, 0.25)).astype(np.uint8))
    worn: np.ndarray = np.clip(pixels * shade[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        worn = (worn * rng.uniform(0.4, 0.8) + 255 * 0.2).clip(0, 255).astype(np.uint8)
    worn = cv2.add(worn, rng.normal(0, rng.uniform(1, 14), worn.shape).astype(np.int16), dtype=cv2.CV_8U)
    chance = rng.random()
    if chance < 0.22:  # fax, black and white scan
        gray = cv2.cvtColor(worn, cv2.COLOR_RGB2GRAY)
        level = float(gray.mean()) * rng.uniform(0.6, 0.85)
        worn = cv2.cvtColor(((gray > level) * 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        if rng.random() < 0.4:
            worn[rng.random((height, width)) < rng.uniform(0.0005, 0.006)] = int(rng.choice((0, 255)))
    elif chance < 0.4:
        factor = float(rng.uniform(0.55, 0.9))
        small = cv2.resize(worn, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA)
        worn = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.GaussianBlur(worn, (0, 0), rng.uniform(0.3, 0.9)) if rng.random() < 0.4 else worn)
