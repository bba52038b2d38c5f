"""docs/models.md out of the model cards: facts, scores, data, licences, recipe, known failures with pictures.

    python -m detector.training.model_page [--weights detector/weights] [--output docs/models.md]

The pictures are our own (examples/hard); each is run through the model and stored with the boxes it really gets, beside
the page. Run it from the repository's root after every change of weights or cards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from detector.atomic import atomic_write
from detector.cli.say import say, tell
from detector.errors import DetectorError, ModelError
from detector.images.page import open_page
from detector.models import WEIGHTS_FOLDER, ModelCard, list_models, load_card
from detector.overlay import draw, write_jpeg
from detector.predictor import TextDetector

COMMAND = "python -m detector.training.model_page"
HEADLINES = ("td500 test @640 int8", "sroie test @1280 int8", "funsd test @1280 int8")
DOCUMENTS = ("sroie val @1280 int8", "funsd val @1280 int8")
PICTURE_SIDE = 640
SETS = {"td500": "MSRA-TD500, signs", "sroie": "SROIE, receipts", "funsd": "FUNSD, forms"}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]


def size_mb(path: Path) -> str:
    """A file's size for readers."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def overview(cards: Sequence[ModelCard]) -> list[str]:
    """One line a model: what is held out, validation documents, and test sets where one of them was measured there."""
    measured = [label for label in HEADLINES if any(label in card.details.get("unseen", {}) for card in cards)]
    head = ["model", "parameters", "int8 file", "photos: agreement @640", "receipts @1280", "forms @1280"]
    head += [label.removesuffix(" int8") for label in measured]
    rows = []
    for card in cards:
        scores, unseen = card.details.get("scores", {}), card.details.get("unseen", {})
        agreed = [
            interval_words(found)
            for label, found in card.details.get("held_out", {}).items()
            if label.startswith("agreement")
        ]
        shown = [*(agreed or ["–"]), *(number(scores, label) for label in DOCUMENTS)]
        shown += [number(unseen, label) for label in measured]
        link = f"[{card.name}](#{card.name})"
        rows.append([link, f"{card.details['parameters'] / 1e6:.1f} M", size_mb(card.path), *shown])
    return table(head, rows)


def number(scores: Mapping[str, float], label: str) -> str:
    """A score, or a dash."""
    return f"{scores[label]:.3f}" if label in scores else "–"


def interval_words(found: Sequence[float]) -> str:
    """A score with its 95 % interval."""
    hmean, low, high = found
    return f"{hmean:.3f} ({low:.2f} to {high:.2f})"


def measured_otherwise(cards: Sequence[ModelCard]) -> list[str]:
    """A sentence for each model whose unseen scores are those of other thresholds than it comes with."""
    lines = []
    for card in cards:
        then = card.details.get("unseen_thresholds", {})
        now = {name: getattr(card.thresholds, name) for name in then}
        if then != now:
            numbers, shipped = (" / ".join(str(value) for value in one.values()) for one in (then, now))
            lines.append(
                f"- {card.name} was measured there with binarize, box and unclip {numbers}. It comes with {shipped}, "
                "which have not been measured there."
            )
    return lines


def score_rows(scores: Mapping[str, float]) -> list[list[str]]:
    """A card's scores, such as {"td500 val @640 int8": 0.7}, as rows: set, size, int8, fp32."""
    cells: dict[tuple[str, int], dict[str, float]] = {}
    for label, value in scores.items():
        data, _, side, precision = label.split()
        cells.setdefault((data, int(side.removeprefix("@"))), {})[precision] = value
    return [
        [SETS.get(data, data), str(side), *(f"{found[kind]:.3f}" if kind in found else "" for kind in ("int8", "fp32"))]
        for (data, side), found in sorted(cells.items(), key=lambda item: (list(SETS).index(item[0][0]), item[0][1]))
    ]


