"""The Celery app and every one of its settings, with its reason. ``celery -A worker.app worker`` needs no flags."""

from __future__ import annotations

import os
import re
import sys
from functools import cached_property
from typing import Any

from celery import Celery
from kombu import pools
from kombu.clocks import LamportClock
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue
from kombu.utils.imports import symbol_by_name

from worker.cron import parse_cron
from worker.redis_url import broker_url, tls_options
from worker.settings import Settings, settings

IMAGE_QUEUE = "ocrfleet"
BROADCAST_QUEUE = "ocrfleet.broadcast"
DETECT_TASK = "ocrfleet.detect_image"
CLEANUP_TASK = "ocrfleet.cleanup"
RECONCILE_TASK = "ocrfleet.reconcile"
RECONCILE_EVERY_S = 30
# kombu's own names are "unacked" and so on, the same for every Celery app on the database: our workers would put
# another app's messages on its queue again, by our timeout, and the other way round.
UNACKED, UNACKED_INDEX, UNACKED_MUTEX = "ocrfleet:unacked", "ocrfleet:unacked_index", "ocrfleet:unacked_mutex"
# Celery speaks to all apps on a database over one channel, celery.pidbox, and hears all over celeryev: with a password
# of ours another app's workers could be told to take a queue of ours, and ran any task of theirs that lay there.
CONTROL, EVENTS = "ocrfleet", "ocrfleet.events"
CONTROL_EXCHANGE, REPLY_EXCHANGE = f"{CONTROL}.pidbox", f"reply.{CONTROL}.pidbox"  # as kombu makes them
# Queues of one process each. As keys they begin as all of ours do: users.acl gives our users no other.
BROADCAST_LISTS, EVENT_LISTS, MAILBOXES = "ocrfleet:broadcast", "ocrfleet:events", "ocrfleet:mailbox."
REPLY_LISTS = "ocrfleet:replies."
REPLY_KEY = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # of who waits for an answer: kombu's oid
# A child with the largest of our networks loaded, and one ordinary page, peaks at 125 to 140 MB.
SMALLEST_RECYCLE_MB = 192


class FleetClock(LamportClock):
    """Celery's, that every message with a clock moves: no further than JSON takes it, and Flower believes (2^53).

    One command whose clock had 4,300 digits, the most that Python writes, and a worker answered nobody any more.
    """

    MOST = 2**52
    """The largest that is heeded, so that those who heeded it stay below 2^53 for as long as they live."""

    def adjust(self, other: object) -> int:
        """After a message that says so; another kind of clock, or a larger one, is passed over."""
        heeded = type(other) is int and other <= self.MOST
        return super().adjust(other if heeded else 0)  # type: ignore[arg-type]


class FleetApp(Celery):
    """Celery whose workers need no flags: see :class:`worker.celery_ext.consumer.FleetWorker`."""

    amqp_cls = "worker.broker.sending:FleetAMQP"
    control_cls = "worker.celery_ext.mailbox:FleetControl"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.clock = FleetClock()

    @cached_property
    def Worker(self) -> Any:
        """The class Celery starts."""
        return self.subclass_with_self("worker.celery_ext.consumer:FleetWorker")


def beat_schedule(current: Settings) -> dict[str, dict[str, Any]]:
    """What ``beat`` sends and when. Both go to *every* worker: temp files are per machine."""
    # Celery does not declare a Broadcast queue's exchange when it sends, and a process that only sends would take it
    # for a direct one, whose messages no worker gets. Declaring it with each message costs a look at a set in memory.
    broadcast = {"queue": BROADCAST_QUEUE, "declare": [Exchange(BROADCAST_QUEUE, type="fanout")]}
    return {
        "cleanup": {
            "task": CLEANUP_TASK,
            "schedule": parse_cron(current.cleanup_cron),
            # A machine that was down at night must not clean up at noon, in the middle of its work.
            "options": {**broadcast, "expires": 3600},
        },
        "reconcile": {
            "task": RECONCILE_TASK,
            "schedule": RECONCILE_EVERY_S,
            # The next one comes anyway; a backlog of them would only cost time.
            "options": {**broadcast, "expires": RECONCILE_EVERY_S},
        },
    }


