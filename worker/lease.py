"""A running page's heartbeat: while it beats, nobody else is sent the page."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

import redis

from worker.ledger import Ledger
from worker.settings import HEARTBEAT_S

logger = logging.getLogger(__name__)


class Lease:
    """Renews a page's lease every ``HEARTBEAT_S`` seconds in a daemon thread, as a context manager.

    OpenCV and ONNX Runtime release the GIL, so the thread beats while they work; a child that is stopped or swapped
    to death does not beat, and its page is rightly given to somebody else.
    """

    def __init__(self, ledger: Ledger, job: str, index: int) -> None:
        self._ledger = ledger
        self._page = (job, index)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {job}:{index}", daemon=True)

    def __enter__(self) -> Lease:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_S):
            try:
                if not self._ledger.renew(*self._page):
                    return
            except redis.RedisError as error:
                logger.warning("could not renew the lease of %s:%d: %s", *self._page, error)
