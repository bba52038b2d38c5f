"""Tars of any compression: those that tarfile knows, and Zstandard through `pip install 'ocrfleet[archives]'`."""

from __future__ import annotations

import tarfile
from typing import Any, BinaryIO, Literal, cast

from detector.errors import UnsupportedFormat
from worker.storage.archive_errors import MOST_WINDOW_BYTES, zstd

_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60)))  # a frame, or one skipped


def can_open_zstd() -> bool:
    """Whether tars compressed with Zstandard can be opened here."""
    return zstd is not None


def open_tar(file: BinaryIO, mode: Literal["", "|"] = "") -> tarfile.TarFile:
    """A tar that is open for reading, by what its first bytes say of its compression.

    Args:
        file: the open archive, seekable; the caller closes it.
        mode: "|" to read it as a stream, in bounded memory.

    Raises:
        UnsupportedFormat: compressed with Zstandard, and the extra is not installed.
        tarfile.ReadError: no tar.
    """
    start = file.read(4)
    file.seek(0)
    if start not in _ZSTD:
        # Python 3.14 reads Zstandard by itself, with windows of any size; none of those comes here.
        return tarfile.open(fileobj=file, mode=cast("Any", f"r{mode or ':'}*"))
    if zstd is None:
        raise UnsupportedFormat(
            "a tar compressed with Zstandard; pip install 'ocrfleet[archives]' here, or unpack it first"
        )
    window = {zstd.DecompressionParameter.window_log_max: MOST_WINDOW_BYTES.bit_length() - 1}
    return tarfile.open(fileobj=zstd.ZstdFile(file, options=window), mode=cast("Any", f"r{mode or ':'}"))
