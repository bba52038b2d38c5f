"""ICDAR-2015 style ground truth: one text file per image, one quadrilateral per line.

A data folder holds, for each split (``train``, ``val`` or ``test``)::

    train_list.txt      image names, one a line (or ``image gt`` pairs)
    train_images/       the images
    train_gts/          NAME.txt (or gt_NAME.txt, or NAME.jpg.txt) for image NAME.jpg

and each line of a ground-truth file is ``x1,y1,x2,y2,x3,y3,x4,y4,label``; the label ``###`` means "do not care".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from detector.errors import DetectorError, is_file, read_text
from detector.exit_codes import ExitCode

IGNORE_LABEL = "###"
MOST_TEXT_BYTES = 64 * 2**20
"""Of a list of images (a million names), or of one picture's ground truth."""
MOST_PIXELS = 1_000_000
"""Of a coordinate. JPEG and TIFF of scanners end at 65,535; from a hundred times as much on OpenCV draws nothing."""
SPLITS = ("train", "val", "test")


class AnnotationError(DetectorError):
    """A data folder or one of its files is not what it should be; the message names the file (and line)."""

    exit_code = ExitCode.NOTHING


@dataclass(frozen=True, slots=True)
class Region:
    """One annotated piece of text.

    Attributes:
        points: four (x, y) corners in image pixels, in the order of the file.
        label: the transcription as written in the file ('' if there is none).
        ignore: true for the label ``###``: neither a hit nor a miss.
    """

    points: tuple[tuple[float, float], ...]
    label: str
    ignore: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its ground-truth file."""

    image: Path
    annotation: Path

    def regions(self) -> list[Region]:
        """Reads the ground truth; raises AnnotationError naming file and line."""
        return read_annotations(self.annotation)


def parse_line(line: str) -> Region:
    """Parses ``x1,y1,...,x4,y4[,label]``; the label may itself hold commas.

    Raises:
        ValueError: saying what is wrong with the line (without file and line number).
    """
    fields = line.split(",", 8)
    if len(fields) < 8:
        raise ValueError(f"expected x1,y1,x2,y2,x3,y3,x4,y4,label but found {len(fields)} comma-separated fields")
    numbers = []
    for position, field in enumerate(fields[:8], start=1):
        try:
            number = float(field)
        except ValueError:
            raise ValueError(f"coordinate {position} is {field.strip()!r}, not a number") from None
        if not math.isfinite(number):
            raise ValueError(f"coordinate {position} is {field.strip()!r}, not a finite number")
        if abs(number) > MOST_PIXELS:
            raise ValueError(f"coordinate {position} is {number:g}, beyond {MOST_PIXELS:,} pixels")
        numbers.append(number)
    points = tuple((numbers[i], numbers[i + 1]) for i in range(0, 8, 2))
    if len(set(points)) < 3:
        raise ValueError("the four corners fall on fewer than three different points")
    label = fields[8].strip() if len(fields) == 9 else ""
    return Region(points, label, label == IGNORE_LABEL)


def parse_annotations(text: str, name: str) -> tuple[list[Region], list[str]]:
    """Parses a whole file's text.

    Args:
        text: the file's content; a byte-order mark and empty lines are skipped.
        name: the file's name, used in the problems.

    Returns:
        The regions of the good lines, and one ``name:line: what is wrong`` per bad line.
    """
    regions, problems = [], []
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            regions.append(parse_line(line))
        except ValueError as error:
            problems.append(f"{name}:{number}: {error}")
    return regions, problems


def _read_text(path: Path) -> str:
    try:
        return read_text(path, MOST_TEXT_BYTES)
    except UnicodeDecodeError:
        raise AnnotationError(f"{path}: not UTF-8 text; convert it, for example with iconv") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror})") from None


def read_annotations(path: Path) -> list[Region]:
    """Reads one ground-truth file.

    Raises:
        AnnotationError: ``file:line: what is wrong`` of the first bad line, or why the file cannot be read.
    """
    regions, problems = parse_annotations(_read_text(path), str(path))
    if problems:
        raise AnnotationError(problems[0])
    return regions


def annotation_path(folder: Path, image_name: str) -> Path | None:
    """The ground-truth file of an image in a gts folder: NAME.txt, gt_NAME.txt or NAME.ext.txt; None if absent."""
    name = Path(image_name)
    stem = name.with_suffix("")
    for candidate in (
        folder / f"{stem}.txt",
        folder / stem.parent / f"gt_{stem.name}.txt",
        folder / f"{name}.txt",
        folder / f"{name}.gt",
    ):
        if is_file(candidate):
            return candidate
    return None


def _resolve_line(folder: Path, split: str, line: str) -> Sample:
    """One line of a list: an image name, or an ``image gt`` pair (tab or blank between)."""
    images, gts = folder / f"{split}_images", folder / f"{split}_gts"
    # The whole line first: image names may hold blanks.
    image_name, gt_name = line, ""
    if not is_file(images / line):
        parts = line.rsplit("\t", 1) if "\t" in line else line.rsplit(maxsplit=1)
        if len(parts) == 2:
            image_name, gt_name = parts[0].strip(), parts[1].strip()
    # Lists of other tools hold paths (./train_images/a.jpg): look relative to the data folder too.
    image = next((p for p in (images / image_name, folder / image_name) if is_file(p)), None)
    if image is None:
        raise AnnotationError(f"image {image_name!r} is not in {images}")
    if gt_name:
        annotation = next((p for p in (gts / gt_name, folder / gt_name) if is_file(p)), None)
    else:
        annotation = annotation_path(gts, image.name) or annotation_path(gts, image_name)
    if annotation is None:
        raise AnnotationError(f"no ground truth for {image.name!r} in {gts} (expected {image.stem}.txt)")
    return Sample(image, annotation)


def list_split(folder: Path, split: str) -> tuple[list[Sample], list[str]]:
    """All samples of a split, and the problems met (``file:line: what is wrong``).

    Without a ``SPLIT_list.txt`` every image of ``SPLIT_images`` that has a ground-truth file counts.
    """
    list_file = folder / f"{split}_list.txt"
    images, gts = folder / f"{split}_images", folder / f"{split}_gts"
    if not list_file.is_file():
        if not images.is_dir():
            return [], [f"{folder}: has neither {list_file.name} nor {images.name}/"]
        found = [(image, annotation_path(gts, image.name)) for image in sorted(images.iterdir()) if is_file(image)]
        return [Sample(image, annotation) for image, annotation in found if annotation is not None], []
    samples, problems = [], []
    for number, raw in enumerate(_read_text(list_file).lstrip("\ufeff").splitlines(), start=1):
        line = raw.strip()
        if not line:
            continue
        try:
            samples.append(_resolve_line(folder, split, line))
        except AnnotationError as error:
            problems.append(f"{list_file}:{number}: {error}")
    return samples, problems


def read_split(folder: Path, split: str) -> list[Sample]:
    """The samples of a split.

    Args:
        folder: the data folder.
        split: 'train', 'val' or 'test'.

    Raises:
        AnnotationError: the first problem of the list (file:line), or that the split is empty.
    """
    samples, problems = list_split(folder, split)
    if problems:
        raise AnnotationError(problems[0])
    if not samples:
        raise AnnotationError(f"{folder}: the {split} split has no image with ground truth")
    return samples


def has_split(folder: Path, split: str) -> bool:
    """Whether the folder holds this split at all."""
    return (folder / f"{split}_list.txt").is_file() or (folder / f"{split}_images").is_dir()


def held_out_split(folder: Path) -> str | None:
    """The split to score on: "val", else "test", else None."""
    return next((split for split in ("val", "test") if has_split(folder, split)), None)


def find_problems(folder: Path, splits: tuple[str, ...] = SPLITS) -> list[str]:
    """Everything wrong with a data folder's lists and ground-truth files, one line each; [] if all is well.

    Splits that the folder does not hold are not a problem, but holding none is.
    """
    if not folder.is_dir():
        return [f"{folder}: no such folder"]
    present = [split for split in splits if has_split(folder, split)]
    if not present:
        return [f"{folder}: has no {splits[0]}_list.txt and no {splits[0]}_images/ (ICDAR-style folders are expected)"]
    problems: list[str] = []
    for split in present:
        samples, found = list_split(folder, split)
        problems += found
        if not samples and not found:
            problems.append(f"{folder}: the {split} split has no image with ground truth")
        for sample in samples:
            try:
                problems += parse_annotations(_read_text(sample.annotation), str(sample.annotation))[1]
            except AnnotationError as error:
                problems.append(str(error))
    return problems
