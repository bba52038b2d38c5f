"""Answers of https servers that are known to be whole, or end in an error.

For Python's http.client and ssl any end of a connection is the end of what is read: of a body that is shorter than its
Content-Length, of half a header or half a chunk's length, and of a TLS connection without its closing message
(close_notify). Whoever sits on the way needs no key to end one. A PDF with an update behind it is a sound PDF
without it: a page that was cut off there was "ok", and its second page was nowhere.
"""

from __future__ import annotations

import io
import ssl
import sys
import urllib.request
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any, cast

from detector.http.few_headers import Answer, HTTPSConnection, HTTPSHandler


class _Lines(io.BufferedReader):
    """What a server sends: lines, to the empty one, then the body, in which a chunk's length is a line, too."""

    in_body = False

    def readline(self, size: int | None = -1, /) -> bytes:
        """A whole line, or the bytes that were asked for; in the body none at the end.

        Raises:
            HTTPException: it is cut off, or no chunk's length.
            ConnectionError: there is none before the body.
        """
        most = sys.maxsize if size is None or size < 0 else size
        try:
            line = super().readline(most)
        except ssl.SSLEOFError:
            if not self.in_body:
                raise
            line = b""  # behind the last chunk nothing has to follow; before it http.client misses a length
        if not line and not self.in_body:
            raise RemoteDisconnected("the connection ended before the headers did")
        if line and not line.endswith(b"\n") and len(line) < most:
            raise HTTPException("the connection ended in the middle of a line")
        if self.in_body and line.lstrip().startswith(b"-"):  # of -1 bytes http.client reads whatever comes, into memory
            raise HTTPException("a chunk of less than no bytes")
        return line


class _Answer(Answer):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.fp = _Lines(self.fp.detach())

    def begin(self) -> None:
        super().begin()
        cast("_Lines", self.fp).in_body = True


class _Connection(HTTPSConnection):
    response_class = _Answer

    def connect(self) -> None:
        super().connect()
        self.sock.suppress_ragged_eofs = False  # type: ignore[union-attr]  # typeshed knows it not


class WholeHTTPSHandler(HTTPSHandler):
    """Opens https addresses so that each read of a body that has no announced length ends in close_notify or an error.

    Of a body with a Content-Length the answer's ``length`` says after the last read how many bytes are missing.
    """

    def __init__(self) -> None:
        """Trusts whom the system, or ``SSL_CERT_FILE``, trusts."""
        self._trusted = ssl.create_default_context()
        super().__init__(context=self._trusted)

    def https_open(self, req: urllib.request.Request) -> HTTPResponse:
        """The answer to one request.

        Raises:
            OSError, HTTPException: there is none.
        """
        return self.do_open(_Connection, req, context=self._trusted)
