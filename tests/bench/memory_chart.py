"""Pictures of the memory benchmarks, for the README."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.chart import OTHERS, OURS


@dataclass(frozen=True, slots=True)
class Sample:
    """A process's memory over the last hundred images of a long run.

    Attributes:
        done: images until then.
        rss_mb: median of its resident size, MiB.
        peak_mb: the largest, MiB.
    """

    done: int
    rss_mb: float
    peak_mb: float


def draw_long_run(samples: Sequence[Sample], reference: Sample, path: Path, subtitle: str) -> None:
    """Memory over images, with a band of 5 % around what it was at ``reference``."""
    figure = _figure(7.5, 3.8)
    axis = figure.add_subplot()
    done = [sample.done for sample in samples]
    low, high = reference.rss_mb * 0.95, reference.rss_mb * 1.05
    axis.axhspan(low, high, color="#2a9d8f", alpha=0.15, label=f"5 % around the RSS after {reference.done} images")
    axis.plot(done, [sample.rss_mb for sample in samples], color=OURS[0], lw=1.8, label="RSS (median of 100 images)")
    axis.plot(done, [sample.peak_mb for sample in samples], color=OTHERS[0], lw=1.0, label="peak of 100 images")
    axis.set(xlabel="images", ylabel="MB", ylim=(0, max(sample.peak_mb for sample in samples) * 1.25), xlim=(0, None))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right", fontsize=9)
    figure.suptitle(subtitle, fontsize=10)
    figure.savefig(path, dpi=120)


@dataclass(frozen=True, slots=True)
class Limited:
    """What one program made of the same pictures inside one memory limit.

    Attributes:
        program: its name.
        ours: whether it is ours.
        limit_mb: of the cgroup, MiB.
        ok: share of the pictures, 0 to 1.
        refused: share that got a reason instead of boxes, 0 to 1.
        rate: pictures a second.
        oom_kills: how often the kernel killed it.
    """

    program: str
    ours: bool
    limit_mb: int
    ok: float
    refused: float
    rate: float
    oom_kills: int


def draw_limits(results: Sequence[Limited], path: Path, subtitle: str) -> None:
    """Success and speed of programs, a group of bars for each limit."""
    figure = _figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    limits = sorted({result.limit_mb for result in results}, reverse=True)
    programs = list(dict.fromkeys(result.program for result in results))
    width = 0.8 / len(programs)
    for number, program in enumerate(programs):
        mine = sorted((result for result in results if result.program == program), key=lambda r: -r.limit_mb)
        places = [limits.index(result.limit_mb) + (number + 0.5) * width - 0.4 for result in mine]
        colour = OURS[0] if mine[0].ours else OTHERS[0]
        ok = [100 * result.ok for result in mine]
        left.bar(places, ok, width * 0.92, color=colour, label=f"{program}: boxes")
        left.bar(
            places,
            [100 * result.refused for result in mine],
            width * 0.92,
            bottom=ok,
            color=colour,
            alpha=0.35,
            label=f"{program}: refused, with a reason" if any(result.refused for result in mine) else None,
        )
        right.bar(places, [result.rate for result in mine], width * 0.92, color=colour, label=program)
        for place, result in zip(places, mine, strict=True):
            kills = f"\n{result.oom_kills} kill{'s' if result.oom_kills > 1 else ''}" if result.oom_kills else ""
            _write(left, place, 100 * (result.ok + result.refused), f"{100 * result.ok:.0f} %{kills}")
            _write(right, place, result.rate, f"{result.rate:.1f}")
    for axis, title in ((left, "pictures that got their boxes, %"), (right, "pictures a second, restarts included")):
        axis.set_xticks(range(len(limits)), [f"{limit} MB" for limit in limits])
        axis.set_title(title, fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    left.set_ylim(0, 128)
    left.set_yticks(range(0, 101, 20))
    right.set_ylim(0, max(result.rate for result in results) * 1.15)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(subtitle, fontsize=10)
    figure.savefig(path, dpi=120)


def _write(axis: Any, place: float, height: float, text: str) -> None:
    axis.annotate(text, (place, height), (0, 3), textcoords="offset points", ha="center", va="bottom", fontsize=8)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
