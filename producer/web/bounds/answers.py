"""Answers on their way to clients: one budget for the bytes of all of them, and none is handed over in one piece.

Who asks for a large answer and does not read it has the page keep it for as long as that is borne. Of 250 such, each of
6 MB, that was 950 MB of the page's own process.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.web.problem import Problem

BUDGET_BYTES = 8 << 20
"""Of all answers that count. With 256 connections, each of which may have a small one, 16 MB."""

SMALL_BYTES = 32 << 10
"""An answer up to here does not count: the state of a job, a refusal, a file of the page."""

PIECE_BYTES = 32 << 10
STREAM_BYTES = 3 * PIECE_BYTES
"""What a stream holds: a block that was read, its piece, and what of the one before the transport still has."""

EVENTS = "text/event-stream"  # has places of its own, each for as long as a job takes


class Budget:
    """Bytes that may be on their way at a time. For the event loop alone."""

    def __init__(self, most: int = BUDGET_BYTES) -> None:
        """None are."""
        self._left = most

    def take(self, size: int) -> bool:
        """Take so many bytes; false: others have them."""
        if size > self._left:
            return False
        self._left -= size
        return True

    def give_back(self, size: int) -> None:
        """They have been handed over, or nobody wants them any more."""
        self._left += size


class Answers:
    """ASGI middleware around what answers at length: 429 where the budget is used up, and pieces of 32 KiB.

    The server takes the next piece when the client's connection has taken the one before (its `PatientProtocol`).
    """

    def __init__(self, app: ASGIApp, budget: Budget | None = None) -> None:
        """One for all requests."""
        self._app, self._budget = app, budget or Budget()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._budget)
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            if not answer.refused:
                raise
            problem = Problem(429, "many large answers are on their way", "try again in a moment", retry_after_s=5)
            await problem.response(close=scope["method"] == "POST")(scope, receive, send)
        finally:
            answer.end()


class _RefusedError(Exception):
    """Ends what makes an answer for which there is no room."""


class _Answer:
    """One answer; nothing of it is sent before it is known what it takes."""

    def __init__(self, send: Send, budget: Budget) -> None:
        self.refused = False
        self._send, self._budget = send, budget
        self._start: Message | None = None
        self._taken = 0

    async def send(self, message: Message) -> None:
        """As ASGI has it."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._start is not None:
            start, self._start = self._start, None
            self._take(_held(start, len(body), more))
            await self._send(start)
        if len(body) <= PIECE_BYTES and not self._taken:
            await self._send(message)
            return
        for begin in range(0, len(body), PIECE_BYTES):
            piece = bytes(body[begin : begin + PIECE_BYTES])
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        if not more:  # the server waits until the last piece is gone, and only then is this one over
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _take(self, wanted: int) -> None:
        if not self._budget.take(wanted):
            self.refused = True
            raise _RefusedError
        self._taken = wanted

    def end(self) -> None:
        """It is over, however it ended."""
        taken, self._taken = self._taken, 0
        self._budget.give_back(taken)


def _held(start: Message, size: int, more: bool) -> int:
    """Bytes that an answer takes of the budget, by its headers, the size of its first part, and whether more come."""
    headers = Headers(raw=start["headers"])
    said = int(headers.get("content-length", SMALL_BYTES + 1)) if more else size
    if said <= SMALL_BYTES or headers.get("content-type", "").startswith(EVENTS):
        return 0
    return max(STREAM_BYTES, size) if more else size + 2 * PIECE_BYTES
