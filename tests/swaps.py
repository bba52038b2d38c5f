"""A file that somebody replaces between the look at it and its opening, as a review's attacker did by renameat2."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def replace_when_looked_at(path: Path, put_in_its_place: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first look at ``path`` it is gone, and ``put_in_its_place`` has made something else there."""
    look = os.stat

    def stat(name: int | str | Path, *args: object, **kwargs: object) -> os.stat_result:
        found = look(name, *args, **kwargs)  # type: ignore[arg-type]
        if str(name) == str(path):
            monkeypatch.undo()
            path.unlink()
            put_in_its_place()
        return found

    monkeypatch.setattr(os, "stat", stat)
