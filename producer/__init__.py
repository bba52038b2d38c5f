"""The producer: lists the pages of folders, archives and PDFs, feeds them to workers, and collects the results."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer.web.client import Client as Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    """`Client` is imported when it is asked for: nothing else here needs it."""
    if name == "Client":
        return import_module("producer.web.client").Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
