"""The recognisers of this machine, and whether the whole fleet has them."""

from __future__ import annotations

from collections.abc import Mapping

from detector.errors import ModelError
from detector.reading.models import list_readers


def readers_here() -> tuple[str, ...]:
    """Names of the recognisers on this machine. A card that cannot be read counts for none: detection needs none."""
    try:
        return tuple(list_readers())
    except ModelError:
        return ()


def lacking(readers: Mapping[str, tuple[str, ...]]) -> dict[str, list[str]]:
    """Each recogniser that some workers have and others lack, with those that lack it.

    Args:
        readers: of each worker by its name.
    """
    known = sorted({name for names in readers.values() for name in names})
    missing = {name: sorted(worker for worker, names in readers.items() if name not in names) for name in known}
    return {name: workers for name, workers in missing.items() if workers}
