"""``ocr-detector``: detect, evaluate, models; and, where torch is installed, training and its tools."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detector.errors import DetectorError, ModelError, show
from detector.profile import choose_profile

if TYPE_CHECKING:
    from detector.annotations import Sample
    from detector.evaluate import ImageScore
    from detector.predictor import TextDetector

OK, SOME_FAILED, USAGE, NOTHING_TO_DO, INTERRUPTED = 0, 1, 2, 4, 130
SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".tif",
    ".tiff",
    ".webp",
    ".gif",
    ".bmp",
    ".ppm",
    ".pgm",
    ".pbm",
    ".jp2",
    ".avif",
    ".pdf",
)

_RUNTIME_HELP = "auto, onnxruntime, openvino or torch (the fp16 weights, in bf16 or fp16 where the machine has it)."

_EXIT_CODES = (
    "Exit codes: 0 all good; 1 some images failed; 2 usage; 4 nothing to do or input missing; 130 interrupted."
)


class LazyGroup(click.Group):
    """Finds the commands of the other `detector.cli_*` modules only when they are asked for or listed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of our own commands and those of the other modules."""
        return sorted({*super().list_commands(ctx), *_other_commands()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Our own command, or one of another module."""
        return super().get_command(ctx, cmd_name) or _other_commands().get(cmd_name)


def _other_commands() -> dict[str, click.Command]:
    """Every click command of the modules beside this one called cli_*: a new module is a new command."""
    folder = Path(__file__).parent
    modules = (import_module(f"detector.{file.stem}") for file in sorted(folder.glob("cli_*.py")))
    commands = (value for module in modules for value in vars(module).values() if isinstance(value, click.Command))
    return {command.name: command for command in commands if command.name}


def _detector_options(function: Any) -> Any:
    for option in (
        click.option("--model", default="dbnet-resnet18", show_default=True, help="A shipped model, or an .onnx file."),
        click.option("--runtime", default="auto", envvar="OCRFLEET_RUNTIME", show_default=True, help=_RUNTIME_HELP),
        click.option("--threads", type=click.IntRange(1, 256), envvar="OCRFLEET_THREADS", help="Of one inference."),
        click.option("--tiled/--untiled", default=None, help="Large pages in overlapping tiles of 640 pixels."),
        click.option("--binarize", type=click.FloatRange(0.01, 0.99), help="Pixels from this on are text."),
        click.option("--box-threshold", type=click.FloatRange(0, 1), help="Drop boxes with a lower score."),
        click.option("--unclip-ratio", type=click.FloatRange(0, 10), help="How much the found regions grow."),
    ):
        function = option(function)
    return function


def _load_detector(model: str, thresholds: dict[str, float | None], **options: Any) -> TextDetector:
    """The detector, with those thresholds of the model's card replaced that were given."""
    from detector.predictor import TextDetector
    from detector.runtimes import file_kind
    from detector.weights import load_card

    given = {name: value for name, value in thresholds.items() if value is not None}
    rules = replace(load_card(model, file_kind(options["runtime"])).rules, **given) if given else None
    return TextDetector(model, rules=rules, **options)


