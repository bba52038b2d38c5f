"""A job's pictures, opened once more for overlays, crops and searchable PDFs, where the scan found them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from producer.detector_process.member_fetcher import ProducerStorage
from worker.storage.files import Fetch

NOT_ONES_OWN = "no request of yours in this folder says that its pictures may be opened; or others write to its list"


def originals(
    roots: tuple[Path, ...] | None, spool: Path, fetchers: Mapping[str, Fetch] | None = None
) -> ProducerStorage:
    """What opens them; close it.

    Args:
        roots: where they must lie. The scan passed over links that lead elsewhere; a file may have become one since.
            Empty: anywhere. None: nothing is opened.
        spool: for copies of members of archives, and of what fetchers bring.
        fetchers: see `Storage`.
    """
    remedy = "it leads out of the job's sources by now: a link? Such are followed in jobs with --follow-links"
    if roots is None:
        return ProducerStorage((), spool, {}, any_path=False, outside=NOT_ONES_OWN)
    return ProducerStorage(roots, spool, fetchers, outside=remedy)
