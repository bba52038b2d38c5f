"""Files in, small upright RGB pages out: headers, budgets, decoders. Decoders are loaded when a name is used."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detector.images.page import Page, count_pages, open_page, open_strips, page_header

__all__ = ["Page", "count_pages", "open_page", "open_strips", "page_header"]


def __getattr__(name: str) -> object:
    """A public name of `detector.images.page`, imported now (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module("detector.images.page"), name)
    globals()[name] = value
    return value