@click.group(cls=LazyGroup, epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ocrfleet")
def cli() -> None:
    """Finds where text is in images. No queue, no server: pixels in, boxes out."""


@cli.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Write here, not to stdout.")
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
@_detector_options
def detect(
    images: tuple[Path, ...],
    output: Path | None,
    profile: str,
    limit_side: int | None,
    max_pixels: int | None,
    memory_limit_mb: int | None,
    overlays: Path | None,
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
      ocr-detector detect small-print.tif --limit-side 1280 | jq '.boxes | length'
    """
    try:
        settings, _ = choose_profile(profile)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--profile") from None
    limit_mb = memory_limit_mb or settings.memory_limit_mb
    detector = _load_detector(
        model,
        thresholds,
        runtime=runtime,
        threads=threads or settings.threads,
        limit_side=limit_side or settings.limit_side,
        max_pixels=max_pixels or settings.max_pixels,
        memory_limit=limit_mb << 20 if limit_mb else None,
        tiled=settings.tiled if tiled is None else tiled,
    )
    failed = count = 0
    with click.open_file(str(output) if output else "-", "w", encoding="utf-8") as lines:
        for record in _records(detector, images, overlays):
            lines.write(json.dumps(record, ensure_ascii=False) + "\n")
            lines.flush()
            count += 1
            if record["error"]:
                failed += 1
                _say(f"failed ({record['error']['type']}): {record['error']['message']}")
    if not count:
        _say(f"nothing to do: no images in {', '.join(show(path) for path in images)}")
        return NOTHING_TO_DO
    return SOME_FAILED if failed else OK


def _records(detector: TextDetector, images: tuple[Path, ...], overlays: Path | None) -> Iterator[dict[str, Any]]:
    from detector.image import count_pages
    from detector.overlay import write_overlay
    from detector.record import failed_record, ok_record

    index = 0
    for path in _files(images):
        try:
            pages = count_pages(path)
        except DetectorError as error:
            yield failed_record(index, path, 0, error, detector.info)
            index += 1
            continue
        for page in range(pages):
            started = time.perf_counter()
            try:
                found = detector.detect(path, page)
            except (DetectorError, MemoryError) as error:
                yield failed_record(index, path, page, error, detector.info)
            else:
                yield ok_record(index, path, page, found, detector.info, time.perf_counter() - started)
                if overlays:  # numbered, because names repeat across folders and pages
                    out = overlays / f"{index:05}-{path.stem}.jpg"
                    write_overlay(path, page, [box.points for box in found.boxes], out)
            index += 1


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        else:
            yield path


@cli.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with SPLIT_images and SPLIT_gts.")
@click.option("--split", default="val", show_default=True, help="train, val or test.")
@click.option("--limit-side", "limits", type=click.IntRange(32, 8192), multiple=True, help="Several give several rows.")
@click.option("--results", type=click.Path(path_type=Path), help="Score this results.jsonl; run nothing.")
@click.option("--worst", type=click.IntRange(1), help="Draw the N worst images (of the last row) into -o.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for --worst.")
@click.option("--json", "as_json", is_flag=True, help="Rows as JSON lines.")
@_detector_options
def evaluate(
    data: Path,
    split: str,
    limits: tuple[int, ...],
    results: Path | None,
    worst: int | None,
    output: Path | None,
    as_json: bool,
    model: str,
    runtime: str,
    threads: int | None,
    tiled: bool | None,
    **thresholds: float | None,
) -> int:
    """Precision, recall and hmean against ground truth (ICDAR 2015 protocol, IoU 0.5, "###" ignored).

    \b
    Examples:
      ocr-detector evaluate --data receipts --split val --limit-side 640 --limit-side 1280
      ocr-detector evaluate --data receipts --results out/results.jsonl
      ocr-detector evaluate --data receipts --worst 10 -o worst/     (red = found, green = ground truth)
    """
    from detector import evaluate as evaluation
    from detector.annotations import AnnotationError, read_split

    if (worst is None) != (output is None):
        raise click.UsageError("--worst N and -o FOLDER go together")
    if results and limits:
        raise click.UsageError("--results scores finished boxes; --limit-side does not apply")
    try:
        samples = read_split(data, split)
        rows: list[tuple[str, Iterator[ImageScore]]] = []
        if results:
            rows.append(("results", evaluation.score_records(evaluation.read_results(results), samples)))
        else:
            detector = _load_detector(model, thresholds, runtime=runtime, threads=threads or 1, tiled=bool(tiled))
            rows += [(str(limit), evaluation.score_detector(detector, samples, limit)) for limit in limits or (640,)]
        summaries = []
        scores: list[ImageScore] = []
        for label, scoring in rows:
            scores = list(scoring)
            summaries.append(evaluation.summarise(label, scores))
    except (AnnotationError, evaluation.EvaluateError, DetectorError) as error:
        _say(str(error))
        return NOTHING_TO_DO
    if as_json:
        for item in summaries:
            click.echo(json.dumps({"label": item.label, "images": item.images, **_scores(item.counts)}))
    else:
        click.echo(evaluation.table(summaries))
    if worst and output:
        _draw_worst(evaluation.worst(scores, worst), output)
    return OK


def _scores(counts: Any) -> dict[str, float]:
    return {name: round(getattr(counts, name), 4) for name in ("matched", "gt", "det", "precision", "recall", "hmean")}


def _draw_worst(scores: list[ImageScore], folder: Path) -> None:
    from detector.overlay import write_comparison

    for rank, score in enumerate(scores, start=1):
        sample: Sample = score.sample
        regions = [(region.points, region.ignore) for region in sample.regions()]
        out = folder / f"{rank:03}-{score.counts.hmean:.2f}-{sample.image.stem}.jpg"
        write_comparison(sample.image, score.boxes, regions, out)
    _say(f"{len(scores)} pictures in {show(folder)}: red = found, green = ground truth, grey = do not care")


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The whole cards, one JSON object a line.")
def models(as_json: bool) -> int:
    """Lists the models that come with the program.

    \b
    Examples:
      ocr-detector models
      ocr-detector models --json | jq .scores
    """
    from detector.weights import list_models, load_card

    names = list_models()
    if not names:
        _say("no model is installed; install the package again, or train one with: ocr-detector train")
        return NOTHING_TO_DO
    for name in names:
        card = load_card(name)
        if as_json:
            click.echo(json.dumps(card.details, ensure_ascii=False))
        else:
            size = card.path.stat().st_size / 1e6
            click.echo(
                f"{name:24} {card.precision:5} {size:6.1f} MB  sha256 {card.sha256[:12]}  {_headline(card.details)}"
            )
    return OK


def _headline(card: dict[str, Any]) -> str:
    return str(card.get("summary") or card.get("backbone") or "")


def _say(line: str) -> None:
    click.echo(line, err=True)


def main(arguments: list[str] | None = None) -> None:
    """The program: runs a command and turns every foreseen trouble into one line and an exit code."""
    code: Any = OK
    try:
        code = cli.main(arguments, prog_name="ocr-detector", standalone_mode=False)
    except click.exceptions.Abort:
        _say("interrupted")
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = USAGE
    except ModelError as error:
        _say(str(error))
        code = USAGE
    except ModuleNotFoundError as error:
        _say(_missing(error))
        code = USAGE
    except BrokenPipeError:  # whoever read our lines has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = SOME_FAILED
    except OSError as error:
        _say(f"{show(error.filename) if error.filename else 'system'}: {error.strerror or error}")
        code = USAGE
    sys.exit(code if isinstance(code, int) else OK)


def _missing(error: ModuleNotFoundError) -> str:
    """One line for a package that is not installed."""
    package = (error.name or "").split(".")[0]
    extra = {"torch": "torch", "torchvision": "torch", "safetensors": "torch", "onnx": "torch", "openvino": "openvino"}
    if package == "detector":
        raise error
    return (
        f"this command needs {package}, which is not installed: pip install 'ocrfleet[{extra.get(package, 'worker')}]'"
    )


if __name__ == "__main__":
    main()
