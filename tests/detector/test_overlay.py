"""Boxes over pages, in this process and as the program that the producer talks to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from PIL import Image

from detector import overlay
from detector.overlay import GREEN, GREY, RED, draw, write_comparison
from tests.detector.samples import save_oriented

SQUARE = [[100, 60], [200, 60], [200, 120], [100, 120]]


def reddish(pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(int)
    return (values[..., 0] > 180) & (values[..., 1] < 120) & (values[..., 2] < 150)


def test_lines_run_along_the_box_and_nowhere_else() -> None:
    paper = np.full((240, 320, 3), 90, np.uint8)
    drawn = draw(paper, [SQUARE])
    assert (paper == 90).all(), "the original is left alone"
    ys, xs = np.nonzero(reddish(drawn))
    assert abs(xs.min() - 100) <= 2
    assert abs(xs.max() - 200) <= 2
    assert abs(ys.min() - 60) <= 2
    assert abs(ys.max() - 120) <= 2
    outside = drawn.copy()
    outside[55:126, 95:206] = 90
    assert (outside == 90).all()
    inside = drawn[90, 150].astype(int)
    assert inside[0] > 90
    assert abs(inside - 90).max() < 40, "the text under a box stays readable"


def test_no_boxes_no_change() -> None:
    paper = np.full((24, 32, 3), 90, np.uint8)
    assert (draw(paper, []) == paper).all()
    assert (draw(paper, np.zeros((0, 4, 2))) == paper).all()


def test_scores_are_written_and_partly_off_page_boxes_are_fine() -> None:
    paper = np.full((240, 320, 3), 90, np.uint8)
    boxes = [SQUARE, [[-50, -50], [40, -50], [40, 20], [-50, 20]]]
    assert (draw(paper, boxes, scores=[0.87, 0.5]) != draw(paper, boxes)).any()


def test_a_box_far_outside_the_page_takes_no_longer() -> None:
    """Corners 100 million pixels away took 5 s."""
    paper = np.full((240, 320, 3), 90, np.uint8)
    began = time.process_time()
    for far in (1e3, 1.3e8, 1e9, 1e300, np.inf):
        for box in ([[-far, -far], [far, -far], [far, far], [-far, far]], [[0, -far], [far, 0], [0, far], [-far, 1]]):
            drawn = draw(paper, [box, SQUARE], scores=[0.5, 0.5])
            assert reddish(drawn)[90, 100] or reddish(drawn)[90, 101]
    assert time.process_time() - began < 1
    # What is only a little outside is drawn as it was.
    assert not reddish(draw(paper, [[[-300, 60], [-20, 60], [-20, 120], [-300, 120]]])).any()


def run(lines: list[str]) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "detector.overlay"], input="\n".join(lines) + "\n", capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_program_answers_every_line_and_survives_bad_ones(tmp_path: Path) -> None:
    name = tmp_path / os.fsdecode(b"caf\xe9\n.jpg")
    save_oriented(Image.new("RGB", (800, 400), (90, 90, 90)), 6, tmp_path / "a.jpg").rename(name)
    quoted = quote_from_bytes(os.fsencode(name))
    out = tmp_path / "deep" / "er" / "a.jpg"
    box = [[200, 100], [600, 100], [600, 300], [200, 300]]
    answers = run(
        [
            json.dumps({"path": quoted, "page": 0, "boxes": [box], "out": str(out), "max_side": 400}),
            "not json",
            "",
            json.dumps({"path": quote_from_bytes(bytes(tmp_path / "absent.jpg")), "boxes": [], "out": str(out) + "2"}),
            json.dumps({"path": quoted, "boxes": [[1, 2]], "out": str(tmp_path / "b.jpg")}),
            json.dumps({"path": quoted, "boxes": [], "out": "/proc/no/such.jpg"}),
            json.dumps(["a list"]),
            json.dumps({"path": quoted, "boxes": [], "out": str(tmp_path / "c.jpg")}),
        ]
    )
    assert [answer["ok"] for answer in answers] == [True, False, False, False, False, False, True]
    assert answers[0] == {"out": str(out), "ok": True, "width": 400, "height": 200}
    assert "absent.jpg" in answers[2]["error"]
    assert all("\n" not in answer.get("error", "") for answer in answers)
    assert (answers[6]["width"], answers[6]["height"]) == (800, 400)
    ys, xs = np.nonzero(reddish(np.asarray(Image.open(out))))
    assert abs(xs.min() - 100) <= 3
    assert abs(ys.max() - 150) <= 3
    assert sorted(path.name for path in tmp_path.rglob("*.jpg") if path != name) == ["a.jpg", "c.jpg"]
    assert not list(tmp_path.rglob("*.part"))


def test_a_bug_is_answered_where_its_traceback_cannot_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: the process ended, and with it the drawing of all other pages."""

    def fails(*arguments: object, **options: object) -> None:
        raise ValueError("told by the test")

    monkeypatch.setattr(overlay, "write_overlay", fails)
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert (
            "told by the test" in overlay.answer('{"path": "a.jpg", "page": 0, "boxes": [], "out": "b.jpg"}')["error"]
        )
        monkeypatch.undo()
        with suppress(OSError):  # what it still holds
            full.close()


@pytest.mark.slow
def test_comparison_shows_what_was_found_and_the_truth(tmp_path: Path) -> None:
    Image.new("RGB", (1400, 1000), (90, 90, 90)).save(tmp_path / "page.png")
    found = [[(100, 60), (700, 60), (700, 300), (100, 300)]]
    truth = [
        (((100, 500), (700, 500), (700, 800), (100, 800)), False),
        (((900, 500), (1300, 500), (1300, 800), (900, 800)), True),
    ]
    write_comparison(tmp_path / "page.png", found, truth, tmp_path / "both.jpg")
    pixels = np.asarray(Image.open(tmp_path / "both.jpg")).astype(int)
    for colour, rows, columns in (
        (RED, slice(50, 310), slice(90, 710)),
        (GREEN, slice(490, 810), slice(90, 710)),
        (GREY, slice(490, 810), slice(890, 1310)),
    ):
        like = np.abs(pixels - colour).sum(axis=2) < 110
        around = like[rows, columns].sum()
        assert around > 500
        if colour != GREY:  # the page itself is grey
            assert around == like.sum()
