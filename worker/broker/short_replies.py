"""Connections on which no single value that Redis sends takes more memory than a message may.

Whoever may write to a queue may write 512 MB into one element, and BRPOP, which waits, cannot be a script that looks
first. So the length that stands before each value is looked at as it comes: what is longer is read from the socket in
pieces and dropped, but for its beginning. It is popped all the same, in one step, and nothing is asked twice.
"""

from __future__ import annotations

from typing import Any

from redis._parsers import _RESP2Parser, _RESP3Parser
from redis._parsers.socket import SocketBuffer

MOST_BYTES = (1 << 20) + (128 << 10)
"""A body of 1 MiB (message_shape.py) and its headers; ours take 2 KB. As JSON it may take thirty times that."""

KEPT_BYTES = 8192
_PIECE = 1 << 16


class TooLong(bytes):
    """The first `KEPT_BYTES` of a value that was longer than `MOST_BYTES`."""


class _ShortBuffer(SocketBuffer):  # type: ignore[misc]
    def read(self, length: int, *args: Any, **kwargs: Any) -> bytes:
        if length <= MOST_BYTES:
            value: bytes = super().read(length, *args, **kwargs)
            return value
        kept = super().read(KEPT_BYTES - 2, *args, **kwargs)  # which takes two bytes more, the end of a line elsewhere
        left = length - KEPT_BYTES
        while left > 0:
            super().read(min(_PIECE, left) - 2, *args, **kwargs)
            left -= min(_PIECE, left)
            self._forget()
        super().read(0, *args, **kwargs)
        return TooLong(kept)

    def _forget(self) -> None:
        """Drop what was read; a failure in the middle ends the connection, which then begins anew."""
        rest = self._buffer.read()
        self._buffer.seek(0)
        self._buffer.truncate()
        self._buffer.write(rest)
        self._buffer.seek(0)


class _Short:
    """Of a parser: its buffer is a `_ShortBuffer`."""

    def on_connect(self, connection: Any) -> None:
        super().on_connect(connection)  # type: ignore[misc]
        self._buffer = _ShortBuffer(connection._sock, self.socket_read_size, connection.socket_timeout)  # type: ignore[attr-defined]


class _Short2(_Short, _RESP2Parser):  # type: ignore[misc]
    """Redis' protocol 2."""


class _Short3(_Short, _RESP3Parser):  # type: ignore[misc]
    """Redis' protocol 3; also instead of hiredis, which reads a value whole."""


def short_replies(connection_class: type[Any]) -> type[Any]:
    """A class of connections that gives `TooLong` for a long value.

    Args:
        connection_class: redis-py's: TCP, TLS or socket.
    """

    class Short(connection_class):  # type: ignore[misc]
        def set_parser(self, parser_class: type[Any]) -> None:
            is_3 = self.protocol == 3 or issubclass(parser_class, _RESP3Parser)
            super().set_parser(_Short3 if is_3 else _Short2)

    return Short
