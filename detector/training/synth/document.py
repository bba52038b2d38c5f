"""Synthetic documents: receipts, letters, forms, tables and notices, scanned or photographed badly."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from detector.training.synth.paper import Paper, add_clutter, wear
from detector.training.synth.text import brand, english, number


def _receipt(paper: Paper) -> None:
    """A centred head, goods with prices, totals, thanks; nothing is ruled, hyphens part it."""
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.15, 1.8)
    y, left, right = step, paper.width * rng.uniform(0.03, 0.1), paper.width * rng.uniform(0.9, 0.97)
    middle = paper.width / 2
    if rng.random() < 0.35:
        y += paper.picture(middle, y, int(paper.size * rng.uniform(2, 4))) + step * 0.5
    for place in range(int(rng.integers(2, 7))):
        size = int(paper.size * (rng.uniform(1.1, 1.9) if place == 0 else 1))
        paper.write(paper.words(int(rng.integers(1, 6))), middle, y, size, align=0.5, bold=place == 0)
        y += step * max(1.0, size / paper.size)
    loose = rng.random() < 0.3
    while y < paper.height * 0.8:
        chance = rng.random()
        if chance < 0.08:
            paper.dashes(y, left, right)
        elif chance < 0.25:
            paper.write(paper.words(int(rng.integers(2, 5))), left, y)
        elif chance < 0.32:
            paper.write(f"{english(rng, 1)}: {number(rng)}", left, y)
        else:
            paper.write(paper.words(int(rng.integers(1, 4))), left, y)
            for x in (0.55, 0.72)[: int(rng.integers(0, 3))]:
                paper.write(number(rng), paper.width * x, y, align=1)
            paper.write(number(rng), right, y, align=1)
        y += step * (rng.uniform(1, 2) if loose else 1)
    while y < paper.height - 3 * step:
        if rng.random() < 0.4:
            paper.write(paper.words(int(rng.integers(2, 6))), middle, y, align=0.5)
        else:
            size = int(paper.size * rng.choice((1, 1, 1.5)))
            paper.write(english(rng, int(rng.integers(1, 3))) + " :", paper.width * 0.66, y, size, align=1)
            paper.write(number(rng), right, y, size, align=1, bold=size > paper.size)
        y += step * 1.3


def _letter(paper: Paper) -> None:
    """One to three columns of running text, paragraphs, headings, lists."""
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.2, 2.0)
    columns = int(rng.choice((1, 1, 1, 2, 2, 3)))
    column_width = paper.width * 0.9 / columns
    y0 = step
    if rng.random() < 0.5:
        head = int(paper.size * rng.uniform(1.3, 2.4))
        paper.write(paper.words(3), paper.width / 2, y0, head, align=0.5, bold=True)
        y0 += head * 1.8
    for column in range(columns):
        x, y = paper.width * 0.06 + column * column_width, y0
        while y < paper.height - 2 * step:
            chance = rng.random()
            if chance < 0.1:
                y += step
                continue
            if chance < 0.15:
                size = int(paper.size * rng.uniform(1.05, 1.4))
                paper.write(paper.words(int(rng.integers(1, 4))), x, y, size, bold=True)
                y += step * 1.4
                continue
            indent = paper.size * 2 if chance > 0.92 else 0
            room = column_width * (0.9 if rng.random() < 0.8 else rng.uniform(0.2, 0.8)) - indent
            text = paper.words(int(rng.integers(10, 18)))
            while text and paper.written_width(text) > room:
                text = text[: int(len(text) * 0.85)].rstrip()
            paper.write(text, x + indent, y)
            y += step


def _form(paper: Paper) -> None:
    """Labels with answers, some by hand, in boxes or on lines; boxes to tick."""
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.6, 2.8)
    y = step
    if rng.random() < 0.3:
        paper.picture(paper.width * rng.choice((0.12, 0.88)), y, int(paper.size * 2.5))
    paper.write(paper.words(3), paper.width / 2, y, int(paper.size * rng.uniform(1.2, 1.9)), align=0.5, bold=True)
    y += step * 1.6
    by_hand = rng.random() < 0.35
    while y < paper.height - 2 * step:
        cells = int(rng.choice((1, 2, 2, 3)))
        boxed, tick = rng.random() < 0.45, rng.random() < 0.12
        for cell in range(cells):
            x, width = paper.width * (0.05 + 0.9 * cell / cells), paper.width * 0.9 / cells
            if tick:
                side = int(paper.size * 0.8)
                cv2.rectangle(
                    paper.layer.color, (int(x), int(y)), (int(x) + side, int(y) + side), paper.ink.tolist(), 1
                )
                paper.write(paper.words(int(rng.integers(1, 3))), x + 1.5 * paper.size, y)
                continue
            label = paper.words(int(rng.choice((1, 1, 2)))) + str(rng.choice((":", ":", "", "*")))
            used = paper.write(label, x + 6, y, bold=bool(rng.random() < 0.15))
            if rng.random() < 0.6 and used < width * 0.5:
                answer = number(rng) if rng.random() < 0.5 else paper.words(int(rng.choice((1, 1, 2))))
                if paper.written_width(answer) < width - used - paper.size * 2:
                    paper.write(answer, x + used + paper.size * rng.uniform(1.4, 2.5), y, hand=by_hand)
            if boxed:
                top, bottom = int(y - step * 0.3), int(y + step * 0.65)
                cv2.rectangle(paper.layer.color, (int(x), top), (int(x + width), bottom), paper.ink.tolist(), 1)
            elif rng.random() < 0.5:
                paper.rule(x + used + paper.size, y + paper.size * 1.15, x + width * 0.95, y + paper.size * 1.15)
        y += step


def _table(paper: Paper) -> None:
    """Rows and columns, ruled, striped or bare."""
    rng, step = paper.rng, paper.size * paper.rng.uniform(1.4, 2.3)
    columns = int(rng.integers(3, 9))
    edges = np.concatenate([[0.04], np.sort(rng.uniform(0.12, 0.88, columns - 1)), [0.96]]) * paper.width
    top = y = step * 2.5
    paper.write(paper.words(3), paper.width / 2, step * 0.6, int(paper.size * 1.3), align=0.5, bold=True)
    ruled, striped, align = rng.random() < 0.6, rng.random() < 0.25, float(rng.choice((0.0, 0.0, 0.5, 1.0)))
    row = 0
    while y < paper.height - 2 * step:
        if striped and row % 2:
            band = paper.layer.color[int(y) : int(y + step)]
            band[:] = (band * 0.88).astype(np.uint8)
        if ruled:
            paper.rule(edges[0], y, edges[-1], y)
        for left, right in pairwise(edges):
            text = number(rng) if rng.random() < 0.55 and row else paper.words(int(rng.choice((1, 1, 2))))
            if rng.random() < 0.85 and paper.written_width(text) < (right - left) * 0.9:
                x = left + 6 + align * (right - left - 12)
                paper.write(text, x, y + step * 0.22, align=align, bold=row == 0)
        y += step
        row += 1
    if ruled:
        for edge in edges:
            paper.rule(edge, top, edge, y)
        paper.rule(edges[0], y, edges[-1], y)


def _notice(paper: Paper) -> None:
    """A label, card or poster: few lines of very different sizes, centred."""
    rng = paper.rng
    paper.size = int(paper.size * 1.5)
    y = paper.size * rng.uniform(1, 3)
    if rng.random() < 0.5:
        y += paper.picture(paper.width / 2, y, int(paper.size * rng.uniform(2, 5))) + paper.size
    align = float(rng.choice((0.5, 0.5, 0.0)))
    x = paper.width * (0.5 if align else 0.08)
    while y < paper.height - 3 * paper.size:
        size = int(paper.size * np.exp(rng.normal(0, 0.45)))
        text = brand(rng).upper() if rng.random() < 0.2 else paper.words(int(rng.integers(1, 5)))
        if paper.written_width(text, size) < paper.width * 0.9:
            paper.write(text, x, y, size, align=align, bold=bool(rng.random() < 0.3))
        y += size * rng.uniform(1.25, 2.2) + 2


def _curl(rng: np.random.Generator, pixels: np.ndarray, quads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A page that does not lie flat: rows sag along a slow wave, by at most two thirds of a common line."""
    height, width = pixels.shape[:2]
    depth, waves, phase = rng.uniform(2, 9), rng.uniform(0.3, 1.1), rng.uniform(0, 2 * np.pi)

    def sag(x: np.ndarray) -> np.ndarray:
        return np.asarray(depth * np.sin(x / width * 2 * np.pi * waves + phase), np.float32)

    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    curled = cv2.remap(pixels, x, y - sag(x), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = quads.copy()
    moved[..., 1] += sag(quads[..., 0])
    return np.asarray(curled), moved


def make_document(rng: np.random.Generator, photo: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A page, flat or photographed on a background.

    Args:
        rng: source of randomness.
        photo: (H, W, 3) uint8 RGB without text, for what lies around the page; None for a flat scan.

    Returns:
        The picture, and (N, 4, 2) corners of its lines.
    """
    kind = int(rng.choice((0, 0, 1, 2, 2, 3, 4)))
    width = int(rng.integers(380, 620)) if kind == 0 else int(rng.integers(620, 960))
    height = int(width * (rng.uniform(1.2, 2.4) if kind == 0 else rng.uniform(0.8, 1.4)))
    paper = Paper(rng, width, min(height, 1200))
    height = paper.height
    (_receipt, _letter, _form, _table, _notice)[kind](paper)
    add_clutter(paper)
    quads = np.array(paper.layer.quads, np.float32).reshape(-1, 4, 2)
    pixels = wear(rng, paper.layer.color)
    if rng.random() < 0.05:
        pixels = 255 - pixels
    if len(quads) and rng.random() < 0.15:
        pixels, quads = _curl(rng, pixels, quads)
    if photo is None or not len(quads):
        return pixels, quads
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    margin = rng.uniform(0.01, 0.12, (4, 2)) * (width, height)
    target = (corners + margin * ((1, 1), (-1, 1), (-1, -1), (1, -1))).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(corners, target)
    around = cv2.resize(photo, (width, height), interpolation=cv2.INTER_LINEAR)
    page = cv2.warpPerspective(pixels, matrix, (width, height), flags=cv2.INTER_AREA)
    cover = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, (width, height))[..., None]
    moved = cv2.perspectiveTransform(quads.reshape(1, -1, 2), matrix).reshape(-1, 4, 2)
    return (around * (1 - cover) + page * cover).astype(np.uint8), moved
