"""A running page's heartbeat: while it beats, no other worker is sent the page."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from worker.ledger import Ledger
from worker.storage.spool import out_of_processes

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews the lease of whatever page is held, every third of it, in a daemon thread. One per child.

    OpenCV and ONNX Runtime release the GIL, so the thread beats while they work. A child that is stopped, or hardly
    runs because the machine swaps, does not beat, and its page goes to another worker. One thread for the child's whole
    life: most pages end long before their first beat, and a thread for each costs more than taking the lease.
    """

    def __init__(self, ledger: Ledger, every_s: float | None = None) -> None:
        """Starts no thread yet: after a fork it would be gone."""
        self._ledger = ledger
        self._every_s = every_s or ledger.lease_s / 3
        self._page: tuple[str, int, str] | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, job: str, index: int, epoch: str = "") -> Iterator[None]:
        """Beat for this page, whose lease was taken (``Ledger.begin``), until the block is left.

        Raises:
            MachineFault: no thread can be started. The next page tries again.
        """
        self._page = (job, index, epoch)
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._beat, name="lease", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise out_of_processes() from error
                self._thread = thread
            yield
        finally:
            self._page = None

    def _beat(self) -> None:
        while True:
            time.sleep(self._every_s)
            # The page may end at any moment from here on: the ledger renews nothing that is not running.
            if (page := self._page) is None:
                continue
            job, index, epoch = page
            try:
                self._ledger.renew(job, index, epoch=epoch)
            except redis.RedisError as error:
                logger.warning("could not renew the lease of %s:%d: %s", job, index, error)
