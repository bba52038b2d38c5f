"""`results.jsonl` in other programs' formats, pages in their order. Every writer streams: memory is 8 bytes a page.

- icdar: a folder of text files, a line `x1,y1,x2,y2,x3,y3,x4,y4` a box (ICDAR 2015, task 4.1), clockwise from top-left
- coco: one JSON file, https://cocodataset.org/#format-data, one category `text`, with `score`
- labelstudio: tasks with predictions to import, https://labelstud.io/guide/predictions, and the labelling setup
- pagexml: a folder of PAGE 2019-07-15 files, https://github.com/PRImA-Research-Lab/PAGE-XML
- csv: a row a box; pages without boxes and failed ones have one row too
- txt, hocr, alto, pdf, crops, yolo-obb: folders, see `producer.output.documents`

Of a page that has several records the last one counts.

Where boxes have polygons, icdar, coco, labelstudio and pagexml have these; csv and yolo-obb have four corners always.
Failed pages are in the CSV only: the other formats have no field for them.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from msgspec import structs

from detector.atomic import atomic_write
from detector.errors import printable_json
from producer.errors import ProducerError
from producer.job.manifest import ManifestIndex
from producer.job.page_order import PageOrder
from producer.new_folder import new_folder
from producer.no_links import hold_out
from producer.output import documents
from producer.output.naming import NAMES, csv_text, names_table, repeated, write_new
from producer.output.overlays import PageImages
from producer.output.pagexml import page_xml
from producer.picture_list import picture_list
from worker.messages import ImageRecord

FORMATS = ("icdar", "coco", "labelstudio", "pagexml", "csv", *documents.FORMATS)
_IN_OUT = {
    "icdar": "export-icdar",
    "coco": "export-coco.json",
    "labelstudio": "export-labelstudio.json",
    "pagexml": "export-pagexml",
    "csv": "export.csv",
    **{name: f"export-{name}" for name in documents.FORMATS},
}
LABEL_CONFIG = """<View>
  <Image name="image" value="$image"/>
  <PolygonLabels name="label" toName="image"><Label value="Text" background="#ff2d55"/></PolygonLabels>
