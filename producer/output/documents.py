"""Formats that hold whole documents, pages in their order: text, hOCR, searchable PDF, and folders for training.

- txt: a text file a document; a form feed between pages, as pdftotext has it, and so before page n there are n
- hocr: an hOCR file a document
- alto: an ALTO 4 file a page
- pdf: the document itself with an invisible text layer; needs ocrfleet[pdf]
- crops: `producer.output.crops`
- yolo-obb: a label file a page for Ultralytics' oriented boxes, https://docs.ultralytics.com/datasets/obb/

In each folder `names.csv` says which file is whose; of a document, its first page there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

from detector.atomic import atomic_write
from detector.errors import ImageError
from producer.bounds import MOST_PAGES_OF_A_FILE
from producer.detector_process.originals import originals
from producer.errors import NothingToDoError
from producer.held_folder import as_named
from producer.job.manifest import ManifestError, ManifestIndex
from producer.job.page_order import PageOrder
from producer.output.alto import alto_xml
from producer.output.crops import write_crops
from producer.output.hocr import hocr
from producer.output.layout import is_read, page_text
from producer.output.naming import names_table, new_file, safe_name
from producer.output.searchable_pdf import PageNotInPdfError, PdfWriter, check_library
from worker.messages import ImageRecord

NEED_TEXT = ("txt", "hocr", "alto", "pdf")
NEED_IMAGES = ("pdf", "crops")
FORMATS = (*NEED_TEXT, "crops", "yolo-obb")

Tell = Callable[[str], None]


def write_documents(
    order: PageOrder,
    manifest: ManifestIndex | None,
    format_name: str,
    folder: Path,
    tell: Tell,
    roots: tuple[Path, ...] | None = (),
) -> None:
    """Writes a format into an empty folder.

    Args:
        order: the job's records.
        manifest: of the job; None if it has none.
        format_name: one of `FORMATS`.
        folder: to write into.
        tell: is given a line about each document that could not be written.
        roots: where pictures that are opened again must lie; empty: anywhere.

    Raises:
        NothingToDoError: the pages were not read, or it is not known where they are.
        NoPdfLibraryError: pdf needs a library that is not installed.
    """
    if format_name in NEED_TEXT and not all(map(is_read, order.records())):
        raise NothingToDoError(f"{order.path}: was not read, only boxes are in it; run the job with --read")
    if format_name in NEED_IMAGES and manifest is None:
        raise NothingToDoError(f"{order.path}: no manifest.jsonl beside it says where the images are")
    if format_name == "pdf":
        check_library()
    added = manifest.added if manifest else None
    if format_name == "crops":
        writer = _Writer(manifest, folder, tell)
        write_crops(_fine(order.records(added)), writer.uri, writer.page_name, folder, writer.failed, roots)
        return
    with names_table(folder) as named:
        writer = _Writer(manifest, folder, tell, named)
        writer.may_lack = MOST_PAGES_OF_A_FILE + (manifest.count if manifest else 0)
        documents = order.documents(partial(_told_uri, writer), added)
        if format_name == "pdf":
            _write_pdfs(writer, documents, roots)
            return
        for pages in documents:
            first = next(pages)
            _WRITERS[format_name](writer, first, chain([first], pages))
    if format_name == "yolo-obb":
        (folder / "data.yaml").write_text("names:\n  0: text\n", encoding="utf-8")


def _fine(records: Iterable[ImageRecord]) -> Iterator[ImageRecord]:
    return (record for record in records if record.status == "ok")


class _Writer:
    """Where things go, and come from.

    Attributes:
        may_lack: pages without a record that documents may still be given. Those of an honest job are in its manifest;
            a record may say any page, and a line of 200 bytes that says the 100,000th was 10 MB of hOCR.
    """

    may_lack = 0

    def __init__(
        self,
        manifest: ManifestIndex | None,
        folder: Path,
        tell: Tell,
        named: Callable[[PurePosixPath, ImageRecord], None] = lambda file, record: None,
    ) -> None:
        self._manifest, self._folder, self._tell, self._named = manifest, folder, tell, named

    def uri(self, record: ImageRecord) -> str:
        """Where a page's file is; empty if the manifest does not say."""
        line = self._manifest.line(record.index) if self._manifest else None
        return line.uri if line else ""

    def page_name(self, record: ImageRecord) -> PurePosixPath:
        """A page's name without ending."""
        return safe_name(record.image, record.page, paged=self._is_paged(record))

    def _is_paged(self, record: ImageRecord) -> bool:
        if self._manifest is None:
            return record.page > 0
        return self._manifest.is_paged(record.index, record.image, record.page)

    def failed(self, record: ImageRecord, reason: str) -> None:
        """Says what could not be written."""
        self._tell(f"left out: {record.image}: {as_named(reason)}")

    def lacks(self, record: ImageRecord, missing: int) -> bool:
        """Whether so many pages that have no record are written as empty ones of a document, which is said if not."""
        if missing > self.may_lack:
            self._tell(
                f"pages left out: {record.image}: {missing:,} that have no record, more than the manifest makes likely"
            )
            return False
        self.may_lack -= missing
        return True

    def document(self, record: ImageRecord, ending: str) -> Path:
        """A new file for a document."""
        return self._folder / new_file(self._folder, record, False, ending)

    def page(self, record: ImageRecord, ending: str) -> Path:
        """A new file for a page."""
        return self._folder / new_file(self._folder, record, self._is_paged(record), ending)

    def done(self, path: Path, record: ImageRecord) -> None:
        """Notes whose a file is, once it is whole."""
        self._named(PurePosixPath(path.relative_to(self._folder)), record)


