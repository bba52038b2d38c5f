"""What every worker's main process does for the fleet, one of them at a time: send stranded pages again.

Beat asks for it too, but a fleet whose beat is gone must lose no page by that, only the nightly cleanup.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from celery import Celery
from celery.utils.log import get_logger
from celery.worker.state import active_requests, reserved_requests
from kombu.exceptions import OperationalError
from redis import RedisError

from worker.broker.unacked import settle
from worker.celery_ext.request import main_ledger
from worker.ledger import reconcile

logger = get_logger(__name__)
# After an error: what answers late must not hold up the event loop each time; what refuses may stop soon.
SLOW_S = 5.0


def in_hand() -> set[str]:
    """Delivery tags of the messages that this process has, also those of a connection before: its child runs them."""
    return {request.message.delivery_tag for request in {*reserved_requests, *active_requests}}


class SelfCare:
    """Looks for stranded pages from the event loop, in two short steps instead of one that sleeps in between."""

    def __init__(self, app: Celery, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        """Look for nothing yet.

        Args:
            app: sends the messages.
            call_later: of the event loop.
        """
        self._app = app
        self._call_later = call_later
        self._missing: dict[str, list[int]] = {}
        self._slow_until = 0.0

    def begin(self) -> None:
        """At a start, of this process or of a connection: what was lost with the one before runs again."""
        self._guarded(self._hand_back)
        self._guarded(partial(self._look, soon=True))

    def _hand_back(self) -> None:
        if sent := reconcile.hand_back(self._app, main_ledger(), in_hand()):
            logger.info("a worker of this machine, or its connection, is gone: %d of its pages sent again", sent)

    def look(self) -> None:
        """First step: send what has lapsed; what is in no queue is looked for among what workers hold, later."""
        if time.monotonic() < self._slow_until:
            return
        self._guarded(self._look)

    def _look(self, *, soon: bool = False) -> None:
        ledger = main_ledger()
        if not reconcile.take_turn(ledger, soon=soon):
            return
        self._missing = {}
        settle(ledger.client)
        until = time.monotonic() + reconcile.LOOK_S
        for job in reconcile.open_jobs(ledger):
            with reconcile.despite_damage(job):
                lapsed, missing = reconcile.suspects(ledger, job, reconcile.SOON_GRACE_S if soon else None)
                if missing:
                    self._missing[job] = missing
                # When a broker that was away for longer than a lease is back, all have lapsed: their workers live, and
                # renew them within a third of a lease.
                reconcile.send_again(self._app, ledger, job, [] if soon else lapsed, until=until)
        if self._missing:
            self._call_later(reconcile.GAP_S, self.confirm)

    def confirm(self) -> None:
        """Second step: send what no worker holds either."""
        self._guarded(self._confirm)

    def _confirm(self) -> None:
        missing, self._missing = self._missing, {}
        until = time.monotonic() + reconcile.LOOK_S
        for job, indices in missing.items():
            if time.monotonic() > until:
                return
            ledger = main_ledger()
            with reconcile.despite_damage(job):
                lost = reconcile.held_by_nobody(ledger, job, indices)
                reconcile.send_again(self._app, ledger, job, lost, until=until)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except (RedisError, OperationalError, OSError) as error:
            # It answers late, or refuses: another worker does it, or this one a little later.
            logger.warning("could not look for stranded pages: %s", error)
            self._slow_until = time.monotonic() + SLOW_S
        except Exception:
            # Of what somebody wrote into Redis, and nobody thought of: a look that fails ends no worker, nor its start.
            logger.exception("could not look for stranded pages")
            self._slow_until = time.monotonic() + SLOW_S
