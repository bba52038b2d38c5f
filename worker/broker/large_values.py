"""Values that are sent from a file piece by piece: of a page of 64 MB one megabyte is in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import redis

PIECE_BYTES = 1 << 20


class SourceLostError(Exception):
    """The file cannot be read to its end any more. No OSError: redis-py takes each of those for its connection's."""


class FromFile:
    """The first bytes of an open file, as a value. Close it."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        """Read nothing yet.

        Args:
            file: from its beginning on; a file that was removed stays until it is closed.
            size: how many bytes.
        """
        self._file = file
        self._size = size

    def __len__(self) -> int:
        """Bytes that Redis is told to wait for."""
        return self._size

    def pieces(self) -> Iterator[bytes]:
        """The bytes, however often.

        Raises:
            SourceLostError: the file became shorter, or its disk does not work.
        """
        left = self._size
        try:
            self._file.seek(0)
            while left and (piece := self._file.read(min(PIECE_BYTES, left))):
                left -= len(piece)
                yield piece
        except OSError as error:
            raise SourceLostError(f"it cannot be read any more: {error.strerror or error}") from None
        if left:
            raise SourceLostError(f"it became {left:,} bytes shorter while it was sent")

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._file.close()


def set_from_file(client: redis.Redis, key: str, value: FromFile, ttl_s: int) -> None:
    """``SET key value EX ttl_s``. redis-py's wants the value whole, and has 30 s to send all of it, not each piece.

    Raises:
        SourceLostError: see `FromFile.pieces`; Redis has seen half a command, and forgets it with its connection.
        redis.RedisError: no answer, or it takes no writes.
    """
    name, ttl = key.encode(), b"%d" % ttl_s

    def request() -> Iterator[bytes]:
        yield b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(name), name, len(value))
        yield from value.pieces()
        yield b"\r\n$2\r\nEX\r\n$%d\r\n%b\r\n" % (len(ttl), ttl)

    pool = client.connection_pool
    connection = pool.get_connection()

    def attempt() -> None:
        connection.send_packed_command(request())
        connection.read_response()

    try:
        connection.retry.call_with_retry(attempt, lambda error: connection.disconnect())
    finally:
        pool.release(connection)
