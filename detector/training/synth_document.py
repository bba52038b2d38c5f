"""Synthetic documents: receipts, letters, forms and tables, scanned badly."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from detector.training.synth_scene import Layer
from detector.training.synth_text import Face, chinese, draw_ink, english, find_faces, number


class Paper:
    """A page that is written from top to bottom.

    Args:
        rng: source of randomness.
        width, height: pixels.
    """

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.rng, self.width, self.height = rng, width, height
        self.layer = Layer(height, width)
        self.layer.alpha[:] = 1
        self.layer.color[:] = rng.integers(225, 256, 3) if rng.random() < 0.7 else rng.integers(170, 256, 3)
        latin, han = find_faces()
        self.chinese = bool(han) and rng.random() < 0.45
        pool = han if self.chinese else latin
        self.face: Face = pool[rng.integers(len(pool))]
        self.ink = np.full(3, float(rng.uniform(0, 90))) + rng.normal(0, 6, 3)
        self.size = int(rng.integers(11, 25))

    def words(self, count: int) -> str:
        """Text of about ``count`` English words' length."""
        return chinese(self.rng, count * 3, self.face) if self.chinese else english(self.rng, count)

    def write(self, text: str, x: float, y: float, size: int | None = None, right: bool = False) -> int:
        """Writes a line with its left (or right) end at x; returns its width (0 if it did not fit)."""
        if not text.strip() or not self.face.has_all(text):
            return 0
        bold = 1 if self.rng.random() < 0.08 else 0
        ink = draw_ink(self.face, text, size or self.size, stroke=bold)
        if ink is None:
            return 0
        left = int(x - ink.shape[1]) if right else int(x)
        return ink.shape[1] if self.layer.text(ink, left, int(y), self.ink) else 0

    def rule(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A drawn line."""
        start, end = (int(x0), int(y0)), (int(x1), int(y1))
        cv2.line(self.layer.color, start, end, tuple(float(v) for v in self.ink), 1 + int(self.rng.random() < 0.2))


def _receipt(paper: Paper) -> None:
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.25, 1.9)
    y = step
    for _ in range(int(rng.integers(2, 6))):
        text = paper.words(int(rng.integers(1, 5)))
        paper.write(text, paper.width * rng.uniform(0.08, 0.35), y, int(paper.size * rng.uniform(1, 1.4)))
        y += step * 1.1
    while y < paper.height - 3 * step:
        if rng.random() < 0.08:
            paper.rule(paper.width * 0.05, y, paper.width * 0.95, y)
        elif rng.random() < 0.2:
            paper.write(paper.words(int(rng.integers(2, 5))), paper.width * 0.06, y)
        else:
            paper.write(paper.words(int(rng.integers(1, 3))), paper.width * 0.06, y)
            if rng.random() < 0.5:
                paper.write(number(rng), paper.width * 0.68, y, right=True)
            paper.write(number(rng), paper.width * 0.94, y, right=True)
        y += step


def _letter(paper: Paper) -> None:
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.3, 2.0)
    columns = int(rng.choice((1, 1, 2)))
    column_width = paper.width * 0.9 / columns
    for column in range(columns):
        x, y = paper.width * 0.06 + column * column_width, step
        while y < paper.height - 2 * step:
            if rng.random() < 0.12:
                y += step
                continue
            room = column_width * (0.9 if rng.random() < 0.8 else rng.uniform(0.2, 0.8))
            text = paper.words(12)
            while text and draw_width(paper, text) > room:
                text = text[: int(len(text) * 0.85)].rstrip()
            paper.write(text, x, y)
            y += step


def draw_width(paper: Paper, text: str) -> float:
    """Rough width of a line in pixels: Chinese characters are square, Latin ones about half as wide."""
    return sum(1.0 if character > "\u2e80" else 0.55 for character in text) * paper.size


def _form(paper: Paper) -> None:
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.8, 2.8)
    y = step
    paper.write(paper.words(3), paper.width * 0.3, y, int(paper.size * 1.5))
    y += step * 1.4
    while y < paper.height - 2 * step:
        cells = int(rng.choice((1, 2, 2, 3)))
        boxed = rng.random() < 0.5
        for cell in range(cells):
            x, width = paper.width * (0.05 + 0.9 * cell / cells), paper.width * 0.9 / cells
            label = paper.words(1)
            used = paper.write(label, x + 6, y)
            if rng.random() < 0.6 and used < width * 0.5:
                paper.write(number(rng) if rng.random() < 0.5 else paper.words(1), x + used + paper.size * 1.6, y)
            if boxed:
                top, bottom = int(y - step * 0.3), int(y + step * 0.65)
                cv2.rectangle(paper.layer.color, (int(x), top), (int(x + width), bottom), paper.ink.tolist(), 1)
            elif rng.random() < 0.5:
                paper.rule(x + used + paper.size, y + paper.size * 1.1, x + width * 0.95, y + paper.size * 1.1)
        y += step


def _table(paper: Paper) -> None:
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.5, 2.3)
    columns = int(rng.integers(3, 7))
    edges = np.concatenate([[0.04], np.sort(rng.uniform(0.15, 0.85, columns - 1)), [0.96]]) * paper.width
    top, y = step * 1.5, step * 1.5
    ruled = rng.random() < 0.7
    while y < paper.height - 2 * step:
        if ruled:
            paper.rule(edges[0], y, edges[-1], y)
        for left, right in pairwise(edges):
            text = number(rng) if rng.random() < 0.55 else paper.words(1)
            if rng.random() < 0.85 and draw_width(paper, text) < (right - left) * 0.9:
                paper.write(text, left + 6, y + step * 0.25)
        y += step
    if ruled:
        for edge in edges:
            paper.rule(edge, top, edge, y)


def _clutter(paper: Paper) -> None:
    """Things on paper that are not text: bar codes, stamps, scribbles."""
    rng, color = paper.rng, paper.layer.color
    busy = np.zeros((paper.height, paper.width), np.uint8)
    for quad in paper.layer.quads:
        cv2.fillPoly(busy, [np.round(quad).astype(np.int32)], 1)
    for _ in range(int(rng.integers(0, 3))):
        width, height = int(rng.integers(50, 160)), int(rng.integers(25, 80))
        x, y = int(rng.integers(0, paper.width - width)), int(rng.integers(0, paper.height - height))
        if busy[y : y + height, x : x + width].any():
            continue
        area, kind = color[y : y + height, x : x + width], rng.random()
        if kind < 0.4:
            bars = np.repeat(rng.random(width // 2 + 1) < 0.5, 2)[:width]
            area[:, bars] = 20
        elif kind < 0.7:
            points = (rng.random((12, 2)) * (width - 1, height - 1)).astype(np.int32) + np.array((x, y), np.int32)
            cv2.polylines(color, [points], False, paper.ink.tolist(), 1, cv2.LINE_AA)
        else:
            centre, axes = (x + width // 2, y + height // 2), (width // 2 - 1, height // 2 - 1)
            cv2.ellipse(color, centre, axes, 0, 0, 360, rng.integers(0, 200, 3).tolist(), 2)


def _worn(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Stains, a fold's shadow, fading, scanner noise, hard thresholding."""
    height, width = pixels.shape[:2]
    shade = cv2.resize(rng.normal(1, 0.06, (5, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    if rng.random() < 0.3:
        fold = int(rng.integers(height // 5, height * 4 // 5))
        reach = np.abs(np.arange(height) - fold) / rng.uniform(4, 40)
        shade *= (1 - rng.uniform(0.1, 0.4) * np.exp(-reach))[:, None].astype(np.float32)
    pixels = np.clip(pixels * shade[..., None], 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        pixels = (pixels * rng.uniform(0.4, 0.8) + 255 * 0.2).clip(0, 255).astype(np.uint8)
    pixels = cv2.add(pixels, rng.normal(0, rng.uniform(1, 14), pixels.shape).astype(np.int16), dtype=cv2.CV_8U)
    if rng.random() < 0.15:
        gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        level = float(gray.mean()) * rng.uniform(0.6, 0.85)
        pixels = cv2.cvtColor(((gray > level) * 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    return cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 0.9)) if rng.random() < 0.5 else pixels


def make_document(rng: np.random.Generator, photo: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A page, flat or photographed on a background.

    Args:
        rng: source of randomness.
        photo: (H, W, 3) uint8 RGB without text, for what lies around the page; None for a flat scan.

    Returns:
        The picture, and (N, 4, 2) corners of its lines.
    """
    kind = rng.integers(4)
    width = int(rng.integers(380, 620)) if kind == 0 else int(rng.integers(620, 960))
    height = int(width * (rng.uniform(1.2, 2.4) if kind == 0 else rng.uniform(0.8, 1.4)))
    paper = Paper(rng, width, height)
    (_receipt, _letter, _form, _table)[kind](paper)
    _clutter(paper)
    quads = np.array(paper.layer.quads, np.float32).reshape(-1, 4, 2)
    pixels = _worn(rng, paper.layer.color)
    if photo is None or not len(quads):
        return pixels, quads
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    margin = rng.uniform(0.02, 0.12, (4, 2)) * (width, height)
    target = (corners + margin * ((1, 1), (-1, 1), (-1, -1), (1, -1))).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    around = cv2.resize(photo, (width, height), interpolation=cv2.INTER_LINEAR)
    page = cv2.warpPerspective(pixels, matrix, (width, height), flags=cv2.INTER_AREA)
    cover = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, (width, height))[..., None]
    moved = cv2.perspectiveTransform(quads.reshape(1, -1, 2), matrix).reshape(-1, 4, 2)
    return (around * (1 - cover) + page * cover).astype(np.uint8), moved
