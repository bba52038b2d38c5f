"""The manifest of a collected job: exports and pictures need it, and `collect` may run on another machine."""

from __future__ import annotations

import shutil
from array import array
from contextlib import suppress
from pathlib import Path

import msgspec

from detector.atomic import atomic_write, named
from detector.record import UNREADABLE
from producer.held_folder import ours_to_write
from producer.job.manifest import ManifestLine, count_manifest
from producer.job.results_file import MOST_LINE_BYTES, decode_line, placed_lines
from producer.results_there import open_there

_NONE = (1 << 64) - 1


def bring_manifest(kept: Path | None, results: Path, manifest: Path, total: int) -> bool:
    """Make ``manifest`` of what is on this machine, replacing one that is there.

    Args:
        kept: where `enqueue` would have kept it; None: what is there is not to be used.
        results: the job's records.
        manifest: the file to write.
        total: pages of the job.

    Returns:
        Whether it says where the originals are. False: the job was enqueued elsewhere, and the manifest has only names
        and pages, from the records; or, while records are missing, there is none.
    """
    if kept is not None and kept.is_file() and count_manifest(kept) == total:
        with (
            kept.open("rb") as there,
            atomic_write(manifest, sync=True) as part,
            open(part, "wb", opener=ours_to_write) as target,
        ):
            shutil.copyfileobj(there, target, 1 << 20)
        return True
    _rebuild(results, manifest, total)
    return False


def _rebuild(results: Path, manifest: Path, total: int) -> None:
    """From the records, which come in any order; 8 bytes of memory a page. Nothing unless every page has its record."""
    complete = count_manifest(results) >= total  # else a total that Redis made up would be memory, 8 bytes a page
    places = array("Q", [_NONE]) * (total if complete else 0)
    with named(results), open_there(results) as source:
        for place, raw in placed_lines(source):
            with suppress(*UNREADABLE):
                index = decode_line(raw).index
                if complete and 0 <= index < total:
                    places[index] = place
    manifest.unlink(missing_ok=True)  # of another job, or of these pages before
    if not complete or _NONE in places:
        return
    encoder = msgspec.json.Encoder()
    with (
        open_there(results) as source,
        atomic_write(manifest, sync=True) as part,
        open(part, "wb", opener=ours_to_write) as target,
    ):
        for index, place in enumerate(places):
            source.seek(place)
            line = decode_line(source.readline(MOST_LINE_BYTES))
            target.write(encoder.encode(ManifestLine(index, line.image, "", line.page)) + b"\n")
