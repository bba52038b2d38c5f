"""Names that uploads get on our disk: inside their folder, never hidden, with an ending that fits their bytes."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from detector.images.sniff import sniff
from detector.images.suffixes import IMAGE_SUFFIXES
from producer.sources.archive import archive_kind
from producer.sources.passed_over import is_junk

MOST_PARTS = 8
MOST_FOLDERS = 100
"""That the names of one request make; each takes an inode and a block."""

LONGEST_PART = 120  # bytes; file systems take 255
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\\:*?"<>|\[\]]')
_ENDINGS = {"jpeg": ".jpg", "tiff": ".tif", "heif": ".heic"}  # others are called like their kind


def safe_upload_name(name: str) -> PurePosixPath:
    """The relative path for a file that a client calls so."""
    parts = []
    for part in name.replace("\\", "/").split("/"):
        clean = _UNSAFE.sub("_", part).strip().encode("utf-8", "replace")[-LONGEST_PART:].decode("utf-8", "ignore")
        if clean.strip("."):  # by a name that no scan passes over
            parts.append(f"_{clean}" if is_junk(clean) else re.sub(r"^\.", "_", clean))
    return PurePosixPath(*parts[-MOST_PARTS:]) if parts else PurePosixPath("upload")


def fitting_name(path: Path, name: PurePosixPath, *, archives: bool) -> PurePosixPath:
    """The name with an ending that says what its bytes are.

    Args:
        path: the uploaded bytes.
        name: see `safe_upload_name`.
        archives: whether a zip is welcome.

    Raises:
        detector.errors.ImageError: the bytes are nothing that can be read.
    """
    with path.open("rb") as stream:
        if archives and stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
            return name if archive_kind(name.name) == "zip" else name.with_name(f"{name.name}.zip")
        kind = sniff(stream, str(name))
    # `scan.jpg` that is a PNG keeps its name: workers look at the bytes, and so does who counts pages.
    if name.suffix.lower() in IMAGE_SUFFIXES:
        return name
    return name.with_name(name.name + _ENDINGS.get(kind, f".{kind}"))


def free_name(folder: Path, name: PurePosixPath, numbers: dict[PurePosixPath, int]) -> PurePosixPath:
    """The name, or with `-2`, `-3`... where it is taken.

    Args:
        folder: of the files.
        name: see `fitting_name`.
        numbers: the last one of each name there; written. A phone calls all its pictures the same.
    """
    number = numbers.get(name, 1)
    while (folder / (candidate := _numbered(name, number))).exists():
        number += 1
    numbers[name] = number
    return candidate


def _numbered(name: PurePosixPath, number: int) -> PurePosixPath:
    return name if number == 1 else name.with_name(f"{name.stem}-{number}{name.suffix}")
