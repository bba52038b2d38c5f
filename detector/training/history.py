"""What a run leaves for people: metrics.csv and a picture of the curve, rewritten after every epoch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detector.atomic import atomic_write

METRICS, CURVE = "metrics.csv", "curve.png"
COLUMNS = ("epoch", "step", "loss", "precision", "recall", "hmean")


def write_history(rows: Sequence[dict[str, Any]], run: Path) -> None:
    """Writes RUN/metrics.csv (whole, or not at all: the process may be killed) and RUN/curve.png.

    Args:
        rows: by epoch, with some of COLUMNS; epoch 0 is the start, before any training.
        run: folder.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(run / METRICS, sync=True) as unfinished:
        unfinished.write_text(text.getvalue(), encoding="utf-8")
    draw_curve(rows, run / CURVE)


def draw_curve(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A PNG of the training loss and the validation hmean by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    losses = [(row["epoch"], row["loss"]) for row in rows if "loss" in row]
    scores = [(row["epoch"], row["hmean"]) for row in rows if "hmean" in row]
    if losses:
        axes.plot(*zip(*losses, strict=True), color="tab:gray", marker="o")
    axes.set(xlabel="epoch", ylabel="training loss")
    axes.yaxis.label.set_color("tab:gray")
    if scores:
        right = axes.twinx()
        right.plot(*zip(*scores, strict=True), color="tab:blue", marker="o")
        right.set_ylabel("validation hmean")
        right.yaxis.label.set_color("tab:blue")
        best = max(scores, key=lambda score: score[1])
        right.annotate(f"{best[1]:.3f}", best, xytext=(0, 6), textcoords="offset points", ha="center", color="tab:blue")
        right.margins(y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=110)
