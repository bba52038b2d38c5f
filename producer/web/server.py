"""Runs the service: uvicorn in the main thread; with ``--local`` a private server and workers beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import h11
import redis
import uvicorn

from detector.cache import others_above
from detector.memory import configure_malloc
from producer.errors import ProducerError
from producer.job.interrupt import terminated_like_ctrl_c
from producer.job.output_folder import JobRequest, OutputFolder
from producer.local.beat import BeatThread
from producer.local.fleet import STOP_TIMEOUT_S, LocalFleet, check_installed, check_model
from producer.web.app import make_app
from producer.web.bounds.socket_buffers import LingeringTransport, bound, drop
from producer.web.service import Service
from producer.web.settings import WebSettings
from producer.web.visitors.behind import ListeningProtocol
from producer.web.visitors.few_connections import (
    AT_A_TURN,
    FewConnections,
    lengthen_line,
    most_connections,
    with_connection,
)
from producer.web.visitors.request_head import FewLines
from worker.log_format import FewOfEach, configure_logging
from worker.settings import Settings, read_settings
from worker.storage.spool import want_of_the_machine

logger = logging.getLogger("ocrfleet.web")
HEADERS_S = 10.0
STALLED_S = 30.0  # a client that takes an answer more slowly than about 4 KB/s only holds files and memory
GRACE_S = 3
PIECE_BYTES = 1 << 15
REVIVE_EVERY_S = 1.0
STOP_S = 25.0
"""From the signal to the end at most, and what local workers are given besides: systemd, Docker and Kubernetes kill at
30. All that is here survives kill -9."""

THREADS_S = 1.0
"""For threads that are at work when all has been left in order. Python would wait for them as long as they take."""


class PatientProtocol(ListeningProtocol):
    """HTTP/1.1 that does not wait for ever.

    Neither for a request's header lines ("slow loris"), be it the first or a later, nor for who reads no answer.
    """

    conn: FewLines
    is_known = _goes_on = False
    _stalled: asyncio.TimerHandle | None = None
    _patience: asyncio.TimerHandle | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        """See uvicorn."""
        super().__init__(*given, **named)
        self.conn = FewLines(h11.SERVER)
        self.app_state = with_connection(self.app_state, self)  # type: ignore[arg-type]  # its `connections`

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(LingeringTransport(transport, STALLED_S))  # type: ignore[arg-type]
        bound(transport)
        # asyncio takes 256 KB at a time, which h11 copies twice: with 50 uploads that is what memory goes to.
        transport.max_size = PIECE_BYTES  # type: ignore[attr-defined]
        self._wait_for_request(None)

    def data_received(self, data: bytes) -> None:
        """Something came: have it looked at for a turn."""
        self.conn.begin_turn()
        super().data_received(data)

    def handle_events(self) -> None:
        """Look at what came, and at the rest of it when others had their turn."""
        super().handle_events()
        if self.conn.has_more and not self._goes_on:
            self._goes_on = True
            self._hold(True)
            self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        self.conn.begin_turn()
        if self.transport.is_closing():
            return
        self.handle_events()
        if not self._goes_on:
            self._hold(False)
            if not self.flow.read_paused:
                self.transport.resume_reading()

    def _hold(self, is_held: bool) -> None:
        assert isinstance(self.transport, LingeringTransport)
        self.transport.hold(is_held)

    def end(self) -> None:
        """Make room for another."""
        drop(self.transport)

    def send_400_response(self, msg: str) -> None:
        """Say what is too much, where that is what is wrong."""
        with suppress(h11.LocalProtocolError):  # of a HEAD: its answer has no body
            super().send_400_response(self.conn.refused or msg)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing of who asks for another protocol: HTTP lets a server go on as it is."""

    def pause_writing(self) -> None:
        """The client does not read: begin to wait until it does."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_S, drop, self.transport)

    def resume_writing(self) -> None:
        """It reads."""
        self._end_of_stall()
        super().resume_writing()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client says no more, and does not read on: what it was sent is ours until it is taken."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()
        self.transport.close()
        return True  # or asyncio closes it

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._end_of_stall()
        self._end_of_patience()
        self._unset_keepalive_if_required()  # uvicorn leaves it where the client has reset the connection
        super().connection_lost(exc)

    def _end_of_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request: the first byte of one ends uvicorn's own patience (keep-alive)."""
        ended = self.cycle
        super().on_response_complete()
        if not self.transport.is_closing():
            self._wait_for_request(ended)

    def _wait_for_request(self, last: object) -> None:
        """One timer, which ends with its connection: it holds all of a request for 10 s, and 2,500 came a second."""
        self._end_of_patience()
        self._patience = self.loop.call_later(HEADERS_S, self._give_up, last)

    def _end_of_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()

    def _give_up(self, last: object) -> None:
        """End the connection if there was no request since `last`."""
        if self.cycle is not last or self.transport is None or self.transport.is_closing():
            return
        if last is None:
            self.send_400_response("the request did not come in time")
        else:
            self.transport.close()


