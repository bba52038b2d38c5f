"""A job's quarantine file: entries of its results stream that are no records of it."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import msgspec

from detector.atomic import named
from producer.held_folder import as_named
from producer.job.output_folder import held_private
from producer.no_links import no_links

logger = logging.getLogger(__name__)
REFUSED_BYTES, QUARANTINE_BYTES = 8192, 16 << 20
"""Of an entry that is no record, what is kept for people; and of all of them."""

AT_ONCE_BYTES = 64 << 10


class PutAside:
    """Keeps what is no record, for people.

    Attributes:
        count: entries so far.
        file: where they are.
    """

    def __init__(self, job: str, results: Path) -> None:
        """Touch nothing yet.

        Args:
            job: the job's name.
            results: its records' file.
        """
        self._job = job
        self._results = results
        self._lines = bytearray()
        self._new = 0
        self._last = ""
        self.file = results.parent / ".ocrfleet" / "quarantine.jsonl"
        self.count = 0

    def put(self, entry: bytes, fields: dict[bytes, bytes], reason: str) -> None:
        """Keep one; it is on disk after the next `write`.

        Args:
            entry: its id.
            fields: what it holds.
            reason: what it is, or is not, in words.
        """
        self.count += 1
        self._new += 1
        self._last = reason
        raw = fields.get(b"record") or _shown(fields)
        text = raw[:REFUSED_BYTES].decode(errors="backslashreplace")
        self._lines += msgspec.json.encode({"entry": entry.decode(), "reason": reason, "raw": text}) + b"\n"
        if len(self._lines) > AT_ONCE_BYTES:
            self.write()

    def write(self) -> None:
        """Write what was put: to open the file for each of 20,000 entries took 80 s."""
        if not self._new:
            return
        with (
            held_private(self._results.parent) as (_, private),
            named(self.file),
            open(private.path / self.file.name, "ab", opener=no_links) as file,
        ):
            if has_room := file.tell() < QUARANTINE_BYTES:
                file.write(self._lines)
        said = (
            "an entry of job %s is %s"
            if self._new == 1
            else f"{self._new} entries of job %s are put aside, the last: %s"
        )
        said += ": kept in %s" if has_room else ": not kept, since %s is full"
        logger.warning(said, self._job, self._last, as_named(str(self.file)))
        self._lines.clear()
        self._new = 0


def _shown(fields: dict[bytes, bytes]) -> bytes:
    """The beginning of an entry without a record: it may have thousands of fields."""
    return repr([(name[:100], value[:100]) for name, value in islice(fields.items(), 20)]).encode()