def held_out_rows(scores: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """Scores with their intervals, such as {"90 photos @640": [0.84, 0.79, 0.89]}, as rows."""
    return [[label, f"{hmean:.3f}", f"{low:.3f} to {high:.3f}"] for label, (hmean, low, high) in scores.items()]


def section(card: ModelCard, pictures: Mapping[str, str]) -> list[str]:
    """Everything about one model.

    Args:
        card: of the model.
        pictures: where the overlay of a failure's picture is, by the picture's path.
    """
    facts, thresholds = card.details, card.thresholds
    half = card.path.with_name(facts["files"]["fp16_safetensors"])
    lines = [f"## {card.name}", ""]
    lines += table(
        ["", ""],
        [
            ["network", f"DBNet, {facts['backbone']}, feature pyramid {facts['width']} wide"],
            ["parameters", f"{facts['parameters']:,}"],
            ["files", f"`{card.path.name}` {size_mb(card.path)}, `{half.name}` {size_mb(half)}"],
            ["sha256 (int8)", f"`{card.sha256}`"],
            ["finds", f"{facts['level']}s of text"],
            ["input", f"RGB, mean {list(card.mean)}, std {list(card.std)}, sides multiples of 32"],
            [
                "boxes",
                f"binarize {thresholds.binarize}, score at least {thresholds.box_threshold}, "
                f"unclip {thresholds.unclip_ratio}",
            ],
            ["licence", facts["licence"]],
        ],
    )
    if facts.get("held_out"):
        lines += ["", "hmean at IoU 0.5 on what is held out for choosing, with 95 % intervals:", ""]
        lines += table(["set", "hmean", "95 %"], held_out_rows(facts["held_out"]))
    if facts.get("chosen_on"):
        lines += ["", f"Its thresholds were chosen on: {facts['chosen_on']}"]
    lines += ["", "hmean at IoU 0.5 on validation images (reported, nothing is chosen on them), long side at most:", ""]
    rows, full = score_rows(facts["scores"]), any(label.endswith("fp32") for label in facts["scores"])
    lines += (
        table(["set", "size", "int8", "fp32"], rows)
        if full
        else table(["set", "size", "int8"], [row[:3] for row in rows])
    )
    lines += ["", "Learned from:", ""]
    lines += table(["data", "what served", "terms"], [[s["name"], s["use"], s["terms"]] for s in facts["data"]])
    lines += ["", f"Recipe. {facts['recipe']}", "", "Known failures (boxes are this model's, at 640):", ""]
    for failure in facts["failures"]:
        lines.append(f"- {failure['what']}")
        if failure["picture"]:
            lines += ["", f'  <img src="{pictures[failure["picture"]]}" alt="what it finds there" width="420">', ""]
    lines.append("")
    return lines


def draw_failures(card: ModelCard, root: Path, folder: Path) -> dict[str, str]:
    """Writes the failures' pictures with the model's boxes into ``folder``; returns file names by picture.

    Raises:
        ImageError: a picture is not there or cannot be opened.
    """
    detector, drawn = TextDetector(card.path, limit_side=640), {}
    for failure in card.details["failures"]:
        if failure["picture"]:
            source = root / failure["picture"]
            boxes = [box.points for box in detector.detect(source).boxes]
            page = open_page(source, limit_side=4096)
            seen = draw(page.pixels, boxes)
            ratio = min(1.0, PICTURE_SIDE / max(seen.shape[:2]))
            small = cv2.resize(seen, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_AREA)
            out = folder / f"{card.name}-{source.stem}.jpg"
            write_jpeg(np.asarray(small, np.uint8), out)
            drawn[failure["picture"]] = f"{folder.name}/{out.name}"
    return drawn


def write_page(weights: Path, output: Path, root: Path) -> None:
    """Writes the page and its pictures (into a folder beside it, named like the page).

    Args:
        weights: folder of the models.
        output: the Markdown file.
        root: what the cards' picture paths start from.

    Raises:
        ImageError, OSError: a picture cannot be read or written.
        ModelError: a card lacks a field that the page shows.
    """
    cards = [load_card(name, folder=weights) for name in list_models(weights)]
    lines = ["# Models", "", f"Written from the cards in `{weights.name}/` by `{COMMAND}`. How the numbers came about:"]
    lines += [
        "[training log](../detector/training/NOTES.md). hmean at IoU 0.5 of the int8 files: against the boxes of",
        "PP-OCRv6 small on 301 photos of sources that are in no training (with its 95 % interval), on 53 receipts and",
        "13 forms for validation, and, of a model that has met them, on test sets that served no choice:",
    ]
    lines += ["", *overview(cards), ""]
    if notes := measured_otherwise(cards):
        lines += [*notes, ""]
    for card in cards:
        try:
            lines += section(card, draw_failures(card, root, output.with_suffix("")))
        except (KeyError, TypeError) as error:
            raise ModelError(
                f"{card.name}.json: the card lacks or misspells {error}; see detector/training/release.py"
            ) from error
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as part:
        part.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def main(words: list[str] | None = None) -> int:
    """Command line of this module."""
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS_FOLDER)
    parser.add_argument("--output", type=Path, default=Path("docs/models.md"))
    options = parser.parse_args(words)
    try:
        write_page(options.weights, options.output, Path.cwd())
    except (DetectorError, OSError) as error:
        say(str(error))
        return 2
    tell(str(options.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
