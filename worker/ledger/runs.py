"""Pages in a row, said by their first and their last."""

from __future__ import annotations

from collections.abc import Iterable


def runs_of(indices: Iterable[int]) -> list[int]:
    """The first and last page of each run, one after the other: ``[3, 4, 5, 9]`` gives ``[3, 5, 9, 9]``.

    Args:
        indices: of pages; rising ones make the fewest runs.
    """
    runs: list[int] = []
    for index in indices:
        if runs and index == runs[-1] + 1:
            runs[-1] = index
        else:
            runs += [index, index]
    return runs
