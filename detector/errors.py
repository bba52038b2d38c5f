"""Everything that the detector raises on purpose: one base, and for every class the exit code of a command."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from detector.exit_codes import ExitCode

if TYPE_CHECKING:
    from detector.record import ErrorType


class DetectorError(Exception):
    """Base of what is wrong with the input, the settings or the machine. ``str(error)`` is one line with the remedy.

    Any other exception out of `detector` is a fault of the program (or MemoryError, OSError, ModuleNotFoundError).

    Attributes:
        exit_code: of a command of `ocr-detector` that ends with this error.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


class ImageError(DetectorError):
    """One image or page is bad; others are not affected.

    Attributes:
        type: the word for programs, as in a failed record's ``error.type``.
    """

    exit_code = ExitCode.NOTHING
    type: ClassVar[ErrorType]


class NotFound(ImageError):
    """The file, or the asked page of it, is not there or may not be read."""

    type = "NotFound"


class ReadFailed(NotFound):
    """Reading the file met an error of the disk or the network, whatever the picture is like: try it again.

    Attributes:
        errno: of the system.
        strerror: what it says about it.
    """

    def __init__(self, name: str, error: OSError) -> None:
        """Name the file as people know it."""
        self.errno = error.errno or errno.EIO
        self.strerror = error.strerror or str(error)
        super().__init__(f"{name}: cannot be read: {self.strerror}")


class CorruptImage(ImageError):
    """The file claims to be an image, but its content is damaged or cut off."""

    type = "CorruptImage"


class UnsupportedFormat(ImageError):
    """The content is nothing this program reads (or is locked, or a PDF's text whose fonts are not there)."""

    type = "UnsupportedFormat"


class TooLarge(ImageError):
    """The picture needs more pixels or memory than allowed; refused before decoding."""

    type = "TooLarge"


class NetworkFailed(ImageError):
    """What the network said of this page is no map: not finite, or of another shape. Of others it may be one."""

    type = "Internal"


class ModelError(DetectorError):
    """A model that is not there, is damaged, or does not keep the contract. The caller's fault, never one image's."""


class ProfileError(DetectorError):
    """There is no profile of this name."""


# C0 and C1 controls (ESC and CSI among them), line and paragraph separators, what turns text around, lone surrogates.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""A character that a terminal obeys, or that has a line look like another."""


# A byte of a name that is no UTF-8 is one of U+DC80..DCFF in it (os.fsdecode), which JSON cannot carry.
_SURROGATE = re.compile("[\ud800-\udfff]")


def as_utf8(text: str) -> str:
    r"""The text, with what no UTF-8 can hold written out: a byte of a path as ``\xe9``, half a pair as ``\ud83d``."""
    return _SURROGATE.sub(_written_out, text)


def _written_out(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code & 0xFF:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def utf8_throughout(answer: Any) -> Any:
    """What a program answers, with each text in its lists and dictionaries `as_utf8`."""
    if isinstance(answer, str):
        return as_utf8(answer)
    if isinstance(answer, dict):
        return {as_utf8(name): utf8_throughout(value) for name, value in answer.items()}
    return [utf8_throughout(one) for one in answer] if isinstance(answer, list | tuple) else answer


def json_line(answer: dict[str, Any]) -> str:
    """The line that a program of the detector answers: ASCII, whatever the locale, and JSON that others read.

    Of a name that is no UTF-8 `json.dumps` writes half a pair of surrogates, which who asked takes for no answer.
    """
    return json.dumps(utf8_throughout(answer)) + "\n"


def printable(text: str) -> str:
    r"""One line without control characters: a newline is shown as `\x0a`, so a stranger's name fools no terminal."""
    return CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def printable_lines(text: str) -> str:
    """Several lines, each `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(line: str) -> str:
    r"""A line of JSON that means the same, and of which a terminal obeys nothing: such a character is ``\u009b``."""
    return CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def show(path: str | os.PathLike[str]) -> str:
    r"""The path as one printable line: ``b'\xe9.jpg'`` becomes ``\xe9.jpg``, a newline ``\n``."""
    text = os.fsencode(Path(path)).decode("utf-8", "backslashreplace")
    return printable(text.replace("\n", r"\n"))


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a file is there, or a link leads to one; of a stranger's path, also in his folder.

    `Path.is_file` raises before Python 3.14 where a link leads to a name of 300 characters, or into a folder that may
    not be read: one of them ended the work on all others.
    """
    return os.path.isfile(path)  # noqa: PTH113


def first_line(error: BaseException, longest: int = 300) -> str:
    """The first line with text of an exception's message, or its class's name if it has none.

    Args:
        error: of any library.
        longest: cut off after this many characters.
    """
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:longest]


# As Python, OpenCV (whose code for it is -4), ONNX Runtime, libvips, torch and C++ call it.
_OUT_OF_MEMORY = (
    *("bad alloc", "bad_alloc", "insufficient memory", "out of memory", "failed to allocate memory", "(-4:"),
    "can't allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever library, means that memory ran out."""
    if isinstance(error, DetectorError):  # its text holds a user's file name
        return False
    text = str(error).lower().replace("failed to allocate memory for to read tiff directory (0 elements", "")  # damage
    return isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


def is_out_of_processes(error: BaseException) -> bool:
    """Whether an exception means that the system starts no further process or thread (`ulimit -u`, pids.max)."""
    if isinstance(error, OSError):
        return error.errno == errno.EAGAIN and error.filename is None
    return isinstance(error, RuntimeError) and str(error).startswith("can't start new thread")


def read_json(text: str | bytes) -> Any:
    """What JSON of somebody else says. Its only error is a ValueError, also for what is nested deeper than Python goes.

    `json.loads` raises RecursionError for a thousand brackets in each other, of which no caller thought.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_bounded(file: BinaryIO, most: int) -> bytes:
    """All of a small file, perhaps of a stranger: 6 GB of zeros are 6 KB in an archive.

    Args:
        file: open, at its beginning.
        most: bytes that it may have.

    Raises:
        OSError: it cannot be read, or is larger.
    """
    content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 20} MB", str(file.name))
    return content


def sha256_of(path: Path) -> str:
    """Of a file of any size, which is not held for it: hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: Path, most: int) -> str:
    """The text of a small file: of a card, of a picture's ground truth.

    Args:
        path: a UTF-8 file.
        most: as in `read_bounded`.

    Raises:
        OSError: likewise.
        UnicodeDecodeError: it is not UTF-8.
    """
    with path.open("rb") as file:
        return read_bounded(file, most).decode("utf-8")
