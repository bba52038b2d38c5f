"""The Celery worker process: flags that no user should have to remember, and what it notes when its child is lost."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from celery.apps.worker import Worker
from celery.exceptions import CPendingDeprecationWarning
from celery.utils.log import get_logger
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from kombu.connection import Connection
from redis import ResponseError
from redis.exceptions import NoPermissionError

from detector.exit_codes import ExitCode
from worker.broker.connection import MISREAD, impatient, is_no_redis, refusal, why_waiting
from worker.broker.fitness import BrokerUnfitError, refuse_old_users
from worker.broker.sending import OurChannels
from worker.broker.short_replies import hurry_when
from worker.celery_ext.channel import FleetChannel
from worker.celery_ext.few_connections import lend_channels
from worker.celery_ext.listening import PatientPoller
from worker.celery_ext.self_care import SelfCare
from worker.ledger.reconcile import every_s
from worker.redis_url import redacted
from worker.settings import settings

logger = get_logger(__name__)
EVENTS_EVERY_S = 0.5
REFUSED_PAUSE_S = 5.0
RETRY_AT_MOST_S = 5.0
# Of the commands that change something: Flower asks for events when it starts, and a person may take a page back.
OBEYED = ("revoke", "terminate", "enable_events", "heartbeat")
# Of those that look. Not the settings, also by their older name (`dump_conf`): Celery hides what it takes for a
# password by its name, and an address is none. Not `hello`, which adds to what is revoked.
ANSWERED = (
    "ping",
    "clock",
    "stats",
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "registered",
    "active_queues",
    "query_task",
)
# Celery remembers 50,000 ids that were revoked, of any length.
MOST_REVOKED = 10_000


class FleetWorker(Worker):
    """``celery -A worker.app worker`` with mingle and gossip off.

    Both talk to every other worker: at 50 machines mingle delays each start by a second and gossip costs 50x50
    messages. Nothing here needs them; there is no setting for them, only flags, so they are set here.
    """

    def setup_instance(self, **kwargs: Any) -> None:
        refuse_remote_control()
        hurry_when(_is_told_to_end)
        # For all that this process connects: also what sends events, and stranded pages again.
        OurChannels.channel_class = FleetChannel
        kwargs.update(without_mingle=True, without_gossip=True)
        super().setup_instance(**kwargs)

    def startup_info(self, artlines: bool = True) -> str:
        """Celery's banner, and what it leaves out: the settings that keep this worker small and its images safe."""
        conf = self.app.conf
        acks = "late" if conf.task_acks_late else "early"
        return super().startup_info(artlines) + (
            f" .> prefetch: {conf.worker_prefetch_multiplier * self.concurrency}, none while an image runs\n"
            f" .> acks: {acks}, again if the worker is lost\n"
            f" .> child: replaced after {conf.worker_max_tasks_per_child} images; {settings().profile_reason}\n"
        )


def _is_told_to_end() -> bool:
    """Whether a signal has come: Celery notes the exit code, which may be 0."""
    return any(code is not None and code is not False for code in (state.should_stop, state.should_terminate))


def refuse_remote_control() -> None:
    """Leave of Celery's remote control what looks (ping, inspect) and what Flower needs; the rest is unknown here.

    Whoever may write to the queue could otherwise shut every worker down, or have one run eight images at a time.
    """
    for name in set(Panel.data) - {*OBEYED, *ANSWERED}:
        del Panel.data[name]
    state.revoked.maxlen = MOST_REVOKED


def _told_of(info: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `stats` tells of a connection to whoever asks. Of a socket kombu takes the whole address for the host."""
    found = info()
    if "://" in str(found.get("hostname", "")):
        found["hostname"] = redacted(settings().redis_url)
    return found


class FleetConsumer(Consumer):
    """Celery's consumer, with :class:`FleetChannel`, sending task events in bundles.

    Celery sends received, started and succeeded as they come, three of the eight round trips of an image, and the
    child waits for them. Their times are noted when they happen; Flower learns of them up to half a second later.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bundle_until = 0.0

    def connection_for_read(self, heartbeat: float | None = None) -> Connection:
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        connection.channel_class = FleetChannel
        connection.transport.cycle = PatientPoller()
        lend_channels(connection)
        connection.info = partial(_told_of, connection.info)
        # kombu waits 2, 4, ... up to 30 s between two tries: after an outage of minutes half a minute too long.
        retry = partial(
            connection.ensure_connection, interval_start=0.5, interval_step=0.5, interval_max=RETRY_AT_MOST_S
        )
        connection.ensure_connection = retry
        return self.ensure_connected(connection)

    def connection_for_write(self, heartbeat: float | None = None) -> Connection:
        connection = super().connection_for_write(heartbeat=heartbeat)
        # Celery sends each heartbeat again without an end, and hears no signal meanwhile. It buffers what fails.
        connection.ensure = partial(connection.ensure, max_retries=1)
        return connection

    def start(self) -> None:
        """Celery's own, which would end with a traceback over a server that answers as no Redis does, or is unfit.

        Raises:
            SystemExit: over such a one, with one line; whoever watches over workers starts them again.
        """
        try:
            super().start()
        except BrokerUnfitError as error:
            logger.critical(str(error))
            raise SystemExit(int(error.exit_code)) from None
        except MISREAD as error:
            if not is_no_redis(error):
                raise
            logger.critical(refusal(error))
            raise SystemExit(int(ExitCode.BROKER)) from None

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        if isinstance(exc, NoPermissionError):
            refuse_old_users(impatient(self.app.conf.ocrfleet_redis_url))
        with warnings.catch_warnings():  # six lines about another default of Celery 6.0, each time
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)
        if isinstance(exc, ResponseError):  # there it is, but it refuses: nothing slows the next try down but this
            logger.warning(why_waiting(exc))
            time.sleep(REFUSED_PAUSE_S)

    def on_send_event_buffered(self) -> None:
        now = time.monotonic()
        # By time, not by a flag: the timer is gone if the connection was lost in between.
        if self.hub and now >= self._bundle_until:
            self._bundle_until = now + EVENTS_EVERY_S
            self.hub.call_later(EVENTS_EVERY_S, self._flush_events_promise)

    def stop(self) -> None:
        # Else Flower would show the last images as running for ever. An unreachable broker may be why we stop.
        with contextlib.suppress(Exception):
            self._flush_events()
        super().stop()

    def register_with_event_loop(self, hub: Any) -> None:
        super().register_with_event_loop(hub)
        care = SelfCare(self.app, hub.call_later)
        care.begin()
        hub.call_repeatedly(every_s(settings().lease_s), care.look)
