"""Histograms as inline SVG: bars, a dashed line at the median, three labels."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from producer.output.totals import Histogram

WIDTH, HEIGHT, FOOT = 480, 150, 22  # SVG units
BARS = 40


def bars_of(histogram: Histogram, most: int = BARS) -> list[tuple[float, float, int]]:
    """(low edge, high edge, count) of the range in use, neighbouring bins joined until at most `most` are left."""
    used = [number for number, count in enumerate(histogram.counts) if count]
    if not used:
        return []
    first, last = used[0], used[-1]
    joined = -(-(last - first + 1) // most)
    return [
        (
            histogram.edges[start],
            histogram.edges[min(start + joined, len(histogram.counts))],
            sum(histogram.counts[start : start + joined]),
        )
        for start in range(first, last + 1, joined)
    ]


def histogram_svg(histogram: Histogram, caption: str, label: Callable[[float], str]) -> str:
    """A `<figure>` with the histogram, or with a line that says there is nothing to show.

    Args:
        histogram: what to draw.
        caption: what was measured.
        label: a value as text with its unit.
    """
    bars = bars_of(histogram)
    if not bars:
        return f'<figure class="card chart"><figcaption>{escape(caption)}: nothing was measured</figcaption></figure>'
    # A single bar as wide as the page would look like a mistake.
    slots = max(len(bars), 12)
    lead = (slots - len(bars)) / 2
    step, tallest = WIDTH / slots, max(count for _, _, count in bars)
    floor = HEIGHT - FOOT
    shapes = []
    for number, (low, high, count) in enumerate(bars):
        height = max(2.0, count / tallest * (floor - 8)) if count else 0.0
        tip = f"{label(low)} to {label(high)}: {count:,} images"
        shapes.append(
            f'<rect x="{(lead + number) * step + 1:.1f}" y="{floor - height:.1f}" width="{step - 2:.1f}" '
            f'height="{height:.1f}" rx="1.5"><title>{escape(tip)}</title></rect>'
        )
    median, p95 = histogram.quantile(0.5), histogram.quantile(0.95)
    at = step * (lead + _position(bars, median))
    shapes.append(f'<line x1="0" y1="{floor}" x2="{WIDTH}" y2="{floor}"/>')
    shapes.append(f'<line class="median" x1="{at:.1f}" y1="0" x2="{at:.1f}" y2="{floor}"/>')
    for x, anchor, value in ((0, "start", histogram.least), (WIDTH, "end", histogram.most)):
        shapes.append(f'<text x="{x}" y="{HEIGHT - 4}" text-anchor="{anchor}">{escape(label(value))}</text>')
    said = f"{caption}: median {label(median)}, 95 of 100 below {label(p95)}"
    return (
        f'<figure class="card chart"><figcaption>{escape(said)}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{"".join(shapes)}</svg></figure>'
    )


def _position(bars: list[tuple[float, float, int]], value: float) -> float:
    """Where a value lies, in bars from the left."""
    for number, (low, high, _) in enumerate(bars):
        if value < high:
            return number + max(0.0, (value - low) / (high - low))
    return float(len(bars))
