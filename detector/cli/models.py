"""`ocr-detector models`: what is there to detect with."""

from __future__ import annotations

import json

import click

from detector.cli.options import say
from detector.exit_codes import ExitCode

COLUMNS = 80


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole cards, one JSON object a line.")
def models(as_json: bool) -> int:
    """Lists the models that come with the program, and your own in the folders of OCRFLEET_MODELS.

    A model of your own is an .onnx file with its card NAME.json beside it; folders are separated by colons.

    \b
    Examples:
      ocr-detector models
      OCRFLEET_MODELS=~/models ocr-detector models
      ocr-detector models --json | jq .scores
    """
    from detector.models import list_models, load_card

    names = list_models()
    if not names:
        say("no model is installed; install the package again, or train one with: ocr-detector train")
        return ExitCode.NOTHING
    if not as_json:
        click.echo(f"{'name':24} {'':5} {'MB':>5}  {'sha256':12}  a score (hmean; all: --json)")
    for name in names:
        card = load_card(name)
        size = card.path.stat().st_size
        if as_json:
            facts = {"name": name, "path": str(card.path), "bytes": size, "precision": card.precision}
            click.echo(json.dumps({**card.details, **facts, "sha256": card.sha256}, ensure_ascii=False))
        else:
            known = card.details.get("scores")
            scores = [f"{on} {value}" for on, value in known.items()] if isinstance(known, dict) else []
            score = scores[0] if scores else "–"
            line = f"{name:24} {card.precision:5} {size / 1e6:5.1f}  {card.sha256[:12]}  {score}"
            click.echo(line if len(line) <= COLUMNS else f"{line[: COLUMNS - 1]}…")
    return ExitCode.OK
