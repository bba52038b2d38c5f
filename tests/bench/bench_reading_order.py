"""Reading order on real pages that were ordered by hand (tests/data/reading_order.json): Kendall's tau a page.

    python tests/bench/bench_reading_order.py [--data FOLDER --draw FOLDER]

--data: the folder with the pictures (docs/, funsd/, sroie/), which are not part of the project; with --draw every page
is drawn with its boxes, numbered as the hand ordered them, and where ours goes another way, its number in brackets.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.reading.order import reading_order
from tests.reading_orders import OrderedPage, kendall, ordered_pages


def draw(page: OrderedPage, places: list[int], picture: Path, out: Path) -> None:
    """One page as JPEG."""
    from PIL import Image, ImageDraw

    image = Image.open(picture).convert("RGB")
    pen = ImageDraw.Draw(image)
    for place, number in enumerate(page.order):
        pen.polygon(page.quads[number], outline=(255, 0, 0))
        ours = "" if places[number] == place else f" ({places[number]})"
        pen.text(page.quads[number][0], f"{place}{ours}", fill=(0, 0, 255))
    out.mkdir(parents=True, exist_ok=True)
    image.save(out / f"{page.picture.replace('/', '_')}.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--draw", type=Path)
    arguments = parser.parse_args()
    if arguments.draw and not arguments.data:
        parser.error("--draw needs --data, the folder with the pictures")
    scores = []
    print("| page | boxes | tau |\n|---|---|---|")
    for page in ordered_pages():
        places = reading_order(page.quads)
        scores.append(kendall([places[number] for number in page.order]))
        print(f"| {page.picture} | {len(page.boxes)} | {scores[-1]:.3f} |")
        if arguments.draw:
            picture = arguments.data / page.picture
            if not picture.is_file() or hashlib.sha256(picture.read_bytes()).hexdigest() != page.sha256:
                print(f"{picture}: not the picture that was ordered", file=sys.stderr)
                continue
            draw(page, places, picture, arguments.draw)
    print(f"| mean of {len(scores)} | | {sum(scores) / len(scores):.3f} |")


if __name__ == "__main__":
    main()
