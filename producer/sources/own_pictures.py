"""Pictures that were made of a job's pages, where results lie among the pictures: no scan takes them for new pages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from worker.storage.real_path import real_or_named

EXPORTS = frozenset(
    f"export-{name}" for name in ("icdar", "pagexml", "txt", "hocr", "alto", "pdf", "crops", "yolo-obb")
)
FOLDERS = frozenset(("overlays", "page-images")) | EXPORTS
"""In a job's output folder. Where an export is being written its folder's name ends in `PART`."""

PART = ".part"
RESULTS = "results.jsonl"
"""What every folder of results holds, also one that `collect` filled, or another job's."""


def named_as_ours(folder: Path) -> bool:
    """Whether we name folders of pictures so."""
    return folder.name.removesuffix(PART) in FOLDERS


def made_by_us(root: Path, out: Path | None) -> Callable[[Path], bool]:
    """Tells which folders below a scan's root hold what we made: the job's own output, and pictures beside results.

    Args:
        root: where the scan begins; it is looked into whatever it is.
        out: the job's output folder.
    """
    own = real_or_named(out) if out else None
    shared = own is not None and own == real_or_named(root)  # photos and results are in one folder

    def is_ours(folder: Path) -> bool:
        real = real_or_named(folder)
        if real == own and not shared:
            return True
        if not named_as_ours(real):
            return False
        return real.parent == own or (real.parent / RESULTS).is_file()

    return is_ours
