"""What can be wrong with a member of an archive, as people should read it."""

from __future__ import annotations

import importlib
import lzma
import tarfile
import zipfile
import zlib
from pathlib import Path
from types import ModuleType

from detector.errors import CorruptImage, UnsupportedFormat

MOST_WINDOW_BYTES = 64 << 20
"""Of a dictionary (7z) or window (Zstandard) that unpacking must keep in memory. 7-Zip's default is 16 or 32 MiB, and
64 MiB its "ultra" until version 22; zstd's is 8 MiB at level 19."""


def _zstd() -> ModuleType | None:
    """Zstandard: of Python 3.14, or its backport, which the extra `archives` brings."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


zstd = _zstd()

BROKEN_ARCHIVE: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, ValueError, RuntimeError, NotImplementedError),
    *([zstd.ZstdError] if zstd else []),
)
"""What zipfile, tarfile and their decompressors raise; bz2 raises OSError and ValueError."""


def name_of(member: str) -> str:
    """A member as messages call it."""
    return f"archive member {member!r}"


def member_error(error: Exception, member: str, archive: Path) -> CorruptImage | UnsupportedFormat:
    """The error of a page whose member cannot be taken out of its archive."""
    where = f"{member!r} in {archive}"
    if isinstance(error, NotImplementedError):  # zipfile: deflate64, PPMd, strong encryption, a newer version
        return UnsupportedFormat(f"{where} is compressed in a way not read here ({error}); unpack it with 7z x")
    if isinstance(error, RuntimeError) and "encrypted" in str(error):
        return UnsupportedFormat(f"{where} is locked by a password; unpack the archive with it first")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CorruptImage(f"{where} is damaged or cut off ({reason})")
