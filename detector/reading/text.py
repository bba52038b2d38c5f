"""Lines and their places -> plain text. Pure Python: exports use it too."""

from __future__ import annotations

from collections.abc import Sequence

from detector.reading.line_box import Direction, Quad
from detector.reading.order import reading_blocks


def page_text(quads: Sequence[Quad], texts: Sequence[str], direction: Direction = "ltr") -> str:
    """A page's text in reading order: boxes of a row with a space between, a row a line, an empty line between blocks.

    Args:
        quads: 4 corners of every box.
        texts: what stands in it.
        direction: see `detector.reading.order.reading_order`.
    """
    blocks = []
    for block in reading_blocks(quads, direction):
        rows = (" ".join(texts[number] for number in row if texts[number]) for row in block)
        if lines := [row for row in rows if row]:
            blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
