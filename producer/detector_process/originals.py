"""A job's pictures, opened once more for overlays, crops and searchable PDFs, where the scan found them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from producer.detector_process.member_fetcher import ProducerStorage
from worker.storage.files import Fetch


def originals(roots: tuple[Path, ...], spool: Path, fetchers: Mapping[str, Fetch] | None = None) -> ProducerStorage:
    """What opens them; close it.

    Args:
        roots: where they must lie. The scan passed over links that lead elsewhere; a file may have become one since.
            Empty: anywhere.
        spool: for copies of members of archives, and of what fetchers bring.
        fetchers: see `Storage`.
    """
    remedy = "it leads out of the job's sources by now: a link? Such are followed in jobs with --follow-links"
    return ProducerStorage(roots, spool, fetchers, outside=remedy)
