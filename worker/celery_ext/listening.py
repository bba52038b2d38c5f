"""kombu's Redis channel where it listens to broadcasts: it never waits for one, and takes no silence of ours for dead.

While a page runs kombu reads nothing (its prefetch is used up), and so no answers to its PINGs either. After two of
them, 30 s each, it took the connection for dead and closed it; redis-py then made another, and waited in it without a
limit: the worker's main process stood still for good, after any page of more than 60 to 90 s.
"""

from __future__ import annotations

import select
from contextlib import suppress
from functools import cached_property
from queue import Empty
from typing import Any

from kombu.transport.redis import MultiChannelPoller
from redis.backoff import NoBackoff
from redis.client import PubSub
from redis.retry import Retry

from worker.celery_ext.few_connections import ThriftyChannel

_ONCE: Any = Retry(NoBackoff(), 0)


class PatientPoller(MultiChannelPoller):
    """Waits for no broadcast while none would be read.

    kombu does so where messages wait. A broadcast that came while a page ran, or the answer to SUBSCRIBE, kept the
    socket readable, and the loop turned as fast as it could: a core of the machine, until the page was done.
    """

    def on_poll_start(self) -> None:
        """kombu calls it at each turn of the loop, before it asks for a message and waits for ``fds``.

        What was said meanwhile is heard first: with the next page in hand nothing would be, and a page that an operator
        took back while others waited was run (in 1 of 12 trials; now none of 28).
        """
        said = [
            fd for fd, (channel, what) in self._fd_to_chan.items() if what == "LISTEN" and channel.qos.can_consume()
        ]
        for fd in select.select(said, (), (), 0)[0] if said else ():
            with suppress(Empty):
                self.on_readable(fd)
        super().on_poll_start()
        for socket in self._fd_to_chan.keys() - self.fds.keys():
            self._unregister_from_poll(socket)

    @property
    def fds(self) -> dict[int, tuple[Any, str]]:
        """File descriptor -> channel and what it waits for there."""
        found: dict[int, tuple[Any, str]] = super().fds
        return {
            fd: (channel, what)
            for fd, (channel, what) in found.items()
            if channel.qos.can_consume() or what != "LISTEN"
        }


class ListeningChannel(ThriftyChannel):
    """Reads what is there, and nothing else."""

    @cached_property
    def subclient(self) -> PubSub:
        """kombu's own, which asks after Redis' health only while answers are read."""
        listener: PubSub = self._create_client(asynchronous=True).pubsub()
        ask = listener.check_health

        def check_health() -> None:
            if self.qos.can_consume():
                ask()

        listener.check_health = check_health
        return listener

    def _receive(self) -> bool:
        """kombu's own reads first, and asks afterwards whether there is anything: an event may be of a closed socket.

        A connection that is lost is an error, as it is where messages are waited for: redis-py would connect again, and
        wait for the next broadcast.
        """
        heard = []
        connection = self.subclient.connection
        while connection is not None and connection._sock is not None and connection.can_read(timeout=0):
            connection.retry = _ONCE
            with suppress(Empty):
                heard.append(self._receive_one(self.subclient))
        return any(heard)
