"""A folder of line images with their labels: what people feed their own recogniser, or a labelling tool, with.

`images/…jpg` for every box, cut out and upright; `rec_gt.txt` (PaddleOCR: path, tab, text) and `gt.txt` (ICDAR 2015
task 4.3: `name.jpg, "text"`). Boxes that were not read have an empty text. `names.csv` says of which page each is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import msgspec

from detector.errors import ImageError
from detector.images.regular_file import seen_as
from producer.detector_process.line_process import LineProcess
from producer.detector_process.originals import originals
from producer.held_folder import mode_below
from producer.output.layout import boxes_in_order, is_read, plain
from producer.output.naming import names_table, shortened
from worker.messages import BoxRecord, ImageRecord

CROP_TIMEOUT_S = 120.0


class _Answer(msgspec.Struct):
    ok: bool
    error: str = ""


class Cutter:
    """Cuts pages up in a process of the detector: the producer itself never decodes. A context manager."""

    def __init__(self, roots: tuple[Path, ...] | None = ()) -> None:
        """Start nothing yet; ``roots`` as for `originals`."""
        self._child = LineProcess("detector.reading.crop_process", CROP_TIMEOUT_S)
        self._spool = tempfile.TemporaryDirectory(prefix="ocrfleet-crops-", ignore_cleanup_errors=True)
        self._storage = originals(roots, Path(self._spool.name))

    def __enter__(self) -> Cutter:
        """Nothing runs before the first page."""
        return self

    def __exit__(self, *details: object) -> None:
        """End the process and remove temporary files."""
        self._child.stop(kill=details[0] is not None)
        self._storage.close()
        self._spool.cleanup()

    def cut(self, uri: str, page: int, boxes: list[BoxRecord], folder: Path, names: list[str]) -> str:
        """Writes a page's boxes as files of these names. Returns what went wrong, or nothing."""
        try:
            with self._storage.open(uri) as path:
                job = {
                    "path": quote(os.fsencode(path)),
                    "page": page,
                    "boxes": [box.points for box in boxes],
                    "out": quote(os.fsencode(folder)),
                    "names": names,
                    "seen": seen_as(path),
                }
                line = self._child.ask(msgspec.json.encode(job))
        except (ImageError, OSError) as error:
            return str(error)
        if not line:
            return "the cutting process was lost on this page, or took too long"
        answer = msgspec.json.decode(line, type=_Answer)
        return "" if answer.ok else answer.error


def write_crops(
    records: Iterable[ImageRecord],
    uri_of: Callable[[ImageRecord], str],
    name_of: Callable[[ImageRecord], PurePosixPath],
    folder: Path,
    failed: Callable[[ImageRecord, str], None],
    roots: tuple[Path, ...] | None = (),
) -> None:
    """Writes the folder.

    Args:
        records: the pages, in their order.
        uri_of: where a page's file is.
        name_of: a page's name, without ending.
        folder: exists, and is empty.
        failed: told about each page that could not be cut, and why.
        roots: where the pages' files must lie; empty: anywhere.
    """
    (folder / "images").mkdir(mode_below())
    with (
        Cutter(roots) as cutter,
        (folder / "rec_gt.txt").open("w", encoding="utf-8") as paddle,
        (folder / "gt.txt").open("w", encoding="utf-8") as icdar,
        names_table(folder) as named,
    ):
        for record in records:
            # Where there is no text, nothing is gained by an order.
            boxes = boxes_in_order(record) if is_read(record) else record.boxes
            if not boxes:
                continue
            page = f"{shortened(str(name_of(record)).replace('/', '__'))}_{record.index}"
            names = [f"{page}_{number:04d}.jpg" for number in range(len(boxes))]
            if problem := cutter.cut(uri_of(record), record.page, boxes, folder / "images", names):
                failed(record, problem)
                continue
            for name, box in zip(names, boxes, strict=True):
                text = _one_line(box.text or "")
                paddle.write(f"images/{name}\t{text}\n")
                quoted = text.replace("\\", "\\\\").replace('"', '\\"')
                icdar.write(f'{name}, "{quoted}"\n')
                named(f"images/{name}", record)


def _one_line(text: str) -> str:
    return " ".join(plain(text).split())
