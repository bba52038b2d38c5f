"""How many connections there are: one more takes the place of the oldest of those that showed no token.

uvicorn takes as many as there are files, and answers 503 to who asks something while there are 256. Without a token,
1,500 with half a header had all 1,024 files of the page, so that others' jobs met "Too many open files"; 12,000 took
240 MB; and 256 kept everybody out, also who asks whether the page lives.
"""

from __future__ import annotations

import asyncio
import resource
import weakref
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

from starlette.types import Scope

MOST_CONNECTIONS = 256
AT_A_TURN = 16
"""Taken at a turn of the loop, uvicorn's 2,048 otherwise: a request's head is read within four turns, before 256 others
took its place."""

IN_LINE = 2048
"""Connections that the kernel keeps until their turn comes."""

_CONNECTION = "ocrfleet.connection"


def most_connections() -> int:
    """A quarter of the files that this process may have open, at most: jobs and their processes need the others."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(MOST_CONNECTIONS, files // 4))


class Connection(Protocol):
    """What uvicorn makes for each.

    Attributes:
        connections: all of them.
        tasks: a request each, of all connections, also of those that are gone.
        is_known: who is there has shown the token once, or needs none.
    """

    connections: FewConnections
    tasks: Collection[object]
    is_known: bool

    def end(self) -> None:
        """Close it at once, with what was not read of it."""


def with_connection(state: dict[str, Any], connection: Connection) -> dict[str, Any]:
    """What uvicorn gives each request of a connection as its scope's ``state``: with which one it is.

    That keeps none which is gone: 3,000 a second that waited for Python to find them were 60 MB.
    """
    return {**state, _CONNECTION: weakref.ref(connection)}


def know(scope: Scope) -> None:
    """Keep this request's connection, whoever else comes."""
    if connection := _connection_of(scope):
        connection.is_known = True


def is_one_too_many(scope: Scope) -> bool:
    """Whether all other places are taken by who is known, or too many requests are at work.

    uvicorn's own bound of requests looks at no path: it told 503 to who asked whether the page lives.
    """
    if (connection := _connection_of(scope)) is None:
        return False
    few = connection.connections
    return (few.is_full and not connection.is_known) or len(connection.tasks) > few.most_requests


def _connection_of(scope: Scope) -> Connection | None:
    reference: Callable[[], Connection | None] = scope.get("state", {}).get(_CONNECTION, lambda: None)
    return reference()


class FewConnections:
    """In the place of uvicorn's set of connections: these in the order in which they came.

    Attributes:
        most_requests: at a time, also those whose connection is gone.
    """

    def __init__(self, most: int) -> None:
        """None yet.

        Args:
            most: at a time, and one more where all of these are known, which is to be told so.
        """
        self._most, self.most_requests = most, 2 * most
        self._all: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """It came. The oldest of those that are not known goes where there are too many."""
        self._all[connection] = None
        if len(self._all) > self._most:
            oldest = next(one for one in self._all if not one.is_known or one is connection)
            if oldest is not connection:
                self.discard(oldest)
                oldest.end()

    def discard(self, connection: Connection) -> None:
        """It is gone, if it was there."""
        self._all.pop(connection, None)

    @property
    def is_full(self) -> bool:
        """Whether there is one more than there may be."""
        return len(self._all) > self._most

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._all)


def lengthen_line(server: asyncio.Server) -> None:
    """Have the kernel keep more connections than are taken at a turn."""
    for taking in server.sockets:
        with taking.dup() as twin:
            twin.listen(IN_LINE)
