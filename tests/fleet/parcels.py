"""Pages on their way through Redis, as tests look at them."""

from __future__ import annotations

from contextlib import suppress

from producer.detector_process.turn_process import NotYetError
from producer.job.manifest import ManifestLine
from producer.job.upload import Parcel, Uploader


def packed(uploader: Uploader, line: ManifestLine) -> Parcel:
    """As the feeder does it: what another process takes out is asked for again until it is there."""
    for _ in range(120):  # half a second each
        with suppress(NotYetError):
            return uploader.pack(line)
    raise AssertionError("not within a minute")


def content(parcel: Parcel) -> bytes:
    return parcel.data if isinstance(parcel.data, bytes) else b"".join(parcel.data.pieces())
