"""Image names, which may hold anything, made safe for file names of our own."""

import csv
import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate, chain, count
from pathlib import Path, PurePosixPath

from detector.errors import CONTROL, printable
from detector.images.suffixes import IMAGE_SUFFIXES
from producer.held_folder import mode_below
from worker.messages import ImageRecord

PAGE_OF_PDF = ".pdf"
NAME_BYTES = 180  # below the 255 of every common file system, with room for endings
MOST_FOLDERS, FOLDERS_BYTES = 32, 1024
"""Folders in each other, and their names together: a path may have 4,096 bytes, and a zip 1,800 folders in one name."""
FILE_ENDINGS = IMAGE_SUFFIXES | {".txt", ".xml", ".hocr", ".pdf", ".html", ".csv", ".json", ".yaml"}
"""Of the files that are made: a folder of such a name would be in a file's way, `a.jpg/b.jpg` in that of `a.jpg`."""
NAMES = "names.csv"
REPEATED_BYTES = 4096
"""Of a name that a table says again and again: the longest path there is. 8 MB in 170,000 rows were 1.4 TB."""
_FORMULA = re.compile('(^|[;\\t\\r\\n]"*)(?=[=+\\-@\\t\\r＝＋－＠])')
_UNSAFE = re.compile(rf'{CONTROL.pattern[:-1]}\\:*?"<>|]')
_OBEYED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def page_label(image: str, page: int) -> str:
    """The name people read: with the page, from 1, where it says something."""
    paged = page > 0 or image.lower().endswith(PAGE_OF_PDF)
    return f"{printable(image)} page {page + 1}" if paged else printable(image)


def safe_name(image: str, page: int, *, paged: bool, suffix: bool = False) -> PurePosixPath:
    """A relative path for something made from one page: below its folder always, whatever the image is called.

    Args:
        image: the record's image name.
        page: 0-based page.
        paged: append `_p0001` (from 1).
        suffix: keep the image's own ending.
    """
    parts = [shortened(_UNSAFE.sub("_", part)) for part in image.split("/") if part not in ("", ".", "..")] or ["_"]
    stem, ending = _split(parts.pop())
    name = stem + (ending if suffix else "") + (f"_p{page + 1:04d}" if paged else "")
    return PurePosixPath(*_folders(parts), name)


def _folders(parts: Sequence[str]) -> list[str]:
    parts = [
        f"{part}~{_digest(part)}" if PurePosixPath(part).suffix.lower() in FILE_ENDINGS else part for part in parts
    ]
    together = accumulate(len(part.encode()) + 1 for part in parts)
    kept = sum(taken <= FOLDERS_BYTES for taken, _ in zip(together, range(MOST_FOLDERS), strict=False))
    return parts if kept == len(parts) else [*parts[:kept], f"~{_digest('/'.join(parts[kept:]))}"]


def csv_text(text: str) -> str:
    r"""A cell that a spreadsheet shows and does not compute: a file may be called ``=HYPERLINK("http://...").jpg``.

    What a terminal obeys is written out (``\x1b``); other names are as they are, for whoever looks them up.

    An apostrophe in front is what Excel and LibreOffice take for "this is text" (OWASP, "CSV Injection"). Where they
    separate by semicolons, as most of Europe does, or by tabs too, a cell begins behind each of these.
    """
    return _FORMULA.sub(r"\1'", _OBEYED.sub(lambda match: printable(match[0]), text))


@contextmanager
def names_table(folder: Path) -> Iterator[Callable[[PurePosixPath | str, ImageRecord], None]]:
    """`names.csv` in a folder, which says which file is whose: what is yielded adds a file below the folder."""
    with (folder / NAMES).open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("file", "image", "page", "index"))
        before, again = -1, ""

        def add(file: PurePosixPath | str, record: ImageRecord) -> None:
            nonlocal before, again
            image = again if record.index == before else csv_text(record.image)
            table.writerow((csv_text(str(file)), image, record.page, record.index))
            if record.index != before:
                before, again = record.index, csv_text(repeated(record.image))

        yield add


def folded(name: str) -> str:
    """Of two names with different values no file system makes one file, be it blind to case or to how é is composed."""
    return unicodedata.normalize("NFC", name.upper().casefold())


def tells_case(folder: Path) -> bool:
    """Whether `A` and `a` are two files in a folder. Not on SMB, exFAT, NTFS, most Macs, ext4 with casefold.

    Raises:
        OSError: nothing can be written there.
    """
    with tempfile.NamedTemporaryFile(prefix=".case-", dir=folder) as probe:
        path = Path(probe.name)
        return not os.path.lexists(path.with_name(path.name.upper()))


def new_file(folder: Path, record: ImageRecord, paged: bool, ending: str) -> PurePosixPath:
    """Makes an empty file for a page; never another page's, whatever they are called and in whatever order they come.

    It is `a.txt` for `a.jpg`; if `a.png` took that name, `a.jpg.txt`; then `a.jpg_7.txt`, with the index; and since a
    picture may be called so, too, `a.jpg_7_2.txt` and so on.

    Args:
        folder: where to.
        record: of the page.
        paged: its file has several, and this is one of them.
        ending: of the new file.

    Returns:
        The new file's name below the folder.
    """
    short = safe_name(record.image, record.page, paged=paged)
    full = safe_name(record.image, record.page, paged=paged, suffix=True)
    for above in reversed(short.parents[:-1]):
        (folder / above).mkdir(mode_below(), exist_ok=True)
    numbered = f"{full.name}_{record.index}"
    for name in chain((short.name, full.name, numbered), (f"{numbered}_{more}" for more in count(2))):
        file = short.with_name(name + ending)
        with suppress(FileExistsError):
            (folder / file).open("x").close()
            break
    return file


def write_new(folder: Path, record: ImageRecord, paged: bool, ending: str, text: str) -> PurePosixPath:
    """Writes a text for a page into a `new_file`. Returns its name below the folder."""
    file = new_file(folder, record, paged, ending)
    (folder / file).write_text(text, encoding="utf-8")
    return file


def _split(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    # "..x" has the stem ".", which is a folder; only a forged record is called so.
    return path.stem if path.stem != "." else "_", path.suffix


def shortened(part: str) -> str:
    """The name, or another one of at most `NAME_BYTES` that only this name has."""
    data = part.encode()
    if len(data) <= NAME_BYTES:
        return part
    ending = _split(part)[1][:16]
    return data[: NAME_BYTES - 40].decode(errors="ignore") + "~" + _digest(part) + ending


def repeated(image: str) -> str:
    """The name as a page's second row has it, and each one after that: one above `REPEATED_BYTES` is `shortened`."""
    return image if len(image.encode()) <= REPEATED_BYTES else shortened(image)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
