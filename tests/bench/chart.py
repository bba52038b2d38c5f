"""Pictures of benchmark results, for the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS = ("#0b5fa5", "#2a9d8f", "#7b5ea7", "#003049", "#5aa9e6")
OTHERS = ("#d1495b", "#e07a1f", "#b8860b", "#8c564b", "#7f7f7f")
INT8 = " int8"
MARKS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True, slots=True)
class Point:
    """One model on one data set at one size.

    Attributes:
        panel: name of the data set.
        model: its name.
        ours: whether it is one of ours.
        limit_side: longest side shown to the network, pixels.
        milliseconds: median of a picture.
        hmean: 0 to 1.
    """

    panel: str
    model: str
    ours: bool
    limit_side: int
    milliseconds: float
    hmean: float


def frontier(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in both time and hmean, from fast to slow."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.milliseconds, -point.hmean)):
        if not best or point.hmean > best[-1].hmean:
            best.append(point)
    return best


def network(model: str) -> str:
    """A model's name without its precision."""
    return model.removesuffix(INT8)


def colours(points: Sequence[Point]) -> dict[str, str]:
    """A colour a network: cool ones are ours, warm ones are others."""
    found: dict[str, str] = {}
    for ours, palette in ((True, OURS), (False, OTHERS)):
        names = list(dict.fromkeys(network(point.model) for point in points if point.ours is ours))
        found |= {name: palette[number % len(palette)] for number, name in enumerate(names)}
    return found


def draw_frontier(points: Sequence[Point], path: Path, subtitle: str) -> None:
    """Milliseconds against hmean, a panel for each data set, a mark for each size; the frontier is dashed.

    Others' networks in fp32 are hollow; ours, and what is called "int8", are filled.
    """
    from matplotlib.lines import Line2D
    from matplotlib.ticker import FixedLocator, NullLocator

    panels = list(dict.fromkeys(point.panel for point in points))
    figure, axes = _figure(len(panels), 4.6)
    colour, sizes = colours(points), sorted({point.limit_side for point in points})
    for panel, axis in zip(panels, axes, strict=True):
        here = [point for point in points if point.panel == panel]
        edge = frontier(here)
        axis.plot([p.milliseconds for p in edge], [p.hmean for p in edge], "--", color="#bbbbbb", lw=1, zorder=1)
        for model in dict.fromkeys(point.model for point in here):
            line = sorted((p for p in here if p.model == model), key=lambda p: p.limit_side)
            width = 2.0 if line[0].ours else 1.2
            shade = colour[network(model)]
            axis.plot([p.milliseconds for p in line], [p.hmean for p in line], color=shade, lw=width, zorder=2)
            filled = {"color": shade, "mec": "white", "mew": 0.8}
            look = filled if line[0].ours or model.endswith(INT8) else {"mfc": "white", "mec": shade, "mew": 1.6}
            for p in line:
                axis.plot(
                    p.milliseconds, p.hmean, MARKS[sizes.index(p.limit_side) % len(MARKS)], ms=8, zorder=3, **look
                )
        low, high = min(p.milliseconds for p in here), max(p.milliseconds for p in here)
        axis.set_xscale("log")
        axis.set_xlim(low / 1.25, high * 1.25)
        ticks = [t for t in (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if low / 1.25 <= t <= high * 1.25]
        axis.xaxis.set_major_locator(FixedLocator(ticks))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xticklabels([str(tick) for tick in ticks])
        axis.set(title=panel, xlabel="milliseconds a picture")
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("hmean (IoU 0.5)")
    handles: list[Any] = [Line2D([], [], color=shade, lw=2.5, label=name) for name, shade in colour.items()]
    if any(not p.ours and not p.model.endswith(INT8) for p in points):
        handles.append(
            Line2D([], [], mfc="white", mec="#555555", mew=1.6, marker="o", lw=0, ms=8, label="hollow: fp32")
        )
    handles += [
        Line2D([], [], color="#555555", marker=MARKS[i % len(MARKS)], lw=0, ms=8, label=f"long side {size}")
        for i, size in enumerate(sizes)
    ]
    handles.append(Line2D([], [], color="#bbbbbb", ls="--", lw=1, label="none better and faster"))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(f"Up and left is better. {subtitle}", fontsize=10)
    figure.savefig(path, dpi=120)


@dataclass(frozen=True, slots=True)
class Bar:
    """One program in a side-by-side comparison.

    Attributes:
        name: of the program (and model).
        ours: whether it is ours.
        median_ms, p95_ms: of a picture.
        peak_mb: peak RSS of the process, MiB.
        hmean: 0 to 1; None without ground truth.
    """

    name: str
    ours: bool
    median_ms: float
    p95_ms: float
    peak_mb: float
    hmean: float | None


def draw_bars(bars: Sequence[Bar], path: Path, subtitle: str) -> None:
    """Time, memory and hmean of programs, side by side; the thin line reaches to the 95th percentile."""
    kinds = ["milliseconds a picture (median, line to p95)", "peak RSS, MB"]
    kinds += ["hmean (IoU 0.5)"] if all(bar.hmean is not None for bar in bars) else []
    figure, axes = _figure(len(kinds), 1.4 + 0.42 * len(bars))
    places, names = list(range(len(bars))), [bar.name for bar in bars]
    shades = [OURS[0] if bar.ours else OTHERS[0] for bar in bars]
    for axis, kind in zip(axes, kinds, strict=True):
        values = [_value(bar, kind) for bar in bars]
        reach = [bar.p95_ms if kind.startswith("milli") else value for bar, value in zip(bars, values, strict=True)]
        axis.barh(places, values, color=shades, height=0.62)
        if kind.startswith("milli"):
            axis.hlines(places, values, reach, color="#333333", lw=1.2)
        for place, value, end in zip(places, values, reach, strict=True):
            text = f"{value:.3f}" if kind.startswith("hmean") else f"{value:.0f}"
            axis.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
        axis.set(title=kind, yticks=places, yticklabels=names if axis is axes[0] else [])
        axis.title.set_fontsize(10)
        axis.invert_yaxis()
        axis.set_xlim(0, max(reach) * 1.18)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(subtitle, fontsize=10)
    figure.savefig(path, dpi=120)


def _value(bar: Bar, kind: str) -> float:
    if kind.startswith("hmean"):
        return bar.hmean or 0.0
    return bar.median_ms if kind.startswith("milli") else bar.peak_mb


def _figure(panels: int, height: float) -> tuple[Any, list[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, 4.1 * panels), height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])
