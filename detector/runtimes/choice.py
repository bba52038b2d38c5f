"""Which runtime holds a model: the one that was asked for, or what `ocr-detector tune` found best here."""

from __future__ import annotations

import logging
from pathlib import Path

from detector.errors import ModelError
from detector.images.sizes import TILE
from detector.models import ModelCard, load_card
from detector.runtimes import Runtime, file_kind, load_runtime
from detector.runtimes.tuned import RUNTIMES, Candidate, tuned

_log = logging.getLogger("detector")


def _tuned(
    card: ModelCard, threads: int | None, limit_side: int, tiled: bool, memory_limit: int | None
) -> Candidate | None:
    # With tiles the network never sees more than a tile.
    seen_side = min(limit_side, TILE) if tiled else limit_side
    return tuned(card.sha256, seen_side, threads, memory_limit / 2**20 if memory_limit else None)


def auto_runtime(model: str | Path, *, threads: int, limit_side: int, tiled: bool, memory_limit: int | None) -> str:
    """The runtime that "auto" would be in a TextDetector of these settings; loads none.

    Raises:
        ModelError: no such model.
    """
    candidate = _tuned(load_card(model), threads, limit_side, tiled, memory_limit)
    return candidate.runtime if candidate else RUNTIMES[0]


def load_model(
    model: str | Path, runtime: str, threads: int | None, limit_side: int, tiled: bool, memory_limit: int | None
) -> tuple[ModelCard, Runtime, int]:
    """The model's card, the runtime holding it, and its threads. What "auto" means is `detector.runtimes.tuned`."""
    card = load_card(model, file_kind(runtime))
    if runtime == "auto" and (candidate := _tuned(card, threads, limit_side, tiled, memory_limit)):
        try:
            chosen = load_card(model, file_kind(candidate.runtime))
            return chosen, load_runtime(candidate.runtime, chosen, candidate.threads), candidate.threads
        except (ModelError, ImportError) as error:
            _log.warning("the tuned runtime %s does not load (%s); using the default", candidate.runtime, error)
    return card, load_runtime(runtime, card, threads or 1), threads or 1
