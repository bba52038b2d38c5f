"""What the kernel keeps of answers that nobody reads: little for each connection, and for none that is closed.

It takes up to 4 MB from a program, for each connection (tcp_wmem), and keeps what was not read for a minute after the
program has closed it. Of 245 connections that was 687 MB.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Any

SEND_BYTES = 64 << 10
"""The kernel takes twice that, with its own bookkeeping. 64 KiB a round trip: 640 KB/s over a line of 100 ms."""

FIRST_LOOK_S, LAST_LOOK_S = 0.002, 0.25
_CLOSED = b"\x07"  # TCP_CLOSE, the first byte of TCP_INFO
_RESET = struct.pack("ii", 1, 0)


def bound(transport: asyncio.Transport) -> None:
    """Have the kernel, and asyncio, take no more of an answer than they must."""
    with suppress(OSError):  # it is gone already
        _socket(transport).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
    transport.set_write_buffer_limits(0)  # who sends waits until all that was sent before is gone


def drop(transport: asyncio.Transport) -> None:
    """End a connection at once, with what was not read of it."""
    with suppress(OSError):
        _socket(transport).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def unread(transport: asyncio.Transport) -> int:
    """Bytes that were sent and that the other side has not taken."""
    waiting = array.array("i", [0])
    with suppress(OSError, ValueError):
        fcntl.ioctl(_socket(transport).fileno(), termios.TIOCOUTQ, waiting)
    return waiting[0] + transport.get_write_buffer_size()


def is_reset(transport: asyncio.Transport) -> bool:
    """Whether the other side takes nothing any more, though what it did not take may still be counted (Linux)."""
    with suppress(OSError, ValueError, AttributeError):
        return _socket(transport).getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _CLOSED
    return False


def _socket(transport: asyncio.Transport) -> socket.socket:
    found: socket.socket = transport.get_extra_info("socket")
    return found


class LingeringTransport:
    """A connection that stays, and is counted, until what was sent has been taken, or for as long as that is borne."""

    def __init__(self, transport: asyncio.Transport, patience_s: float) -> None:
        """Stand for `transport`.

        Args:
            transport: of the connection.
            patience_s: how long it waits when it is to be closed, seconds.
        """
        self._transport, self._patience_s = transport, patience_s
        self._ends_at = 0.0
        self._is_held = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether it is to be closed."""
        return self._ends_at > 0 or self._transport.is_closing()

    def resume_reading(self) -> None:
        """Read on, unless it is to be closed, or held."""
        if not self.is_closing() and not self._is_held:
            self._transport.resume_reading()

    def hold(self, is_held: bool) -> None:
        """Read nothing, whoever asks for it; or let others say again."""
        self._is_held = is_held
        if is_held:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Send; nothing more once it is to be closed."""
        if not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Tell the other side that this is the end, and close it when that is taken. Safe to call twice."""
        if self.is_closing():
            return
        self._ends_at = asyncio.get_running_loop().time() + self._patience_s
        self._transport.pause_reading()
        self._look(FIRST_LOOK_S)

    def _look(self, next_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._transport.is_closing():
            return
        if not self._transport.get_write_buffer_size():
            with suppress(OSError):  # it is gone already
                self._transport.write_eof()
        if not unread(self._transport):
            self._transport.close()
        elif is_reset(self._transport):  # a client that left before its answer kept one of 256 places for 30 s
            self._transport.abort()
        elif loop.time() < self._ends_at:
            loop.call_later(next_s, self._look, min(2 * next_s, LAST_LOOK_S))
        else:
            drop(self._transport)
