"""What can be wrong with one image, as a user should read it: one line that names the file and the remedy."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar


class DetectorError(Exception):
    """Base of everything that is the input's fault, not the program's. ``str(error)`` is one clear line."""

    type: ClassVar[str] = "DetectorError"

    def __init_subclass__(cls) -> None:
        cls.type = cls.__name__


class NotFound(DetectorError):
    """The file, or the asked page of it, is not there or may not be read."""


class CorruptImage(DetectorError):
    """The file claims to be an image, but its content is damaged or cut off."""


class UnsupportedFormat(DetectorError):
    """The content is nothing this program reads (or is locked)."""


class TooLarge(DetectorError):
    """The picture needs more pixels or memory than allowed; refused before decoding."""


def show(path: str | os.PathLike[str]) -> str:
    r"""The path as one printable line: ``b'\xe9.jpg'`` becomes ``\xe9.jpg``, a newline ``\n``."""
    text = os.fsencode(Path(path)).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


class ModelError(Exception):
    """A model that is not there, is damaged, or does not keep the contract. The caller's fault, never one image's."""


# As Python, OpenCV (whose code for it is -4), ONNX Runtime, libvips and C++ call it.
_OUT_OF_MEMORY = ("bad alloc", "bad_alloc", "insufficient memory", "out of memory", "failed to allocate memory", "(-4:")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever library, means that memory ran out."""
    if isinstance(error, DetectorError):  # its text holds a user's file name
        return False
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)
