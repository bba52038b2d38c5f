"""The commands as a user types them: output, exit codes, one clear line per mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from tests.detector.test_predictor import page_with_bright_line
from tests.producer.sources.test_page_bounds import boasting_pdf, written_pdf
from worker.messages import ImageRecord


def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "detector.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "in"
    (images / "sub").mkdir(parents=True)
    page = page_with_bright_line()
    page.save(images / "a.png")
    page.save(images / "sub" / "book.tif", save_all=True, append_images=[page, Image.new("RGB", (50, 40))])
    page.save(images / "sub" / "letter.pdf")
    (images / "notes.txt").write_text("not an image, and not taken for one")
    return images


def test_detect_writes_a_record_per_page(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9\n.jpg")).write_bytes(b"")
    done = run(
        "detect",
        folder,
        "--model",
        tiny_model,
        "--limit-side",
        640,
        "--overlays",
        tmp_path / "seen",
        "--shape",
        "polygon",
    )
    assert done.returncode == 1
    records = [msgspec.json.decode(line, type=ImageRecord) for line in done.stdout.splitlines()]
    assert [record.index for record in records] == list(range(6))
    assert [(Path(record.image).name, record.page, record.status) for record in records] == [
        ("a.png", 0, "ok"),
        (r"caf\xe9\n.jpg", 0, "failed"),
        ("book.tif", 0, "ok"),
        ("book.tif", 1, "ok"),
        ("book.tif", 2, "ok"),
        ("letter.pdf", 0, "ok"),
    ]
    assert records[0].boxes[0].polygon
    assert records[0].input_size == (414, 640)
    assert records[0].model is not None
    assert records[0].peak_rss_mb > 20
    assert records[1].error is not None
    assert records[1].error.type == "CorruptImage"
    assert "failed (CorruptImage)" in done.stderr
    assert len(list((tmp_path / "seen").iterdir())) == 5


def test_output_file_and_environment(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "boxes.jsonl"
    environment = {"OCRFLEET_LIMIT_SIDE": "320"}
    done = run("detect", folder / "a.png", "--model", tiny_model, "-o", out, environment=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert json.loads(out.read_text())["input_size"] == [207, 320]


def test_mistakes(tmp_path: Path, tiny_model: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for arguments, code, says in (
        (("detect",), 2, "Missing argument"),
        (("detect", "x.jpg", "--model", "nonsense"), 2, "no model 'nonsense'"),
        (("detect", "x.jpg", "--model", tiny_model, "--profile", "fast"), 2, "unknown profile 'fast'"),
        (("detect", "x.jpg", "--model", tiny_model, "--runtime", "abacus"), 2, "unknown runtime"),
        (("detect", empty, "--model", tiny_model), 4, "no images in"),
        (("detect", tmp_path / "x.jpg", "--model", tiny_model), 1, "No such file"),
        (("detect", tiny_model, "--model", tiny_model, "-o", "/proc/no/where"), 2, "/proc/no/where"),
        (("sing",), 2, "No such command"),
    ):
        done = run(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert says in done.stderr


def test_help() -> None:
    overview = run("--help")
    assert overview.returncode == 0
    assert "Exit codes" in overview.stdout
    for command in ("detect", "train"):
        assert command in overview.stdout
        assert f"ocr-detector {command}" in run(command, "--help").stdout


def detecting(image: Path, times: int, model: Path) -> subprocess.Popen[str]:
    """A running `detect` of the same image many times over."""
    command = [sys.executable, "-m", "detector.cli", "detect", *[str(image)] * times, "--model", str(model)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_interrupted(folder: Path, tiny_model: Path) -> None:
    process = detecting(folder / "a.png", 500, tiny_model)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors


def test_a_closed_pipe_is_no_crash(folder: Path, tiny_model: Path) -> None:
    process = detecting(folder / "a.png", 50, tiny_model)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=20) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_folders_are_searched_as_jobs_are(tmp_path: Path, tiny_model: Path) -> None:
    folder = tmp_path / "in"
    (folder / ".thumbs").mkdir(parents=True)
    for name in ("a.jfif", "b.JPE", "c.jpg", "._c.jpg", ".thumbs/d.jpg"):
        Image.new("RGB", (60, 40)).save(folder / name, "JPEG")
    done = run("detect", folder, "--model", tiny_model)
    assert [Path(json.loads(line)["image"]).name for line in done.stdout.splitlines()] == ["a.jfif", "b.JPE", "c.jpg"]


def test_an_overlay_that_cannot_be_written_stops_nothing(tmp_path: Path, tiny_model: Path) -> None:
    pages, seen = tmp_path / "in", tmp_path / "seen"
    pages.mkdir()
    for name in ("a" * 239, "b"):
        page_with_bright_line().save(pages / f"{name}.png")
    (seen / "00001-b.jpg").mkdir(parents=True)  # in the way
    done = run("detect", pages, "--model", tiny_model, "--limit-side", 640, "--overlays", seen)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 2
    assert (seen / f"00000-{'a' * 60}.jpg").is_file()
    assert "no overlay of" in done.stderr and "b.png" in done.stderr


def test_without_a_command_the_help_is_shown() -> None:
    done = run()
    assert done.returncode == 2
    assert "  detect " in done.stderr and len(done.stderr.splitlines()) > 15


def test_peak_memory_is_that_of_the_program_alone(folder: Path, tiny_model: Path) -> None:
    """ru_maxrss begins with the size of whoever starts a program."""
    command = [sys.executable, "-m", "detector.cli", "detect", str(folder / "a.png"), "--model", str(tiny_model)]
    large = "import subprocess, sys; held = b'x' * (600 << 20); sys.exit(subprocess.call(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", large, *command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["peak_rss_mb"] < 400


def test_a_detector_where_the_user_stands_is_not_ours(folder: Path, tmp_path: Path, tiny_model: Path) -> None:
    """Children are started with -m, which looks into the current folder first."""
    (tmp_path / "detector.py").write_text("raise SystemExit('not ours')")
    program = Path(sys.executable).with_name("ocr-detector")
    words = ["tune", "--model", tiny_model, "--limit-side", "64", "--seconds", "0.01", "--threads", "1", "-o", "t.json"]
    done = subprocess.run([program, *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_pdf_that_says_it_has_a_million_pages(tmp_path: Path, tiny_model: Path) -> None:
    """Before: a million failed lines. Of one that has more than it says: no word."""
    (tmp_path / "a.pdf").write_bytes(boasting_pdf())
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>"
    pages = b"<</Type/Pages/Kids[3 0 R 4 0 R 5 0 R]/Count 2>>"
    (tmp_path / "b.pdf").write_bytes(written_pdf(b"<</Type/Catalog/Pages 2 0 R>>", pages, page, page, page))
    page_with_bright_line().save(tmp_path / "c.png")
    done = run("detect", tmp_path, "--model", tiny_model)
    records = [msgspec.json.decode(line, type=ImageRecord) for line in done.stdout.splitlines()]
    assert [(Path(one.image).name, one.page, one.status) for one in records] == [
        *(("a.pdf", 0, "ok"), ("a.pdf", 1, "failed")),
        *(("b.pdf", 0, "ok"), ("b.pdf", 1, "ok"), ("b.pdf", 2, "failed")),
        ("c.png", 0, "ok"),
    ]
    assert done.returncode == 1 and "1,000,000 pages" in done.stderr and "lists more than the 2" in done.stderr
