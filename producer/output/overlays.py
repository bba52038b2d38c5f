"""Pages as JPEGs: `OUT/overlays`, all with their boxes, and `OUT/page-images`, those of PDFs and TIFFs as they are."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import overload

from msgspec.structs import replace

from detector.exit_codes import ExitCode
from detector.images.suffixes import IMAGE_SUFFIXES
from producer.detector_process.draw import OverlayProcess, can_draw
from producer.errors import ProducerError
from producer.growing.marks import Marks, mark_of
from producer.held_folder import HeldFolder, as_named, mode_below
from producer.job.manifest import ManifestIndex
from producer.job.page_order import PageOrder
from producer.job.results_file import PageMarks
from producer.no_links import hold_out, own_below, refuse_links
from producer.output.naming import folded, safe_name, tells_case
from producer.picture_list import picture_list
from worker.messages import ImageRecord

MAX_SIDE = 1600

FOLDER = "page-images"

WHOLE = 1 << 16
"""Longest side, pixels: page images are as large as their boxes' coordinates have them."""


@dataclass
class OverlayCount:
    """What was drawn.

    Attributes:
        written: JPEGs now in the folder.
        not_drawn: pages that were detected, but could not be drawn.
    """

    written: int = 0
    not_drawn: int = 0


class CannotDrawError(ProducerError):
    """This machine has no drawing libraries; the message says what to install."""

    exit_code = ExitCode.NOTHING


def overlay_name(
    image: str, page: int, index: int, *, paged: bool, cased: bool = True, again: bool = False
) -> PurePosixPath:
    """The name of a page's picture: another one for every page of a job, and the same one whenever it is drawn again.

    It follows from the page alone: a job may have a million names, too many to remember, and the files in the folder
    may be those of an earlier drawing. `a.jpg` stays, `a.png` becomes `a.png.jpg`. An image whose own name looks like
    such a result gets its index, so that the two differ: `a.png.jpg` becomes `a.png.jpg.7~.jpg`. So does an image
    whose name is changed because file systems do not allow it; and, on a disk where `A.jpg` is `a.jpg`, the former. A
    tar may hold a name twice: the second has its index, too.

    Args:
        image: the record's image name.
        page: 0-based page.
        index: of the record.
        paged: append `_p0001` (from 1).
        cased: `A` and `a` are two files where it is written.
        again: a page before it has the name that it would have.
    """
    name = safe_name(image, page, paged=paged, suffix=True)
    plain = safe_name(image, page, paged=False, suffix=True)
    ending = PurePosixPath(image).suffix
    if not again and str(plain) == image and ending.lower() in IMAGE_SUFFIXES and (cased or folded(image) == image):
        if ending != ".jpg":
            return name.with_name(f"{name.name}.jpg")
        if not paged and not _looks_made_by_us(plain.stem):
            return name
    return name.with_name(f"{name.name}.{index}~.jpg")


def _looks_made_by_us(stem: str) -> bool:
    suffix = PurePosixPath(stem).suffix.lower()
    return suffix.partition("_p")[0] in IMAGE_SUFFIXES or suffix.endswith("~")


def write_overlays(
    out: Path, *, progress: Callable[[int, int], None] = lambda written, not_drawn: None, max_side: int = MAX_SIDE
) -> OverlayCount:
    """Draws every page that was detected, one after the other. Memory: 16 bytes a page.

    `sub/a.png` becomes `overlays/sub/a.png.jpg`, page 2 of `b.pdf` becomes `overlays/b.pdf_p0002.jpg`; see
    :func:`overlay_name`.

    Args:
        out: a job's output folder with `results.jsonl` and `manifest.jsonl`.
        progress: told after each page how many are written and how many could not be drawn.
        max_side: longer side of the JPEGs at most, pixels.

    Raises:
        CannotDrawError: the drawing libraries are not installed.
        FileNotFoundError: no results or no manifest.
    """
    if not can_draw():
        raise CannotDrawError("no overlays: this machine lacks OpenCV; pip install 'ocrfleet[worker]' and run again")
    count = OverlayCount()
    with ExitStack() as stack:
        place = stack.enter_context(hold_out(out))
        folder = _made(stack, place, "overlays", make=False)
        order = stack.enter_context(PageOrder(place.path / "results.jsonl"))
        manifest, roots, may_fetch = stack.enter_context(picture_list(place.path))
        process = stack.enter_context(OverlayProcess(roots=roots, may_fetch=may_fetch))
        cased: bool | None = None
        names = Marks()
        for record in order.records():
            line = manifest.line(record.index)
            if record.status != "ok" or line is None:
                continue
            if folder is None:  # not before there is something to draw
                folder = _made(stack, place, "overlays")
            if cased is None:
                cased = tells_case(folder.path)
            paged = manifest.is_paged(record.index, record.image, record.page)
            named = partial(overlay_name, record.image, record.page, record.index, paged=paged, cased=cased)
            mark = mark_of(os.fsencode(named()))
            name = named(again=mark in names)
            names.add(mark)
            with folder.made_below(name.parent) as beside:
                target = beside.path / name.name
                drawn = process.draw(line.uri, record.page, record.boxes, target, max_side=max_side)
            count.written += drawn.ok
            count.not_drawn += not drawn.ok
            progress(count.written, count.not_drawn)
    return count


