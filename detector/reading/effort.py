"""How much may be looked at on one page. Pure Python."""

from __future__ import annotations


class Effort:
    """Steps that end: what takes long on a stranger's page is given up, the same way on each machine."""

    def __init__(self, most: int) -> None:
        """So many steps are there."""
        self._left = most

    def spend(self, steps: int) -> bool:
        """Whether so many are left; they are not, then."""
        self._left -= steps
        return self._left >= 0