</View>
"""


class UnknownFormatError(ProducerError):
    """No such format; the message lists those there are."""


def export_results(
    out: Path,
    format_name: str,
    destination: Path | None = None,
    tell: documents.Tell = lambda line: None,
    *,
    page_images: bool = False,
    hide: str = "",
    roots: tuple[Path, ...] = (),
) -> Path:
    """Converts a job's results.

    Args:
        out: the output folder with `results.jsonl`, and `manifest.jsonl` if there is one.
        format_name: one of `FORMATS`.
        destination: file or folder to write; default: a name inside `out`, replaced if it is there.
        tell: is given a line about each document that could not be written.
        page_images: also write the pages of PDFs and TIFFs as JPEGs into `out/page-images`, and name these; a byte of
            memory more for each.
        hide: a folder, with `/` at its end: files below it are named relative to it, also in reasons of failures.
        roots: where pictures that are opened again must lie; default: below the job's sources.

    Returns:
        The file or folder written. It appears when it is complete.

    Raises:
        UnknownFormatError: no such format.
        FileExistsError: a `destination` folder is there and not empty, or where a file is to be written.
        FileNotFoundError: there is no results.jsonl.
    """
    if format_name not in FORMATS:
        raise UnknownFormatError(f"no format {format_name!r}; there are {', '.join(FORMATS)}")
    in_folder = format_name in ("icdar", "pagexml", *documents.FORMATS)
    with ExitStack() as stack:
        writes = destination is None or page_images
        place = stack.enter_context(hold_out(out, only_read=not writes)).path
        target = place / _IN_OUT[format_name] if destination is None else _named(destination, folder=in_folder)
        order = stack.enter_context(PageOrder(place / "results.jsonl"))
        if order.damaged:
            lines = "1 line" if order.damaged == 1 else f"{order.damaged:,} lines"
            tell(
                f"{lines} of {out / 'results.jsonl'} could not be read, "
                f"the first is line {order.first_damaged}: left out; "
                "`ocr-producer resume` does these pages again once the lines are removed"
            )
        listed = stack.enter_context(picture_list(place)) if (place / "manifest.jsonl").is_file() else None
        manifest, known, may_fetch = listed or (None, None, False)
        pictures_in = roots or known
        pictures = PageImages(place, pictures_in, may_fetch=may_fetch) if page_images and manifest is not None else None
        source = _Source(order, manifest, pictures, hide)
        if pictures is not None and manifest is not None:
            pictures.write(source.ok(), manifest, tell)
        if format_name in documents.FORMATS:
            with new_folder(target, replace=destination is None, mark=NAMES) as part:
                documents.write_documents(order, manifest, format_name, part, tell, pictures_in)
        elif in_folder:
            ending, render = (".txt", icdar_text) if format_name == "icdar" else (".xml", page_xml)
            _write_folder(source, target, ending, render, replace=destination is None)
        else:
            writer = {"coco": _write_coco, "labelstudio": _write_labelstudio, "csv": _write_csv}[format_name]
            target.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(target) as part, part.open("w", encoding="utf-8", newline="") as stream:
                writer(source, stream)
            if format_name == "labelstudio":
                with atomic_write(target.with_name(target.stem + "-config.xml")) as part:
                    part.write_text(LABEL_CONFIG, encoding="utf-8")
    return destination or out / _IN_OUT[format_name]


def _named(destination: Path, *, folder: bool) -> Path:
    """The destination as an absolute path without `.` and `..`: unfinished files are written beside it.

    Raises:
        FileExistsError: it cannot be replaced by what is to be written.
    """
    path = Path(os.path.abspath(destination))  # noqa: PTH100  # Path.absolute keeps `..`; resolve would follow links
    # The current folder, or one above it, cannot be the target either: it is replaced when all is written.
    if Path.cwd().is_relative_to(path) or (path.is_dir() and not folder):
        raise FileExistsError(17, "is a folder; add a name for the export", str(destination))
    return path


class _Source:
    """A job's records, as often as a writer needs them, and the same ones each time."""

    def __init__(
        self, order: PageOrder, manifest: ManifestIndex | None, pictures: PageImages | None, hide: str
    ) -> None:
        self._order = order
        self._manifest = manifest
        self._pictures = pictures
        self._hide = hide

    def all(self) -> Iterator[ImageRecord]:
        for record in self._order.records(self._manifest.added if self._manifest else None):
            if self._hide and record.error is not None:
                error = structs.replace(record.error, message=record.error.message.replace(self._hide, ""))
                record = structs.replace(record, error=error)
            yield self._pictures.renamed(record) if self._pictures else record

    def ok(self) -> Iterator[ImageRecord]:
        return (record for record in self.all() if record.status == "ok")

    def is_paged(self, record: ImageRecord) -> bool:
        if self._pictures and self._pictures.path(record):
            return False
        if self._manifest is None:
            return record.page > 0 or record.image.lower().endswith((".pdf", ".tif", ".tiff"))
        return self._manifest.is_paged(record.index, record.image, record.page)

    def path(self, record: ImageRecord) -> str:
        """The page's file as an absolute path where it is one, else its image name; percent-encoded."""
        if self._pictures and (picture := self._pictures.path(record)):
            return quote(str(picture.absolute()))
        line = self._manifest.line(record.index) if self._manifest else None
        if line is None or not line.uri.startswith("file://"):
            return quote(record.image)
        return quote(unquote_to_bytes(urlsplit(line.uri).path).removeprefix(os.fsencode(self._hide)))


def _write_folder(
    source: _Source, target: Path, ending: str, render: Callable[[ImageRecord], str], *, replace: bool
) -> None:
    """One file a page, in sub folders like the images'. `names.csv` says which file is whose."""
    with new_folder(target, replace=replace, mark=NAMES) as part, names_table(part) as named:
        for record in source.ok():
            named(write_new(part, record, source.is_paged(record), ending, render(record)), record)


def icdar_text(record: ImageRecord) -> str:
    """The lines of one page; empty if it holds no text. Whole pixels, as the ICDAR evaluation reads them.

    A polygon has as many corners as it has, as in the files of Total-Text and CTW1500.
    """
    return "".join(
        ",".join(str(round(value)) for point in box.outline for value in point) + "\n" for box in record.boxes
    )


def _write_array(stream: IO[str], items: Iterator[dict[str, Any]]) -> None:
    """A JSON array, an item a line."""
    stream.write("[")
    for number, item in enumerate(items):
        stream.write((",\n" if number else "\n") + _json(item))
    stream.write("\n]")


def _json(item: dict[str, Any]) -> str:
    return printable_json(json.dumps(item, ensure_ascii=False, allow_nan=False))


def _write_coco(source: _Source, stream: IO[str]) -> None:
    stream.write('{"info": {"description": "text found by ocrfleet", "version": "1.0"}, "licenses": [],\n')
    stream.write('"categories": [{"id": 1, "name": "text", "supercategory": "text"}],\n"images": ')
    # Two passes over the records: COCO wants two arrays, and holding one back would mean holding all boxes.
    _write_array(stream, map(coco_image, source.ok()))
    stream.write(',\n"annotations": ')
    _write_array(stream, coco_annotations(source.ok()))
    stream.write("}\n")