@overload
def _made(stack: ExitStack, place: HeldFolder, name: str) -> HeldFolder: ...
@overload
def _made(stack: ExitStack, place: HeldFolder, name: str, *, make: bool) -> HeldFolder | None: ...
def _made(stack: ExitStack, place: HeldFolder, name: str, *, make: bool = True) -> HeldFolder | None:
    """A folder for pictures, held open until the stack ends, in which there is no link; None: it is not there."""
    try:
        folder = stack.enter_context(own_below(place, name, mode_below() if make else None))
    except FileNotFoundError:
        return None
    refuse_links(folder.path)
    return folder


class PageImages:
    """Pictures of the pages of PDFs and TIFFs, since annotation tools open no documents.

    Attributes:
        folder: where the pictures are.
    """

    def __init__(self, out: Path, roots: tuple[Path, ...] | None = (), *, may_fetch: bool = True) -> None:
        """Nothing is written yet; ``roots``: where the documents must lie; ``may_fetch``: addresses are asked for."""
        self.folder = Path(as_named(str(out / FOLDER)))
        self._place = out
        self._roots, self._may_fetch = roots, may_fetch
        self._drawn = PageMarks()  # which of a page's two names its picture has

    def write(self, records: Iterable[ImageRecord], manifest: ManifestIndex, tell: Callable[[str], None]) -> None:
        """Writes the pictures of pages in documents.

        Args:
            records: of pages that are fine.
            manifest: of the job.
            tell: is given a line about each that could not be written.

        Raises:
            CannotDrawError: the drawing libraries are not installed.
        """
        if not can_draw():
            raise CannotDrawError("no page images: this machine lacks OpenCV; pip install 'ocrfleet[worker]'")
        with (
            ExitStack() as stack,
            hold_out(self._place) as place,
            OverlayProcess(roots=self._roots, may_fetch=self._may_fetch) as process,
            closing(_Names()) as taken,
        ):
            folder = _made(stack, place, FOLDER, make=False)
            for record in records:
                line = manifest.line(record.index)
                if line is None or not manifest.is_paged(record.index, record.image, record.page):
                    continue
                # a.pdf beside a.tif, or A.pdf, which many disks take for the same
                mark = _PLAIN if taken.add(folded(str(_picture_name(record, _PLAIN)))) else _NUMBERED
                name = _picture_name(record, mark)
                folder = folder or _made(stack, place, FOLDER)
                with folder.made_below(name.parent) as beside:
                    drawn = process.draw(line.uri, record.page, [], beside.path / name.name, max_side=WHOLE)
                    if not drawn.ok:
                        tell(f"no page image: {record.image}, page {record.page + 1}: {as_named(drawn.error)}")
                    elif (drawn.width, drawn.height) != (record.width, record.height):
                        tell(f"no page image: {record.image}, page {record.page + 1}: has another size by now")
                        (beside.path / name.name).unlink()
                    else:
                        self._drawn[record.index] = mark

    def path(self, record: ImageRecord) -> Path | None:
        """The picture of a page, if it has one of its own; of its record as `renamed` gives it."""
        return self.folder / record.image if self._drawn[record.index] else None

    def renamed(self, record: ImageRecord) -> ImageRecord:
        """The record as if its picture had been the image."""
        mark = self._drawn[record.index]
        return replace(record, image=str(_picture_name(record, mark)), page=0) if mark else record


_PLAIN, _NUMBERED = 1, 2


def _picture_name(record: ImageRecord, mark: int) -> PurePosixPath:
    """`a_p0001.jpg`, or with the index `a_p0001_7.jpg`, which no page's plain name is."""
    name = safe_name(record.image, record.page, paged=True)
    return name.with_name(f"{name.name}_{record.index}.jpg" if mark == _NUMBERED else f"{name.name}.jpg")


class _Names:
    """Names that were taken, in a temporary file of SQLite's: in memory a million of them were 650 MB."""

    def __init__(self) -> None:
        import sqlite3  # which a Python may lack

        self._error = sqlite3.Error
        self._table = sqlite3.connect("", isolation_level=None)
        self._table.execute("pragma journal_mode = off")
        self._table.execute("create table names (digest blob primary key) without rowid")
        self.close = self._table.close

    def add(self, name: str) -> bool:
        """Whether nobody had the name; it is taken now.

        Raises:
            OSError: there is no room for it.
        """
        digest = hashlib.blake2b(name.encode(), digest_size=16).digest()
        try:
            return self._table.execute("insert or ignore into names values (?)", (digest,)).rowcount == 1
        except self._error as error:
            raise OSError(errno.ENOSPC, f"names of page images: {error}", tempfile.gettempdir()) from None
