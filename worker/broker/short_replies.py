"""Connections on which nothing that Redis sends takes more memory or time than it may, or is obeyed.

Whoever may write to a queue may write 512 MB into one element, and BRPOP, which waits, cannot be a script that looks
first. So the length that stands before each value is looked at as it comes: what is longer is read from the socket in
pieces and dropped, but for its beginning. It is popped all the same, in one step, and nothing is asked twice. Likewise
a list: what is beyond its bound is read and dropped, and the next reply is the next command's.

redis-py's own timeout is of each byte: one every 29 s was an answer. So a reply that has begun has a deadline too.

redis-py 8 asks each server on TCP for "maintenance notifications", and obeys them: one MOVING sent the pool, with the
password and pages, to whatever host it named, for as long as it said, and kept the process from ending so long. Here
nothing asks for them, and of all that a server may push, only what a subscriber waits for is given on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from math import inf
from typing import Any, NamedTuple

from redis import ConnectionError as RedisConnectionError
from redis import TimeoutError as RedisTimeoutError
from redis._parsers import _RESP2Parser, _RESP3Parser
from redis._parsers.socket import SENTINEL, SocketBuffer

MOST_BYTES = (1 << 20) + (128 << 10)
"""A body of 1 MiB (message_shape.py) and its headers; ours take 2 KB. As JSON it may take thirty times that."""

KEPT_BYTES = 8192
MOST_ENTRIES = 1 << 16
"""Of a list or map: a window has 256 messages, a large fleet a thousand workers. An entry takes 100 bytes here."""

MOST_LINE, MOST_DEPTH, MOST_DROPPED = 1 << 16, 32, 1 << 22
"""Bytes of a line, lists in lists, and values that are read and dropped: a server that lies has no end of either."""

MOST_VALUE = 512 << 20
"""Bytes of a value that Redis itself takes (proto-max-bulk-len): longer ones are no Redis'."""

MOST_LINES = 1 << 26
"""Bytes that the lines of a reply may take: `MOST_ENTRIES` numbers in each of as many lists would be 100 GB."""

GRACE_S, SLOWEST, LONGEST_S = 60.0, 1024, 3600.0
"""Of one reply, from its first byte on: so many seconds, one more for each so many bytes that came, an hour at most.
A record of 4 MiB, the longest that is kept, comes in time over a line of 1.2 KB/s."""

HURRY_S = 5.0

_PIECE = 1 << 16
_LINE_COSTS = 64  # a number in a list, or an empty list
_LISTS, _MAPS, _VALUES = b"*~>", b"%|", b"$=!"
_KINDS = ("message", "subscribe", "unsubscribe")
_HEARD = tuple(before + kind for kind in _KINDS for before in ("", "p", "s"))


class Bounds(NamedTuple):
    """What one reply may hold.

    Attributes:
        value: bytes of one value.
        reply: bytes of all its values together; not less than `value`.
        entries: of one list or map; never less than a stream's entry has, which is 2. Of all lists of a reply
            together twice as many values: 64 entries of a stream with 65,536 fields each were 277 MB.
        seconds: for the whole reply, see `GRACE_S`.
    """

    value: int = MOST_BYTES
    reply: int = (4 << 20) + (64 << 10)
    entries: int = MOST_ENTRIES
    seconds: float = GRACE_S


class TooLong(bytes):
    """The beginning of a value that was longer than its bound.

    Attributes:
        size: of the whole value, bytes; 0 of one that was crowded out.
        crowded_out: alone it would have been taken, but others of the same reply came before it: ask for fewer.
    """

    size: int = 0
    crowded_out: bool = False


_CROWDED_OUT = TooLong()  # one for all: a reply may have thousands
_CROWDED_OUT.crowded_out = True


class _Hurry:
    """Of a process that was told to end, which a signal is heard for in the middle of a reply, but not obeyed."""

    told: Callable[[], bool] = staticmethod(bool)
    lost = 0

    def seconds(self) -> float:
        """For a reply, however it comes: half as many after each that did not, so that 20 take 12 s together."""
        return max(0.1, HURRY_S / 2**self.lost) if self.told() else inf


_hurry = _Hurry()


def hurry_when(told_to_end: Callable[[], bool]) -> None:
    """From now on no reply is given more than `HURRY_S` in this process once this is true."""
    _hurry.told = told_to_end


def _count(line: bytes) -> int:
    """The number in the head of a list or a value."""
    try:
        count = int(line[1:])
    except ValueError:
        raise RedisConnectionError("a reply without a length: this is no Redis") from None
    if count > MOST_VALUE and line[:1] in _VALUES:
        raise RedisConnectionError("a value longer than Redis takes: this is no Redis")
    return count


