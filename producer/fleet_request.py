"""What is asked of a fleet: on this machine's terms, and as the broker keeps it for whoever collects."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from detector.cache import others_above
from detector.record import UNREADABLE
from producer.detector_process.shrink import CannotShrinkError, can_shrink
from producer.held_folder import PRIVATE, HeldFolder, is_shared
from producer.job.output_folder import JobRequest
from producer.no_links import OthersFolderError, hold_out, hold_own, own_below
from worker.ledger.ledger import JobStatus
from worker.settings import read_settings

SOURCES_REMEMBERED = 100
REQUEST = "request.json"
KEPT = ("manifest.jsonl", "results.jsonl", "job.json", "report.html")
"""What commands write into a job's folder on the producer's machine."""


def remembered(request: JobRequest) -> str:
    """The request as the broker keeps it for whoever collects: small, however many sources were named."""
    more = len(request.sources) - SOURCES_REMEMBERED
    sources = [*request.sources[:SOURCES_REMEMBERED], *([f"and {more} more"] if more > 0 else [])]
    return msgspec.json.encode(msgspec.structs.replace(request, sources=sources)).decode()


def request_of(status: JobStatus) -> JobRequest:
    """What was asked for, as far as the broker knows (jobs of older versions: the name alone)."""
    try:
        return msgspec.json.decode(status.extra.get("request", ""), type=JobRequest)
    except UNREADABLE:
        return JobRequest(job=status.job, sources=[])


def choose_shrinking(request: JobRequest, wanted: bool | None) -> JobRequest:
    """Decide whether this machine makes pages small before they travel, and to what size.

    Args:
        request: the job.
        wanted: what the user said; None leaves it to the profile.

    Raises:
        CannotShrinkError: it is wanted, but this machine has no image library.
    """
    if request.transfer != "redis":
        return request
    current = read_settings(os.environ)
    if wanted and not can_shrink():
        raise CannotShrinkError("--shrink needs an image library on this machine: pip install 'ocrfleet[worker]'")
    if wanted and request.options.read:
        raise CannotShrinkError("--shrink and --read: small pages cannot be read; leave one of them out")
    if wanted is None and not request.options.read:
        wanted = current.profile.name == "low" and can_shrink()
    if not wanted:
        return request
    return msgspec.structs.replace(request, shrink=True, limit_side=request.limit_side or current.limit_side)


def remove_kept(root: Path) -> str:
    """Remove what `enqueue` kept of a job: its files in its folder and in `.ocrfleet`, and both if they are empty then.

    By their names, and no folders: others could have moved, or linked, one of the user's there, and what lies in that
    they could not have removed themselves. In one without a job's request nothing is ours; and where others may put
    another folder in its place, or above it, nobody knows whose it is: an OUT of `run` looks the same.

    Returns:
        Why it is there still; empty: it is not.
    """
    if not is_shared() and (above := others_above(root)) is not None and root.exists():
        return f"{root} is left, as others can write into {above}"
    try:
        with hold_own(root.parent, may_be_link=True) as base, hold_out(base.path / root.name) as held:
            with suppress(FileNotFoundError), own_below(held, PRIVATE) as private:
                if (private.path / REQUEST).is_file():
                    _remove_files(held, KEPT)
                    _remove_files(private)
            with suppress(OSError):
                os.rmdir(PRIVATE, dir_fd=held.descriptor)
            if (base.path / root.name).is_symlink():  # to a larger disk, by this user
                (base.path / root.name).unlink()
            else:
                os.rmdir(root.name, dir_fd=base.descriptor)
    except FileNotFoundError:
        return ""
    except OthersFolderError:
        return f"{root} is left, as others can write there"
    except OSError as error:
        return f"{root} is left ({error.strerror})"
    return ""


def _remove_files(folder: HeldFolder, names: Sequence[str] = ()) -> None:
    """Those, and what a killed command left unfinished of them; all, where none is named. What tells comes last."""
    for path in sorted(folder.path.iterdir(), key=lambda path: path.name == REQUEST):
        is_part = any(path.match(f".{name}.*.part") for name in names)
        if (not names or path.name in names or is_part) and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)