def coco_image(record: ImageRecord) -> dict[str, Any]:
    """A COCO image. Ids begin at 1: some readers take 0 for none. `page` is our own addition."""
    return {
        "id": record.index + 1,
        "file_name": record.image,
        "width": record.width,
        "height": record.height,
        "page": record.page,
    }


def coco_annotations(records: Iterator[ImageRecord]) -> Iterator[dict[str, Any]]:
    """COCO annotations with polygon, area, bounding box and score."""
    number = 0
    for record in records:
        for box in record.boxes:
            number += 1
            xs, ys = [x for x, _ in box.outline], [y for _, y in box.outline]
            yield {
                "id": number,
                "image_id": record.index + 1,
                "category_id": 1,
                "segmentation": [[round(value, 2) for point in box.outline for value in point]],
                "area": round(polygon_area(box.outline), 2),
                "bbox": [round(v, 2) for v in (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))],
                "iscrowd": 0,
                "score": round(box.score, 4),
            }


def polygon_area(points: list[tuple[float, float]]) -> float:
    """Area of a simple polygon in square pixels (shoelace formula)."""
    following = points[1:] + points[:1]
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, following, strict=True))) / 2


def _write_labelstudio(source: _Source, stream: IO[str]) -> None:
    """A task a page. Label Studio serves local files below its document root by this address.

    A region at a time: all of a page at once, as dicts and as text, were 900 MB of a line of 16 MiB.
    """
    stream.write("[")
    for number, record in enumerate(source.ok()):
        address = f"/data/local-files/?d={source.path(record).lstrip('/')}"
        data = _json({"image": address, "name": record.image, "page": record.page})
        head = _json(_scored(record)).removesuffix("}")
        stream.write((",\n" if number else "\n") + f'{{"data": {data}, "predictions": [{head}, "result": [')
        for count, (region, points) in enumerate(_regions(record)):
            before, after = _json(region).split("[]")
            stream.write((", " if count else "") + before + "[")
            stream.writelines(f"{', ' if number else ''}[{x!r}, {y!r}]" for number, (x, y) in enumerate(points))
            stream.write("]" + after)
        stream.write("]}]}")
    stream.write("\n]\n")


def labelstudio_prediction(
    record: ImageRecord, *, from_name: str = "label", to_name: str = "image", label: str = "Text"
) -> dict[str, Any]:
    """A page's boxes as polygons, for the tag ``from_name`` over the picture ``to_name``."""
    result = []
    for region, points in _regions(record, from_name, to_name, label):
        region["value"]["points"] = list(points)
        result.append(region)
    return {**_scored(record), "result": result}


def _scored(record: ImageRecord) -> dict[str, Any]:
    return {
        "model_version": record.model.name if record.model else "ocrfleet",
        "score": round(sum(box.score for box in record.boxes) / len(record.boxes), 4) if record.boxes else 0.0,
    }


def _regions(
    record: ImageRecord, from_name: str = "label", to_name: str = "image", label: str = "Text"
) -> Iterator[tuple[dict[str, Any], Iterator[list[float]]]]:
    """Each box, with an empty list for its points, and these: percent of the page's width and height."""
    width, height = max(1, record.width), max(1, record.height)  # a forged record may say 0
    for number, box in enumerate(record.boxes):
        points = ([round(x * 100 / width, 4), round(y * 100 / height, 4)] for x, y in box.outline)
        region = {
            "id": f"{record.index}-{number}",
            "type": "polygonlabels",
            "from_name": from_name,
            "to_name": to_name,
            "original_width": record.width,
            "original_height": record.height,
            "image_rotation": 0,
            "score": round(box.score, 4),
            "value": {"points": [], "closed": True, "polygonlabels": [label]},
        }
        yield region, points


_CORNERS = tuple(f"{axis}{corner}" for corner in range(1, 5) for axis in "xy")
CSV_COLUMNS = ("image", "page", "status", "width", "height", "box", "score", *_CORNERS)


def _write_csv(source: _Source, stream: IO[str]) -> None:
    table = csv.writer(stream)
    table.writerow((*CSV_COLUMNS, "error"))
    for record in source.all():
        page = (record.page, record.status, record.width, record.height)
        name, again = csv_text(record.image), csv_text(repeated(record.image))
        error = csv_text(f"{record.error.type}: {record.error.message}") if record.error else ""
        if not record.boxes:
            table.writerow((name, *page, *("",) * (len(CSV_COLUMNS) - len(page) - 1), error))
        for number, box in enumerate(record.boxes):
            corners = (round(value, 2) for point in box.points for value in point)
            # A page with boxes has no error, but a forged one: its first row alone says it.
            ends = ("" if number else error,)
            table.writerow((again if number else name, *page, number, round(box.score, 4), *corners, *ends))