class _ShortBuffer(SocketBuffer):  # type: ignore[misc]
    """Gives `TooLong` for a long value, and shorter lists than Redis sends.

    Attributes:
        surplus: values behind the list whose head was read last that are to be dropped.
        depth: lists that the value is in which is read now.
    """

    def __init__(self, bounds: Bounds, *args: Any) -> None:
        super().__init__(*args)
        self._bounds = bounds
        self._torn = False
        self.begin_reply()

    def begin_reply(self) -> None:
        """What the reply before took counts no more.

        Raises:
            redis.ConnectionError: it was given up after some of it had been dropped: where this one begins, nobody
                can tell.
        """
        if self._torn:
            raise RedisConnectionError("a reply was given up in the middle")
        self._left, self._left_values = self._bounds.reply, 2 * self._bounds.entries
        self._left_lines = MOST_LINES
        self._forgot = False
        self._began = time.monotonic() if self.unread_bytes() else 0.0
        self._came = 0
        self.surplus = self.depth = 0

    def rewind(self, pos: int) -> None:
        self._torn = self._torn or self._forgot
        super().rewind(0 if self._forgot else pos)

    def _seconds_left(self) -> float:
        """For the reply that is read now."""
        given = min(self._bounds.seconds + self._came / SLOWEST, LONGEST_S, _hurry.seconds())
        left = self._began + given - time.monotonic()
        if left <= 0:
            raise RedisTimeoutError(f"a reply came too slowly: {self._came:,} bytes of it")
        return left

    def _read_from_socket(
        self, length: int | None = None, timeout: Any = SENTINEL, raise_on_timeout: bool | None = True
    ) -> bool:
        """redis-py's, whose timeout is of each piece; of the whole reply, once it has begun, there is another."""
        if not raise_on_timeout:  # it looks whether anything came
            return bool(super()._read_from_socket(length, timeout, raise_on_timeout))
        usual, missing = self.socket_timeout if timeout is SENTINEL else timeout, length or 1
        try:
            while missing > 0:
                wait = min(inf if usual is None else usual, self._seconds_left() if self._began else _hurry.seconds())
                before = self.unread_bytes()
                super()._read_from_socket(timeout=None if wait == inf else wait)
                self._began = self._began or time.monotonic()
                came = self.unread_bytes() - before
                self._came += came
                missing -= came
        except RedisTimeoutError:
            self._torn = bool(self._began)  # else each try to go on with it would begin its time anew
            raise
        return True

    def _line(self, *args: Any, **kwargs: Any) -> bytes:
        """redis-py's readline, of which a line has no end."""
        data: bytes = self._buffer.readline()
        while not data.endswith(b"\r\n"):
            if len(data) > MOST_LINE:
                raise RedisConnectionError("a reply has a line without an end: this is no Redis")
            self._read_from_socket(*args, **kwargs)
            data += self._buffer.readline()
        return data[:-2]

    def readline(self, *args: Any, **kwargs: Any) -> bytes:
        line = self._line(*args, **kwargs)
        head = line[:1]
        self._left_lines -= _LINE_COSTS + len(line)
        if self._left_lines < 0:
            raise RedisConnectionError("a reply of lines without an end: this is no Redis")
        most = max(2, min(self._bounds.entries, self._left_values))
        if len(line) < 2 or head not in _LISTS + _MAPS + _VALUES or (count := _count(line)) <= most:
            return line
        if head in _VALUES:
            return line
        taken = most & ~1  # pairs stay pairs
        self.surplus = (count - taken) * (2 if head in _MAPS else 1)
        return b"%b%d" % (head, taken)

    def read(self, length: int, *args: Any, **kwargs: Any) -> bytes:
        if length < 0:  # "$-1" is none of protocol 3, whose parser does not look, and would wait for what never comes
            raise RedisConnectionError("a value of a negative length: this is no Redis")
        self._left_values -= 1
        if self._left_values < 0:
            self._drop(length + 2)
            return _CROWDED_OUT
        if length <= min(self._bounds.value, self._left):
            self._left -= length
            value: bytes = super().read(length, *args, **kwargs)
            if length > _PIECE:
                self._forget()
            return value
        if length <= self._bounds.value:
            self._drop(length + 2)
            return _CROWDED_OUT
        # super().read takes two bytes more than it gives: elsewhere the end of a line.
        cut = TooLong(super().read(KEPT_BYTES - 2, *args, **kwargs))
        cut.size = length
        self._drop(length + 2 - KEPT_BYTES)
        return cut

    def skip(self, count: int) -> None:
        """Drop so many values, whatever is nested in them."""
        dropped = 0
        while count:
            line = self._line()
            head = line[:1]
            count, dropped = count - 1, dropped + 1
            if dropped > MOST_DROPPED:
                raise RedisConnectionError(f"a reply of more than {MOST_DROPPED:,} values")
            if head in _LISTS + _MAPS:
                count += max(0, _count(line)) * (2 if head in _MAPS else 1)
            elif head in _VALUES:
                self._drop(_count(line) + 2 if line[1:2] != b"-" else 0)
            if self._buffer.tell() >= _PIECE:
                self._forget()

    def _drop(self, left: int) -> None:
        while left > 0:
            super().read(min(_PIECE, left) - 2)
            left -= min(_PIECE, left)
            if self._buffer.tell() >= _PIECE:
                self._forget()

    def _forget(self) -> None:
        self._forgot = True
        rest = self._buffer.read()
        self._buffer.seek(0)
        self._buffer.truncate()
        self._buffer.write(rest)
        self._buffer.seek(0)


