"""Headers of HTTP that have few bytes in all, whoever sends them.

Python's http.client, urllib, http.server and wsgiref take 100 header lines of 64 KiB each, and hand them to a parser of
e-mail, for which a lone CR ends a line: 6.4 MB that somebody sent were 280 MB of objects. They bound the line and the
number of lines, not their sum. Each of our uses goes through this module (`tests/detector/http/test_few_headers.py`).
"""

from __future__ import annotations

import http.client
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MOST_BYTES = 32 << 10
"""Of the lines before a body, together: what nginx takes of a request's. Parsed they are 2 MB at most."""


class FewLines:
    """A file of which `readline` alone is asked for, and whose lines have `MOST_BYTES` at most, together."""

    def __init__(self, file: Any) -> None:
        """Read nothing yet.

        Args:
            file: bytes; what is behind the lines is read from it, not from here.
        """
        self._file = file
        self._left = MOST_BYTES

    def readline(self, size: int) -> bytes:
        """The next line, or so many bytes of it.

        Raises:
            HTTPException: there were too many before.
        """
        line: bytes = self._file.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.HTTPException(f"headers of more than {MOST_BYTES >> 10} KiB")
        return line

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@contextmanager
def few_lines(owner: Any, name: str) -> Iterator[None]:
    """While this goes on, an object's file is a `FewLines`; one that was taken away meanwhile stays away."""
    file = getattr(owner, name)
    setattr(owner, name, few := FewLines(file))
    try:
        yield
    finally:
        if getattr(owner, name) is few:
            setattr(owner, name, file)


class Answer(http.client.HTTPResponse):
    """An answer, with all that comes before it (100 Continue) and its headers in `MOST_BYTES`."""

    def begin(self) -> None:
        """Read what is before the body.

        Raises:
            HTTPException: it is none, or too much.
        """
        with few_lines(self, "fp"):
            super().begin()


class HTTPConnection(http.client.HTTPConnection):
    """As http.client's, for such answers."""

    response_class = Answer


class HTTPSConnection(http.client.HTTPSConnection):
    """As http.client's, for such answers."""

    response_class = Answer


class HTTPHandler(urllib.request.HTTPHandler):
    """As urllib's, for such answers."""

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Ask."""
        return self.do_open(HTTPConnection, req)


class HTTPSHandler(urllib.request.HTTPSHandler):
    """As urllib's, for such answers."""

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        """Ask."""
        return self.do_open(HTTPSConnection, req, context=self._context)  # type: ignore[attr-defined]
