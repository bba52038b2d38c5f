"""How many records of a results stream to ask for at a time: Redis sends all of them, whatever of that is kept."""

from __future__ import annotations

from collections.abc import Sequence

from worker.broker.short_replies import that_fit

BATCH, FIRST_BATCH = 256, 16

_Entry = tuple[bytes, dict[bytes, bytes]]


class FewAtFirst:
    """A few at first, then twice as many each time, or as many as fitted: the others would be sent once more.

    Attributes:
        count: to ask for now.
    """

    def __init__(self) -> None:
        """Nothing was read yet."""
        self.count = FIRST_BATCH

    def that_fit(self, entries: Sequence[_Entry]) -> list[_Entry]:
        """Those of a reply that were not crowded out of it (short_replies.py). The others are asked for next."""
        fitting = that_fit(entries)
        self.count = min(BATCH, 2 * self.count) if len(fitting) == len(entries) else len(fitting)
        return fitting
