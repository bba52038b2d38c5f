"""Which tests are quick, and which stay together when pytest-xdist deals them out.

Quick are those that reach no server, no other program, and no training, and are not marked slow. Nobody keeps a list:
what a test reaches is read from the names in its code, in its fixtures', and in its helpers'.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType

import pytest

NOT_QUICK_MARKS = ("slow", "chaos", "serial")
# A test that reaches one of these starts a program (one with our imports takes half a second and more), or trains.
PROGRAMS = frozenset({"subprocess", "multiprocessing", "tests.processes", "tests.fleet.machines"})
SERVERS = frozenset({"producer.local.server", "moto.server"})
TRAINING = frozenset({f"detector.{name}" for name in ("training.trainer", "training.fit", "training.line_level")})
HEAVY = PROGRAMS | SERVERS | TRAINING


def is_quick(item: pytest.Item) -> bool:
    """Whether ``make quick`` runs this test."""
    if any(item.get_closest_marker(mark) for mark in NOT_QUICK_MARKS):
        return False
    seen: set[object] = set()
    return not any(_reaches(function, seen) for function in _functions(item))


def fixture_group(item: pytest.Item) -> str:
    """Tests with the same group run in the same process, one after the other: those that share a module's fixture.

    A fixture with parameters makes one group for each of them. Empty: this test may run anywhere.
    """
    if not isinstance(item, pytest.Function):
        return ""
    definitions = item._fixtureinfo.name2fixturedefs
    shared = [name for name, found in definitions.items() if found[-1].scope == "module"]
    if not shared:
        return ""
    parameters = getattr(item, "callspec", None)
    values = [str(parameters.params[name]) for name in shared if parameters and name in parameters.params]
    return "-".join([item.path.stem, *values])


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
    if module in HEAVY:
        return True
    if isinstance(value, type) and str(module).startswith("tests."):
        return any(_reaches(part, seen) for part in vars(value).values() if isinstance(part, FunctionType))
    if not isinstance(value, FunctionType) or value in seen or not str(module).startswith("tests."):
        return False
    seen.add(value)
    names = set(_names(value.__code__))
    # A name may also be an import inside the function.
    return bool(names & HEAVY) or any(
        _reaches(value.__globals__[name], seen) for name in names & value.__globals__.keys()
    )


def _names(code: CodeType) -> Iterator[str]:
    """Every global name of a function and of the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