def serve(web: WebSettings, *, local: bool, workers: int, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM. Open jobs go on at the next start.

    Args:
        web: where to listen, and the limits.
        local: start a private server and workers, else use OCRFLEET_REDIS_URL.
        workers: how many.
        ready: told the address once requests are answered.

    Raises:
        BrokerUnreachable: no answer from OCRFLEET_REDIS_URL.
        LocalFleetError: workers cannot run here.
        FolderBusyError: another service works in that folder.
        OSError: the address is taken.
    """
    state = OutputFolder(web.folder)
    if (above := others_above(web.folder)) is not None:  # workers open uploads by their names
        logger.warning(
            "others may put another folder in the place of %s, since they may write into %s", web.folder, above
        )
    configure_malloc(arenas=2)  # forty threads would each keep a heap of their own, and what it once held
    with terminated_like_ctrl_c(), state.locked(), ExitStack() as stack:
        before = read_settings(os.environ)  # the workers' roots have what was uploaded, too
        fleet = stack.enter_context(_fleet(state, web, workers)) if local else None
        settings = replace(read_settings(os.environ), roots=before.roots, named_roots=before.named_roots)
        if fleet is not None:
            settings = replace(settings, redis_url=fleet.start_server())
        service = _service(settings, web)
        if fleet is not None:
            stack.enter_context(BeatThread(service.app))
            fleet.start_workers()
        _unpack_in(service.store.temporary)
        server = _Server(service, fleet, ready)
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has stopped in order
            server.run()
        if server.broken is not None:
            raise server.broken
    _end_within(THREADS_S, 0)


def _end_within(seconds: float, code: int) -> None:
    """End this process then, whatever its threads do; those that it has started end with it."""

    def end() -> None:
        time.sleep(seconds)
        if code:
            logger.error("not all has stopped within %.0f s", seconds)
        os._exit(code)

    threading.Thread(target=end, name="end", daemon=True).start()


def _fleet(state: OutputFolder, web: WebSettings, workers: int) -> LocalFleet:
    request = JobRequest(job="web", sources=[], workers=workers)
    check_installed()
    check_model(request)
    if roots := os.environ.get("OCRFLEET_ROOTS", "").strip():  # workers must be able to open what is uploaded
        os.environ["OCRFLEET_ROOTS"] = f"{roots}:{web.folder}"
    return LocalFleet(state, request)


def _service(settings: Settings, web: WebSettings) -> Service:
    from worker.app import app_for
    from worker.ledger.patient import open_ledger

    return Service(app_for(settings), open_ledger(settings), settings, web)


def _unpack_in(folder: Path) -> None:
    """Have temporary files of this process, and of those that it starts, in a folder.

    A member of an archive may have hundreds of MB, and a container's /tmp has 16, or is memory.
    """
    os.environ["TMPDIR"] = tempfile.tempdir = os.fspath(folder)


class _Server(uvicorn.Server):
    """Uvicorn, which also looks after the local workers and says when it is ready."""

    def __init__(self, service: Service, fleet: LocalFleet | None, ready: Callable[[str], None]) -> None:
        most = most_connections()
        config = uvicorn.Config(
            make_app(service, is_private=fleet is not None),
            host=service.web.host,
            port=service.web.port,
            http=PatientProtocol,
            ws="none",
            loop="asyncio",
            access_log=False,
            log_config=None,  # its warnings go where ours go, and as printable
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            backlog=AT_A_TURN,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=GRACE_S,
        )
        super().__init__(config)
        self.server_state.connections = FewConnections(most)  # type: ignore[assignment]
        self.broken: Exception | None = None
        self._service = service
        self._fleet = fleet
        self._ready = ready
        self._revived_at = 0.0
        self._ending = False

    async def startup(self, sockets: object = None) -> None:
        """Say when it is ready."""
        await super().startup()
        if self.started:
            for server in self.servers:
                lengthen_line(server)
            host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
            self._ready(f"http://{host}:{self.config.port}")

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: start workers again that died. In the main thread, since they die with their parent."""
        if self._fleet is not None and self._revived_at + REVIVE_EVERY_S < self._now():
            self._revived_at = self._now()
            try:
                self._fleet.revive_server()
                if self._fleet.revive():
                    for name in self._service.ledger.jobs():
                        self._service.ledger.expire_leases(name)
            except (redis.RedisError, OSError, RuntimeError, ProducerError) as error:
                if not isinstance(error, redis.RedisError) and want_of_the_machine(error) is None:
                    self.broken = error
                    return True
                logger.warning("the local server: %s", error)  # the next look, a second later, finds out what is wrong
        return await super().on_tick(counter)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is made for clients: who asked for it would wait for it."""
        self._end_for_sure()
        self._service.makings.stop()
        await super().shutdown(sockets)

    def _end_for_sure(self) -> None:
        if not self._ending:
            self._ending = True
            _end_within(STOP_S + (STOP_TIMEOUT_S if self._fleet is not None else 0), 1)

    def handle_exit(self, sig: int, frame: object) -> None:
        """Let event streams end: they would hold the shutdown up."""
        self._end_for_sure()
        self._service.stopping = True
        super().handle_exit(signal.Signals(sig), frame)  # type: ignore[arg-type]


def log_to_stderr() -> None:
    """Warnings of the service go to stderr, one line each, and of each kind a few a minute.

    Whoever reaches the port, without a token too, has a line written for each request that is none.
    """
    configure_logging(logging.WARNING, "%(levelname)s: %(message)s")
    for (
        handler
    ) in logging.getLogger().handlers:  # not loggers: strangers move those of uvicorn, forms, asyncio and ours
        handler.addFilter(FewOfEach())
    logging.getLogger("ocrfleet.web").setLevel(logging.INFO)
