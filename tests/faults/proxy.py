"""A network between the fleet and its server that can be cut, slow or moved: a TCP proxy of ours.

Not the kernel's netem, which many kernels (also of CI machines) lack. What a program sees is the same: a cut network
takes bytes and gives none, and closes nothing; a lost packet comes late, since TCP sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time

CHUNK = 1 << 16
LOOK_S = 0.02
# TCP sends a lost packet again after the round trip and at least this long (Linux: TCP_RTO_MIN).
RESEND_S = 0.2


class Proxy:
    """Listens on a port of its own for its whole life.

    Attributes:
        target: the port behind it; new connections go there.
        cut: nothing passes, in either direction; what was sent meanwhile passes afterwards.
        delay_s: one way, seconds.
        loss: share of packets lost, each way.
    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self.target = target
        self.cut = False
        self.delay_s = 0.0
        self.loss = 0.0
        self._random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def drop(self) -> None:
        """Close every connection."""
        self._loop.call_soon_threadsafe(self._drop)

    def _drop(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def close(self) -> None:
        """End it."""

        def end() -> None:
            self._server.close()
            self._drop()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        self._loop.call_soon_threadsafe(end)
        self._thread.join()
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._wait_while_cut()
        try:
            target = self.target
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        if self.target != target:  # it changed meanwhile, and `drop` has not seen this one
            self._drop()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(reader, far_writer))
                group.create_task(self._carry(far_reader, writer))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._writers -= pair
            for each in pair:
                each.close()

    async def _wait_while_cut(self) -> None:
        while self.cut:
            await asyncio.sleep(LOOK_S)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One way, in order, each packet at its time."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._wait_while_cut()
                if not data:
                    # The other way may still have something to say, but no program here closes only one.
                    raise ConnectionError("closed")
                writer.write(data)
                await writer.drain()

        async def take() -> None:
            while True:
                data = b""
                with contextlib.suppress(ConnectionError):
                    data = await reader.read(CHUNK)
                late = self.delay_s
                if self._random.random() < self.loss:
                    late += max(RESEND_S, 2 * self.delay_s)
                await waiting.put((time.monotonic() + late, data))
                if not data:
                    return

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            group.create_task(take())
