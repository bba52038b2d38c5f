"""``ocr-detector detect``: images in, JSON lines out."""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click
import msgspec

from detector.atomic import named
from detector.cli.options import LONGEST_STEM, RUNTIME_HELP, NewFile, detector_options, thresholds_of
from detector.cli.own_output import own_target, refuse_others_link
from detector.cli.say import say
from detector.errors import (
    CorruptImage,
    DetectorError,
    ImageError,
    ProfileError,
    TooLarge,
    first_line,
    is_file,
    is_out_of_processes,
    printable_json,
    show,
)
from detector.evaluation.children import COUNTING, DETECTING, NOTHING, OVERLAY, Place, in_children
from detector.exit_codes import ExitCode
from detector.images.pdf_tree import MOST_PAGES_OF_A_FILE, more_than_taken
from detector.images.suffixes import is_page
from detector.memory import configure_process, limit_memory
from detector.profile import choose_profile
from detector.public.models import DEFAULT_READER
from detector.thresholds import SHAPES, Shape

if TYPE_CHECKING:
    from detector.overlay import Boxes
    from detector.predictor import TextDetector
    from detector.record import ImageRecord


@click.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=NewFile(), help="Write here, not to stdout.")
@click.option("--profile", default="auto", envvar="OCRFLEET_PROFILE", help="auto, low, standard or accurate.")
@click.option(
    "--limit-side",
    type=click.IntRange(32, 8192),
    envvar="OCRFLEET_LIMIT_SIDE",
    help="Longest side the network sees, pixels; the profile's if not given.",
)
@click.option("--max-pixels", type=click.IntRange(1), envvar="OCRFLEET_MAX_PIXELS", help="Refuse larger pages.")
@click.option(
    "--memory-limit-mb",
    type=click.IntRange(1),
    envvar="OCRFLEET_MEMORY_LIMIT_MB",
    help="Of this process; pages that need more are opened smaller or refused. The profile's if not given.",
)
@click.option("--overlays", type=click.Path(path_type=Path, file_okay=False), help="Draw the boxes into this folder.")
@click.option(
    "--read",
    is_flag=False,
    flag_value=DEFAULT_READER,
    metavar="[NAME]",
    help=f"Read the text too, with this recogniser. [without NAME: {DEFAULT_READER}]",
)
@click.option(
    "--shape",
    type=click.Choice(SHAPES),
    default="quad",
    show_default=True,
    help="Of the boxes: tilted rectangles, those with an outline that follows curved lettering, or upright rectangles.",
)
@click.option(
    "--runtime", default="auto", is_eager=True, envvar="OCRFLEET_RUNTIME", show_default=True, help=RUNTIME_HELP
)
@detector_options
def detect(
    images: tuple[Path, ...],
    output: Path | None,
    profile: str,
    limit_side: int | None,
    max_pixels: int | None,
    memory_limit_mb: int | None,
    overlays: Path | None,
    read: str | None,
    shape: Shape,
    model: str,
    runtime: str,
    threads: int | None,
    tiled: bool | None,
    **thresholds: float | None,
) -> int:
    """Writes one JSON line per image or page: boxes in original upright pixels.

    Folders are searched for images. Every page of a TIFF or PDF is a line of its own. An image that cannot be read
    becomes a line with "status": "failed", and the exit code is 1.

    \b
    Examples:
      ocr-detector detect photo.jpg
      ocr-detector detect scans/ letter.pdf -o boxes.jsonl --overlays seen/
      ocr-detector detect -o boxes.jsonl -- *.jpg
      ocr-detector detect letter.pdf --read | jq -r '.boxes[].text'
      ocr-detector detect small-print.tif --limit-side 1280 | jq '.boxes | length'
    """
    try:
        settings, _ = choose_profile(profile)
    except ProfileError as error:
        raise click.BadParameter(str(error), param_hint="--profile") from None
    limit_mb = memory_limit_mb or settings.memory_limit_mb
    limit = limit_mb << 20 if limit_mb else None
    files = list(page_files(images))
    with named(output or Path("standard output")):
        pipe = _opened_pipe(output)

    def run(at: Place, died: int) -> int:
        from detector.predictor import TextDetector

        detector = TextDetector(
            model,
            thresholds=thresholds_of(model, runtime, thresholds),
            runtime=runtime,
            threads=threads,
            limit_side=limit_side or settings.limit_side,
            max_pixels=max_pixels or settings.max_pixels,
            memory_limit=limit,
            tiled=settings.tiled if tiled is None else tiled,
            read=read,
            shape=shape,
        )
        configure_process(threads=detector.threads)
        if overlays:
            refuse_others_link(overlays)
        with named(output or Path("standard output")), _opened(output, pipe, "a" if died else "w") as lines:
            for record in _records(detector, files, overlays, limit, at, died):
                lines.write(printable_json(json.dumps(msgspec.to_builtins(record), ensure_ascii=False)) + "\n")
                lines.flush()
                if record.error:
                    at.failed += 1
                    say(f"failed ({record.error.type}): {record.error.message}")
        if not at.index:
            say(f"nothing to do: no images in {', '.join(show(path) for path in images)}")
            return ExitCode.NOTHING
        return ExitCode.FAILED if at.failed else ExitCode.OK

    return in_children(run)


