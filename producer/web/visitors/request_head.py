"""A request's first line and its headers are few and short: they are objects that are held as long as its body lasts.

And of its body a few pieces are looked at at a time.

h11 bounds an event that is not yet whole, at 16 KiB: with the piece that makes it so a request has up to 48. Of lines
of four bytes that was 1.5 MB of Python's objects, and of 250 such requests, which need no token, 420 MB of the page's
own process.
"""

from __future__ import annotations

import h11

MOST_LINES = 100
"""As Apache has it; a browser behind a proxy sends thirty."""

MOST_HEADER_BYTES = 16 << 10
MOST_TARGET_BYTES, MOST_PARAMETERS = 8 << 10, 100
"""Of the path with its query. A file's name, percent-encoded, is 765 bytes; no request of ours has ten parameters."""


PIECES_A_TURN = 16
"""Of a body, before other connections have their turn: each is 0.04 ms, and 32 KiB are 5,400 of a byte each. Ten such
clients, without a token, had everybody wait for four seconds, and 200 for 30."""


class FewLines(h11.Connection):
    """What a client sent, of which no more becomes a request, and little at a time a request's body.

    Attributes:
        refused: what is too much in the last request, else empty.
        has_more: others have their turn, though there may be more to be made of what came.
    """

    refused = ""
    has_more = False
    _left = PIECES_A_TURN

    def begin_turn(self) -> None:
        """Go on: others had theirs."""
        self.has_more, self._left = False, PIECES_A_TURN

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """See h11.

        Raises:
            h11.RemoteProtocolError: it is no HTTP, or more than a request may have.
        """
        if not self._left:
            self.has_more = True
            return h11.NEED_DATA
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._left -= 1
        if isinstance(event, h11.Request) and (refused := _too_much(event)):
            self.refused = refused
            raise h11.RemoteProtocolError(refused)
        return event


def _too_much(request: h11.Request) -> str:
    lines, target = list(request.headers), request.target
    if len(lines) > MOST_LINES or sum(len(name) + len(value) for name, value in lines) > MOST_HEADER_BYTES:
        return f"more than {MOST_LINES} header lines, or {MOST_HEADER_BYTES >> 10} KiB of them"
    if len(target) > MOST_TARGET_BYTES or target.count(b"&") >= MOST_PARAMETERS:
        return f"an address of more than {MOST_TARGET_BYTES >> 10} KiB, or {MOST_PARAMETERS} parameters"
    return ""