def configuration(current: Settings) -> dict[str, Any]:
    """Celery's settings, by their lower-case names."""
    transport = {
        # Well above the hard task limit (no image is run twice at once), far below Celery's default hour (an image
        # on a vanished machine must not wait that long even without our leases).
        "visibility_timeout": current.visibility_timeout_s,
        # kombu looks for expired messages every 10 s * 10 by default; every 5 s costs one ZRANGE.
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "unacked_key": UNACKED,
        "unacked_index_key": UNACKED_INDEX,
        "unacked_mutex_key": UNACKED_MUTEX,
        # The NAT of a cheap provider forgets idle connections: keepalive keeps them, the health check finds dead ones.
        "socket_keepalive": True,
        "health_check_interval": 30,
        # A machine that lost its network must fail and retry, not wait in a read without end.
        "socket_connect_timeout": 10,
        # Fanout (cleanup, remote control) must not leak between databases of one shared Redis.
        "fanout_prefix": True,
        "fanout_patterns": True,
    }
    return {
        "broker_url": broker_url(current.redis_url),
        # The same for redis-py: what a worker says beside messages goes over one connection (few_connections.py).
        "ocrfleet_redis_url": current.redis_url,
        # kombu reads TLS from the URL; Flower's broker tab reads it here.
        "broker_use_ssl": tls_options(current.redis_url),
        "broker_transport_options": transport,
        # Celery reads the visibility timeout in three places ("Redis: Caveats"); one differing value would undo it.
        "result_backend_transport_options": {"visibility_timeout": current.visibility_timeout_s},
        "visibility_timeout": current.visibility_timeout_s,
        # A worker that starts before Redis, or outlives a restart of it, waits instead of dying.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # It survives a Redis that refuses writes, too: memory or disk full, a replica (celery_ext/channel.py).
        "broker_channel_error_retry": True,
        # An image that runs while the broker is away is not thrown away: the ledger takes its record when it is back.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # JSON only: a pickle on the queue would run code in the worker.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        # Names of our own, see CONTROL; `celery inspect`, Flower and workers all read them here.
        "control_exchange": CONTROL,
        "event_exchange": EVENTS,
        "event_queue_prefix": EVENT_LISTS,
        # The ledger holds results; a Celery result backend would keep a second copy of each.
        "result_backend": None,
        "task_ignore_result": True,
        "task_store_errors_even_if_ignored": False,
        # Acknowledge after the record is written: a crash in between costs a second run, never an image.
        "task_acks_late": True,
        # A child that was killed hands its message back at once instead of after the visibility timeout.
        "task_reject_on_worker_lost": True,
        # Killed for time: back to the queue, the ledger counts the tries.
        "task_acks_on_timeout": False,
        # The task catches everything. What still escapes (Redis gone for a minute) leaves a lease that lapses, and the
        # reconciler sends the page again. Redelivering it here would repeat the failure at once, without end.
        "task_acks_on_failure": True,
        # Soft limit: the task gives up by itself; hard limit: the child is killed.
        "task_soft_time_limit": current.task_timeout_s,
        "task_time_limit": current.hard_timeout_s,
        # One image in memory per worker: more workers on one machine are more programs, each with its own limit.
        "worker_concurrency": 1,
        "worker_consumer": "worker.celery_ext.consumer:FleetConsumer",  # task events in bundles, see there
        "worker_pool": "worker.celery_ext.prefork:FleetPool",  # replaces a recycled child at once, see there
        # One unacknowledged message per worker, and none while the child is busy: with acks_late on Redis the
        # multiplier alone lets the prefetch count drift up (celery >= 5.6: worker_disable_prefetch).
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # A fresh child every so often: whatever leaks in a native library cannot grow.
        "worker_max_tasks_per_child": current.max_tasks_per_child,
        # Second net: the child is replaced after a task whose peak passed its limit (kB; looks at the peak only, with
        # libraries; never less than any child needs, or each image would get a child of its own).
        "worker_max_memory_per_child": max(current.memory_limit_mb, SMALLEST_RECYCLE_MB) * 1024
        if current.memory_limit_mb
        else None,
        # Loading the model inside worker_process_init would be killed after 4 s on a slow disk; we load lazily, and
        # this only guards the fork itself on a machine that swaps.
        "worker_proc_alive_timeout": 30.0,
        # SIGTERM lets the current image finish; after a second signal it has this long before it is handed back.
        "worker_soft_shutdown_timeout": 10.0,
        # Flower shows tasks by their events.
        "worker_send_task_events": True,
        "task_send_sent_event": False,  # the producer's ledger knows what was sent; saves one message an image
        "task_track_started": False,  # writes to the result backend, which we do not have
        # Our own logging in plain lines; Celery must not hijack the root logger of a program that embeds us.
        "worker_hijack_root_logger": False,
        "worker_log_format": "%(asctime)s %(levelname)s %(message)s",
        "worker_task_log_format": "%(asctime)s %(levelname)s %(message)s",
        # Images go to one worker each, cleanup and reconcile to all of them.
        "task_default_queue": IMAGE_QUEUE,
        "task_queues": [Queue(IMAGE_QUEUE), Broadcast(BROADCAST_QUEUE, queue=BROADCAST_LISTS, unique=True)],
        # Tasks are imported by workers only: a producer must not import the detector.
        "include": ["worker.tasks"],
        # OCRFLEET_CLEANUP_CRON means the same moment on every machine of the fleet.
        "timezone": "UTC",
        "enable_utc": True,
        "beat_schedule": beat_schedule(current),
        # The in-memory scheduler: the default one keeps a shelve, which is a pickle.
        "beat_scheduler": "celery.beat:Scheduler",
        # Beat notices within 5 s that its clock was set; the default for this scheduler is 5 minutes.
        "beat_max_loop_interval": 5,
    }


# `celery -A worker.app flower` alone would listen on every address, without a password, and run a flowerconfig.py of
# the current folder, which may be one of somebody's images. Flower reads its options from FLOWER_* first and from the
# command line after that.
os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")
os.environ.setdefault("FLOWER_CONF", os.devnull)
if "celery.events.receiver" in sys.modules:  # Celery's own program, where Flower is installed
    symbol_by_name("worker.celery_ext.watched_events:check_events")()
if "flower.app" in sys.modules:
    symbol_by_name("worker.celery_ext.flower_hosts:check_hosts")()
    symbol_by_name("worker.celery_ext.flower_workers:bound_workers")()
    symbol_by_name("worker.celery_ext.flower_answers:bound_answers")()
    symbol_by_name("worker.celery_ext.flower_connections:bound_connections")()

app = FleetApp("ocrfleet", set_as_current=True)
app.conf.update(configuration(settings()))


def app_for(current: Settings) -> Celery:
    """The app, pointed at the broker of these settings. A producer learns its embedded server's URL after import."""
    before = app.conf.broker_url
    app.conf.update(configuration(current))
    # What Celery keeps open still leads to the broker before: of a folder that is watched each bundle of files has a
    # server of its own, and from the second on no page was sent, until the reconciler found it.
    if app.conf.broker_url != before:
        pools.reset()
        app._after_fork()
    return app