def _opened_pipe(output: Path | None) -> int | None:
    """A pipe that has a name is opened once: its reader would take the end of one process for that of the lines."""
    return own_target(str(output), os.O_WRONLY | os.O_CLOEXEC) if output and output.is_fifo() else None


def _opened(output: Path | None, pipe: int | None, mode: str) -> AbstractContextManager[IO[str]]:
    if output is None or str(output) == "-":
        return click.open_file("-", "w", encoding="utf-8")
    return open(output if pipe is None else pipe, mode, encoding="utf-8", opener=own_target)


class _FaultError(ImageError):
    """A fault of ours that one page meets."""

    type = "Internal"


class _LostError(ImageError):
    """A page took the process with it that was at it."""

    type = "WorkerLost"


class _AbortedError(ImageError):
    """Likewise, as decoders in C++ do where they find no memory; a worker's record says the same."""

    type = "OutOfMemory"


def _records(
    detector: TextDetector, files: list[Path], overlays: Path | None, limit: int | None, at: Place, died: int
) -> Iterator[ImageRecord]:
    """A record for each page from a place on; if `died`, the one there took a process with it, by this signal."""
    from detector.images.page import count_believed
    from detector.record import failed_record, ok_record

    def failed(error: ImageError | MemoryError) -> ImageRecord:
        at.doing = NOTHING
        at.index += 1
        return failed_record(at.index - 1, path, at.page, error, detector.info)

    if died:
        path = files[at.file]
        doing, said = at.doing, f"{show(path)}: {_of_signal(died)}"
        if doing == OVERLAY:
            say(f"no overlay of {said}")
        else:
            yield failed((_AbortedError if died in (signal.SIGABRT, signal.SIGKILL) else _LostError)(said))
        at.file, at.page = (at.file + 1, 0) if doing == COUNTING else (at.file, at.page + 1)
    first, page = at.file, at.page
    for at.file in range(first, len(files)):
        path = files[at.file]
        try:
            if limit:
                limit_memory(limit)
            with at(COUNTING):
                pages, beyond = count_believed(path)
        except Exception as error:
            yield failed(_page_fault(path, error))
            pages, beyond = 0, ""
        if pages > MOST_PAGES_OF_A_FILE:
            pages, beyond = MOST_PAGES_OF_A_FILE, more_than_taken(pages)
        for at.page in range(page, pages):
            started = time.perf_counter()
            if limit:
                limit_memory(limit)
            try:
                with at(DETECTING):
                    found = detector.detect(path, at.page)
            except Exception as error:
                yield failed(_page_fault(path, error))
                continue
            yield ok_record(at.index, path, at.page, found, detector.info, time.perf_counter() - started)
            at.index += 1
            if overlays:
                with at(OVERLAY):
                    _draw(path, at, [box.outline for box in found.boxes], overlays)
        if beyond:
            at.page = pages
            said = f"{show(path)}: pages {pages + 1}-? could not be counted ({beyond})"
            yield failed((TooLarge if pages == MOST_PAGES_OF_A_FILE else CorruptImage)(said))
        at.page = page = 0


def _draw(path: Path, at: Place, outlines: Boxes, folder: Path) -> None:
    from detector.overlay import write_overlay

    out = folder / f"{at.index - 1:05}-{path.stem[:LONGEST_STEM]}.jpg"  # names repeat across folders and pages
    try:
        write_overlay(path, at.page, outlines, out)
    except OSError as error:
        say(f"no overlay of {show(path)}: {error}")
    except Exception as error:
        say(f"no overlay of {show(path)}: {str(_page_fault(path, error)) or 'not enough memory'}")


def _page_fault(path: Path, error: Exception) -> ImageError | MemoryError:
    """What is told of a page for an exception: of a fault of ours the traceback, too, and the others are done.

    Raises:
        Exception: the error, where it is no page's.
    """
    if isinstance(error, ImageError | MemoryError):
        return error
    if isinstance(error, DetectorError | OSError | ImportError) or is_out_of_processes(error):
        raise error
    say(*traceback.format_exc().rstrip("\n").split("\n"))
    said = f"{type(error).__name__}: {first_line(error)}"
    return _FaultError(f"{show(path)}: {said}; this is a bug in ocrfleet: please report it with the lines above")


def _of_signal(died: int) -> str:
    """What may be behind it: at its limit of memory a decoder in C++ aborts; the system kills for want of memory."""
    cause = "it is damaged, or needs more memory than there is, or --memory-limit-mb allows"
    return f"its decoder ended with its process ({signal.Signals(died).name}): {cause}"


def page_files(paths: tuple[Path, ...]) -> Iterator[Path]:
    """The files that were named, and the pictures in the folders, however deep."""
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112  # as `is_file`
            yield from sorted(file for file in _below(path) if is_page(file.relative_to(path)) and _is_there(file))
        else:
            yield path


def _is_there(file: Path) -> bool:
    if is_file(file):
        return True
    if file.is_symlink() and not os.path.exists(file):  # noqa: PTH110  # as `is_file`
        say(f"link passed over, it leads to nothing that can be read: {show(file)}")
    return False


def _below(folder: Path) -> Iterator[Path]:
    """All in a folder and the folders in it, links to folders not followed. `rglob` ends at a thousand levels."""
    waiting = [folder]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(inside) as entries:
                for entry in entries:
                    yield inside / entry.name
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(inside / entry.name)
        except OSError as error:
            say(f"folder passed over: {show(inside)}: {error.strerror or error}")