class _Short:
    """Of a parser: its buffer is a `_ShortBuffer`."""

    bounds = Bounds()

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[misc]
        self._buffer = _ShortBuffer(
            self.bounds,
            connection._sock,
            self.socket_read_size,  # type: ignore[attr-defined]
            connection.socket_timeout,
        )

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        if self._buffer is not None:
            self._buffer.begin_reply()
        try:
            return super().read_response(*args, **kwargs)  # type: ignore[misc]
        except (RedisConnectionError, RedisTimeoutError):
            _hurry.lost += bool(_hurry.told())
            raise

    def _read_response(self, *args: Any, **kwargs: Any) -> Any:
        """A value and all that is nested in it."""
        buffer = self._buffer
        before, buffer.surplus = buffer.surplus, 0
        buffer.depth += 1
        if buffer.depth > MOST_DEPTH:
            raise RedisConnectionError(f"a reply of lists in lists, {MOST_DEPTH} deep: this is no Redis")
        value = super()._read_response(*args, **kwargs)  # type: ignore[misc]
        buffer.depth -= 1
        if buffer.surplus:
            buffer.skip(buffer.surplus)
        buffer.surplus = before
        return value


class _Short2(_Short, _RESP2Parser):  # type: ignore[misc]
    """Redis' protocol 2."""


class _Short3(_Short, _RESP3Parser):  # type: ignore[misc]
    """Redis' protocol 3; also instead of hiredis, which reads a value whole."""

    def handle_push_response(self, response: Sequence[object], *args: Any, **kwargs: Any) -> Any:
        """Nothing is done over a push. redis-py would go where MOVING says, and wait as long as MIGRATING does."""
        if args:  # redis-py 6 reads on in here, and has nothing that obeys
            return super().handle_push_response(response, *args, **kwargs)
        kind = response[0] if response else None
        return response if (kind.decode(errors="replace") if isinstance(kind, bytes) else kind) in _HEARD else None


def short_replies(connection_class: type[Any], bounds: Bounds | None = None) -> type[Any]:
    """A class of connections that gives `TooLong` for a long value, cuts long lists, and obeys no push.

    Whatever makes a client or a pool here takes it: `worker.broker.connection.client_of`, and kombu's (`sending.py`).

    Args:
        connection_class: redis-py's: TCP, TLS or socket.
        bounds: what a reply may hold; default: of messages.
    """
    taken = bounds or Bounds()
    parsers = {is_3: type("Parser", (base,), {"bounds": taken}) for is_3, base in ((False, _Short2), (True, _Short3))}

    class Short(connection_class):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # Of the pool, which asks for notifications unless told otherwise: redis-py before 7 knows no way to tell.
            obeying = [name for name in kwargs if name.startswith(("maint_notifications", "oss_cluster_maint"))]
            super().__init__(*args, **{name: value for name, value in kwargs.items() if name not in obeying})

        def set_parser(self, parser_class: type[Any]) -> None:
            super().set_parser(parsers[self.protocol == 3 or issubclass(parser_class, _RESP3Parser)])

    return Short


def that_fit(entries: Sequence[tuple[bytes, dict[bytes, bytes]]]) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """Of a stream's entries those before the first that was left out for them; that one, if it is the very first.

    The caller asks for the rest again, with fewer at a time.
    """
    fitting = list(takewhile(_is_whole, entries))
    return fitting or list(entries[:1])


def _is_whole(entry: tuple[bytes, dict[bytes, bytes]]) -> bool:
    name, fields = entry
    return not any(isinstance(value, TooLong) and value.crowded_out for value in (name, *fields, *fields.values()))
