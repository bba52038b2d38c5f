"""How many names of workers are kept, by the exporter and by Flower: whoever may write to Redis makes them up."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_WORKERS, FORGET_S = 500, 3600.0
"""Names, and how long one is remembered that is gone, seconds. Each is four series of the exporter's that Prometheus
holds for two hours: 60,000 of somebody's took its 256 MB in 65 s, and again after each start. To Flower, who is there
sends a heartbeat every two seconds: it is not forgotten."""


class FewWorkers:
    """The names that were heard of, at most `most`; one that was silent for `forget_s` makes room for a new one."""

    def __init__(
        self, most: int = MOST_WORKERS, forget_s: float = FORGET_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._forget_s, self._clock = most, forget_s, clock
        self._seen: dict[str, float] = {}  # the longest silent first

    def admit(self, name: str) -> tuple[bool, str]:
        """Whether there is room for this name, and which other one was forgotten for it, if any."""
        now, forgotten = self._clock(), ""
        if self._seen.pop(name, None) is None and len(self._seen) >= self._most:
            longest = next(iter(self._seen))
            if now - self._seen[longest] < self._forget_s:
                return False, ""
            del self._seen[longest]
            forgotten = longest
        self._seen[name] = now
        return True, forgotten