def _told_uri(writer: _Writer, record: ImageRecord) -> str:
    """Where a page's file is; empty also where the manifest is damaged there, which many formats do not need."""
    try:
        return writer.uri(record)
    except ManifestError:
        return ""


def _write_txt(writer: _Writer, first: ImageRecord, pages: Iterable[ImageRecord]) -> None:
    path, at = writer.document(first, ".txt"), 0
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        for number, record in enumerate(pages):
            # A page that failed, or has no record, is empty, so that form feeds count pages. A record may say any page.
            after = at + bool(number)
            place = max(after, min(record.page, MOST_PAGES_OF_A_FILE))
            filled = place > after and writer.lacks(first, place - after)
            stream.write("\f" * (place - at if filled else bool(number)) + page_text(record))
            at = place
    writer.done(path, first)


def _write_hocr(writer: _Writer, first: ImageRecord, pages: Iterable[ImageRecord]) -> None:
    path = writer.document(first, ".hocr")
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(hocr(pages, partial(writer.lacks, first)))
    writer.done(path, first)


def _write_alto(writer: _Writer, first: ImageRecord, pages: Iterable[ImageRecord]) -> None:
    for record in _fine(pages):
        path = writer.page(record, ".xml")
        path.write_text(alto_xml(record), encoding="utf-8")
        writer.done(path, record)


def _write_yolo(writer: _Writer, first: ImageRecord, pages: Iterable[ImageRecord]) -> None:
    for record in _fine(pages):
        path = writer.page(record, ".txt")
        path.write_text("".join(_yolo_lines(record)), encoding="utf-8")
        writer.done(path, record)


def _yolo_lines(record: ImageRecord) -> Iterator[str]:
    """``class x1 y1 x2 y2 x3 y3 x4 y4``, shares of the page's width and height."""
    for box in record.boxes:
        shares = ((x / max(1, record.width), y / max(1, record.height)) for x, y in box.points)
        yield " ".join(["0", *(f"{min(max(value, 0), 1):.6f}" for point in shares for value in point)]) + "\n"


def _write_pdfs(writer: _Writer, documents: Iterable[Iterable[ImageRecord]], roots: tuple[Path, ...] | None) -> None:
    with PdfWriter() as process, closing(originals(roots, process.spool)) as storage:
        for pages in documents:
            pages = iter(pages)
            first = next(pages)
            target = writer.document(first, ".pdf")
            try:
                with storage.open(writer.uri(first)) as source, atomic_write(target) as unfinished:
                    if error := process.write(source, chain([first], _fine(pages)), unfinished):
                        raise PageNotInPdfError(error)
                writer.done(target, first)
            except (ImageError, PageNotInPdfError, OSError) as error:
                target.unlink(missing_ok=True)
                writer.failed(first, str(error))


_WRITERS: dict[str, Callable[[_Writer, ImageRecord, Iterable[ImageRecord]], None]] = {
    "txt": _write_txt,
    "hocr": _write_hocr,
    "alto": _write_alto,
    "yolo-obb": _write_yolo,
}
