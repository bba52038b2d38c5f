"""Beat inside the producer's process, for `run`: a thread instead of 50 MB of another Python."""

from __future__ import annotations

import threading
from types import TracebackType

from celery import Celery
from celery.beat import Scheduler, Service


class BeatThread:
    """Sends the periodic tasks (cleanup, reconciliation) for as long as the context lasts."""

    def __init__(self, app: Celery) -> None:
        """Start nothing yet."""
        self._service = Service(app, scheduler_cls=Scheduler)
        self._thread = threading.Thread(target=self._service.start, name="beat", daemon=True)

    def __enter__(self) -> BeatThread:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let the thread end by itself, at its next tick."""
        self._service.stop(wait=False)
