"""Answers on their way to clients: one budget for the bytes of all of them, and none is handed over in one piece.

Who asks for a large answer and does not read it has the page keep it for as long as that is borne. Of 250 such, each of
6 MB, that was 950 MB of the page's own process. Who reads slowly keeps what he has as long as nobody else needs it: six
of 1.2 KB a second kept every converted format from all others, 85 all large answers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import anyio
from anyio import from_thread
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producer.web.bounds.upload_places import Line, Rate, slowest
from producer.web.problem import Problem

logger = logging.getLogger("ocrfleet.web")
BUDGET_BYTES = 8 << 20
"""Of all answers that count. With 256 connections, each of which may have a small one, 16 MB."""

SMALL_BYTES = 32 << 10
"""An answer up to here does not count: the state of a job, a refusal, a file of the page."""

PIECE_BYTES = 32 << 10
STREAM_BYTES = 3 * PIECE_BYTES
"""What a stream holds: a block that was read, its piece, and what of the one before the transport still has."""

GIVEN_UP_S = 2.0
"""Until who was sent away has left his place: a thread removes his file first."""

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


class Reader:
    """Who is sent one answer.

    Attributes:
        scope: what sends it runs in. Where it is cancelled, the server finds the answer cut off, and ends the line.
        rate: of what the client takes.
        given_up: called when others need what he has.
    """

    def __init__(self, given_up: Callable[[], None] = lambda: None) -> None:
        """Send nothing yet."""
        self.scope = anyio.CancelScope()
        self.rate = Rate()
        self.given_up = given_up
        self._is_waited_for = self._has_begun = False

    def through(self, send: Send) -> Send:
        """As `send`; it is noted how fast the client takes what is sent."""

        async def counted(message: Message) -> None:
            if not self._has_begun:
                self._has_begun = True
                self.rate.begin()
            self._is_waited_for = True
            await send(message)
            self._is_waited_for = False  # but what is sent next, which a disk may keep
            self.rate.add(len(message.get("body", b"")))

        return counted

    def slowness(self) -> float | None:
        """As `Rate.slowness`, where it is the client that is waited for."""
        return self.rate.slowness() if self._is_waited_for else None


class AllReaders:
    """Those who are sent answers of one kind. For the event loop alone."""

    def __init__(self) -> None:
        """Nobody is."""
        self._those: set[Reader] = set()

    def are_none(self) -> bool:
        """Whether nobody is sent one now."""
        return not self._those

    def add(self, reader: Reader) -> None:
        """He has what others may need."""
        self._those.add(reader)

    def discard(self, reader: Reader) -> None:
        """He has it no more. Safe to call twice."""
        self._those.discard(reader)

    def __len__(self) -> int:
        """How many are."""
        return len(self._those)

    def are_some_young(self) -> bool:
        """Whether somebody may yet turn out to be slow."""
        return any(reader.rate.is_young() for reader in self._those)

    def send_slowest_away(self) -> bool:
        """Somebody needs what another has: the slowest of the slow is sent away. False: there is none."""
        if (found := slowest((reader, reader.slowness()) for reader in self._those)) is None:
            return False
        reader, rate = found
        self.discard(reader)
        # The server says beside it that an answer was not completed.
        logger.info("an answer is cut off: it was read at %.1f KiB/s, and others wait for its place", rate / 1024)
        reader.given_up()
        reader.scope.cancel()
        return True


class ReadPlace:
    """One that was taken. Leave it at the end (a context manager), in the stack of what else an answer holds."""

    def __init__(self, free: threading.Semaphore) -> None:
        """See `ReadPlaces.take`."""
        self._free = free

    def __enter__(self) -> ReadPlace:
        return self

    def __exit__(self, *error: object) -> None:
        self._free.release()


class ReadPlaces:
    """Places for answers that are files. `wait` is for the event loop, `take` for threads that it has begun."""

    def __init__(self, most: int) -> None:
        """All are free."""
        self.readers = AllReaders()
        self._most, self._free = most, threading.Semaphore(most)
        self._line = Line()
        self._is_left_by = 0.0  # by who was sent away for the first of the line

    async def wait(self) -> ReadPlace | None:
        """A place, that of the slowest reader if need be, as soon as those who are young have shown what they are.

        Six who began anew each 13 s, before anybody was judged, kept every converted format from all others.

        Returns:
            None: all are read, or made for longer than one waits.
        """

        def take() -> ReadPlace | None:
            now = time.monotonic()
            if self._free.acquire(blocking=False):
                self._is_left_by = 0.0
                return ReadPlace(self._free)
            if now >= self._is_left_by and self.readers.send_slowest_away():
                self._is_left_by = now + GIVEN_UP_S
            return None

        def may_be_had() -> bool:  # what is still made may end at once, and who was sent away does
            return len(self.readers) < self._most or self.readers.are_some_young()

        return await self._line.wait(take, may_be_had)

    def take(self) -> ReadPlace | None:
        """As `wait`, at once: a thread is not to wait for who is young."""
        return ReadPlace(self._free) if self._is_had() else None

    def _is_had(self) -> bool:
        if self._free.acquire(blocking=False):
            return True
        if self.readers.are_none():
            return False
        return from_thread.run_sync(self.readers.send_slowest_away) and self._free.acquire(timeout=GIVEN_UP_S)


class Answers:
    """ASGI middleware around what answers at length: 429 where the budget is used up, and pieces of 32 KiB.

    The server takes the next piece when the client's connection has taken the one before (its `PatientProtocol`).
    """

    def __init__(self, app: ASGIApp, budget: Budget | None = None) -> None:
        """One for all requests."""
        self._app, self._budget, self._readers, self._line = app, budget or Budget(), AllReaders(), Line()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._budget, self._readers, self._line)
        try:
            with answer.reader.scope:
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

    def __init__(self, send: Send, budget: Budget, readers: AllReaders, line: Line) -> None:
        self.refused = False
        self.reader = Reader(self.end)
        self._send = self.reader.through(send)
        self._budget, self._readers, self._line = budget, readers, line
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
            if wanted := _held(start, len(body), more):
                await self._take(wanted, may_wait=len(body) <= PIECE_BYTES)  # what is larger is memory meanwhile
            await self._send(start)
        if len(body) <= PIECE_BYTES and not self._taken:
            await self._send(message)
            return
        for begin in range(0, len(body), PIECE_BYTES):
            piece = bytes(body[begin : begin + PIECE_BYTES])
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        if not more:  # the server waits until the last piece is gone, and only then is this one over
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _take(self, wanted: int, *, may_wait: bool) -> None:
        def take() -> bool | None:
            while not (is_had := self._budget.take(wanted)) and self._readers.send_slowest_away():
                """His bytes were given back at once."""
            return is_had or None

        if not (await self._line.wait(take, self._readers.are_some_young) if may_wait else take()):
            self.refused = True
            raise _RefusedError
        self._taken = wanted
        self._readers.add(self.reader)

    def end(self) -> None:
        """It is over, however it ended."""
        self._readers.discard(self.reader)
        taken, self._taken = self._taken, 0
        self._budget.give_back(taken)


def _held(start: Message, size: int, more: bool) -> int:
    """Bytes that an answer takes of the budget, by its headers, the size of its first part, and whether more come."""
    headers = Headers(raw=start["headers"])
    said = int(headers.get("content-length", SMALL_BYTES + 1)) if more else size
    if said <= SMALL_BYTES or headers.get("content-type", "").startswith(EVENTS):
        return 0
    return max(STREAM_BYTES, size) if more else size + 2 * PIECE_BYTES
