"""Which tests are quick: those that reach no server, no other program, and no training, and are not marked slow.

Nobody keeps a list: what a test reaches is read from the names in its code, in its fixtures', and in its helpers'.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

NOT_QUICK_MARKS = ("slow", "chaos", "serial")
# A test that reaches one of these modules (or one inside) starts a program (one with our imports takes half a second
# and more), or it starts a server, or it trains, exports or quantizes a network, which takes two to fifteen.
PROGRAMS = ("subprocess", "multiprocessing", "tests.processes", "tests.fleet.machines", "tests.fleet.tls")
SERVERS = ("producer.local.server", "moto.server")
TRAINING = ("detector.training.trainer", "detector.training.fit", "detector.training.line_level", "detector.cli.train")
NETWORKS = (
    "detector.convert",
    "detector.network",
    "detector.cli.export",
    "detector.cli.quantize",
    "detector.cli.prune",
)
HEAVY = PROGRAMS + SERVERS + TRAINING + NETWORKS


def is_quick(item: pytest.Item) -> bool:
    """Whether ``make quick`` runs this test."""
    if any(item.get_closest_marker(mark) for mark in NOT_QUICK_MARKS):
        return False
    seen: set[object] = set()
    return not any(_reaches(function, seen) for function in _functions(item))


def in_good_order(items: list[pytest.Item]) -> list[pytest.Item]:
    """For several processes: long files first, those that wait (for servers, clocks) and those that compute in turn.

    Otherwise a test that waits two minutes for a clock is the last, and alone; or all processes wait at the beginning
    and compute at the end.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    long = [name for name, tests in files.items() if any(_takes_long(item) for item in tests)]
    computing = [name for name in long if "detector" in name.parts]
    waiting = [name for name in long if "detector" not in name.parts]
    mixed = [name for pair in zip_longest(waiting, computing) for name in pair if name is not None]
    return [item for name in dict.fromkeys([*mixed, *files]) for item in files[name]]


def _takes_long(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(mark) for mark in ("slow", "chaos"))


def _functions(item: pytest.Item) -> Iterator[FunctionType]:
    """The test's own function and those of all fixtures it uses."""
    if not isinstance(item, pytest.Function):
        return
    yield inspect.unwrap(item.function)
    for definitions in item._fixtureinfo.name2fixturedefs.values():
        yield from (found for each in definitions if isinstance(found := inspect.unwrap(each.func), FunctionType))


def _reaches(value: object, seen: set[object]) -> bool:
    """Whether this function, class or module is one of the heavy ones, or uses one."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if any(f"{module}.".startswith(f"{heavy}.") for heavy in HEAVY):
        return True
    if isinstance(value, type) and str(module).startswith("tests."):
        return any(_reaches(part, seen) for part in vars(value).values() if isinstance(part, FunctionType))
    if not isinstance(value, FunctionType) or value in seen or not str(module).startswith("tests."):
        return False
    seen.add(value)
    names = set(_names(value.__code__))
    # A name may also be an import inside the function.
    return not names.isdisjoint(HEAVY) or any(
        _reaches(value.__globals__[name], seen) for name in names & value.__globals__.keys()
    )


def _names(code: CodeType) -> Iterator[str]:
    """Every global name of a function and of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
