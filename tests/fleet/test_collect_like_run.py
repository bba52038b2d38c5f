"""A fleet's `collect` leaves what `run` leaves, and its exports are the same; thresholds travel with the job."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from producer.cli import main
from tests.nasty_pages import pdf
from tests.pictures import text_image, write_images
from tests.processes import WorkerProcess, command
from worker.ledger import Ledger

FORMATS = ("icdar", "coco", "labelstudio", "pagexml", "csv")


def records(out: Path) -> dict[int, dict]:
    return {record["index"]: record for record in map(json.loads, (out / "results.jsonl").read_text().splitlines())}


def exports(out: Path) -> dict[str, str]:
    """Every export, as text by file name; the job's name and the worker's differ by nature."""
    found = {}
    for name in FORMATS:
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["export", str(out), "--format", name])
    for file in sorted(out.glob("export*")) + sorted(out.glob("export*/**/*")):
        if file.is_file():
            found[str(file.relative_to(out))] = file.read_text()
    return found


@pytest.fixture
def worker(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> WorkerProcess:
    process = WorkerProcess(environment, tmp_path / "worker.log")
    yield process
    process.stop()


def names(out: Path) -> set[str]:
    return {file.name for file in out.iterdir() if not file.name.startswith((".", "export"))}


@pytest.mark.slow
def test_collect_leaves_what_run_leaves(worker: WorkerProcess, environment: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "in"
    write_images(folder, 2)
    sheets = [text_image(800, 600, f"SHEET {number}") for number in range(2)]
    sheets[0].save(folder / "sheets.tif", save_all=True, append_images=sheets[1:])
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    asked = ("--limit-side", "640", "--box-threshold", "0.6", "--quiet")
    for job in ("here", "there"):
        told = command(environment, "ocr-producer", "enqueue", folder, "--job", job, "--watch", *asked)
        assert told.returncode == 1, told.stderr
    collected, local, elsewhere = tmp_path / "collected", tmp_path / "local", tmp_path / "elsewhere"
    told = command(environment, "ocr-producer", "collect", "here", "-o", collected, "--overlays", "--quiet")
    assert told.returncode == 1 and "failed broken.jpg: CorruptImage" in told.stderr, told.stderr
    told = command(environment, "ocr-producer", "run", folder, "-o", local, "--overlays", *asked)
    assert told.returncode == 1, told.stderr
    assert (
        names(collected) == names(local) == {"results.jsonl", "job.json", "report.html", "overlays", "manifest.jsonl"}
    )
    assert (collected / "manifest.jsonl").read_bytes() == (local / "manifest.jsonl").read_bytes()
    assert {file.name for file in (collected / "overlays").iterdir()} == {
        file.name for file in (local / "overlays").iterdir()
    }
    fleet, run = (json.loads((out / "job.json").read_text()) for out in (collected, local))
    assert fleet.keys() == run.keys()
    for name in ("images", "ok", "failed", "state", "boxes", "models", "flags"):
        assert fleet.get(name) == run.get(name), name
    assert fleet["settings"]["box_threshold"] == run["settings"]["box_threshold"] == 0.6
    assert fleet["settings"]["sources"] == run["settings"]["sources"] == [str(folder)]
    assert fleet["wall_seconds"] > 0 and fleet["images_this_run"] == 5

    # Another machine has no manifest: its records give one, but for where the images are.
    away = environment | {"XDG_STATE_HOME": str(tmp_path / "another")}
    told = command(away, "ocr-producer", "collect", "there", "-o", elsewhere, "--overlays", "--quiet")
    assert told.returncode == 1 and "no overlays: the images are known to " in told.stderr
    assert names(elsewhere) == {"results.jsonl", "job.json", "report.html", "manifest.jsonl"}
    here, there, alone = exports(collected), exports(elsewhere), exports(local)
    assert here.keys() == alone.keys() == there.keys()
    assert here["export-coco.json"] == alone["export-coco.json"] == there["export-coco.json"]
    assert [name for name in here if "icdar" in name and here[name] != there[name]] == []


def test_a_job_that_is_not_done_or_cancelled_says_so(
    environment: dict[str, str], ledger: Ledger, tmp_path: Path
) -> None:
    """Nobody works: there are no records yet, and after `cancel` there will be none."""
    write_images(tmp_path / "in", 3)
    assert command(environment, "ocr-producer", "enqueue", tmp_path / "in", "--job", "idle").returncode == 0
    collect = ("ocr-producer", "collect", "idle", "-o", tmp_path / "out", "--quiet")
    assert command(environment, *collect).returncode == 1  # not complete
    assert json.loads((tmp_path / "out" / "job.json").read_text())["state"] == "open"
    assert not (tmp_path / "out" / "report.html").exists()
    command(environment, "ocr-producer", "cancel", "idle")
    told = command(environment, *collect)
    assert "idle was cancelled: 3 of 3 pages have no record" in told.stderr, told.stderr
    assert json.loads((tmp_path / "out" / "job.json").read_text())["state"] == "cancelled"
    told = command(environment, *collect, "--follow")
    assert "idle was cancelled" in told.stderr


def test_thresholds_and_tiles_of_a_job(worker: WorkerProcess, environment: dict[str, str], tmp_path: Path) -> None:
    """Two jobs of the same page, one after the other by the same worker: each as it asked."""
    folder = tmp_path / "in"
    folder.mkdir()
    text_image(2000, 1500, "WIDE PAGE").save(folder / "wide.png")
    found = {}
    for job, options in {
        "strict": ("--box-threshold", "1", "--tiled", "--limit-side", "1280"),
        "plain": ("--limit-side", "1280"),
        "grown": ("--unclip-ratio", "3", "--limit-side", "1280"),
    }.items():
        enqueue = ("ocr-producer", "enqueue", folder, "--job", job, "--watch", "--quiet")
        assert command(environment, *enqueue, *options).returncode == 0
        command(environment, "ocr-producer", "collect", job, "-o", tmp_path / job, "-q", "--no-report")
        found[job] = records(tmp_path / job)[0]
    assert found["strict"]["boxes"] == [] and "tiled" in found["strict"]["flags"]
    assert found["plain"]["boxes"] and "tiled" not in found["plain"]["flags"]

    def height(record: dict) -> float:
        ys = [y for _, y in record["boxes"][0]["points"]]
        return max(ys) - min(ys)

    assert height(found["grown"]) > 1.2 * height(found["plain"])
    other = command(environment, "ocr-producer", "enqueue", folder, "--job", "plain", "--tiled")
    assert other.returncode == 2 and "other thresholds" in other.stderr and other.stderr.count("\n") == 1


def test_run_takes_thresholds_and_refuses_others_later(environment: dict[str, str], tmp_path: Path) -> None:
    write_images(tmp_path / "in", 1)
    run = ("ocr-producer", "run", tmp_path / "in", "-o", tmp_path / "out", "--quiet", "--no-report")
    assert command(environment, *run, "--box-threshold", "1", "--memory-limit-mb", "300").returncode == 0
    assert records(tmp_path / "out")[0]["boxes"] == []
    settings = json.loads((tmp_path / "out" / "job.json").read_text())["settings"]
    assert (settings["box_threshold"], settings["memory_limit_mb"]) == (1, 300)
    assert command(environment, *run).returncode == 0
    told = command(environment, *run, "--box-threshold", "0.5")
    assert told.returncode == 2 and "leave --box-threshold out" in told.stderr


COUNTS_ONE = """
import sys
import producer.sources.scan as scan
from producer.sources.page_count import PageCount
scan.count_file = lambda path, count_pdf, time: PageCount(1)  # a producer that counts wrongly
from producer.cli.main import main
sys.exit(main())
"""


def test_a_collector_elsewhere_says_who_must_add_missed_pages(
    worker: WorkerProcess, environment: dict[str, str], tmp_path: Path
) -> None:
    """Before: "1 of 1 records, 0 failed", exit 0, and four pages never read."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdf(5))
    write_images(folder, 1)
    arguments = [sys.executable, "-c", COUNTS_ONE, "enqueue", str(folder), "--job", "missed", "--quiet"]
    subprocess.run(arguments, env=environment, check=True, capture_output=True, timeout=60)
    away = environment | {"XDG_STATE_HOME": str(tmp_path / "another")}
    for _ in range(2):  # the second time they are known
        told = command(away, "ocr-producer", "collect", "missed", "-o", out, "--follow", "-q", "--no-report")
        assert told.returncode == 1, told.stderr
        assert f"run `ocr-producer retry missed` on {socket.gethostname()}" in told.stderr
        found = records(out)
        failed = sorted((found[index]["image"], found[index]["page"]) for index in found if found[index]["error"])
        assert failed == [("a.pdf", page) for page in range(1, 5)] and len(found) == 6
    assert "4 pages of a.pdf were not counted" in told.stderr or "a.pdf: page 2 of 5 was not counted" in told.stderr
    told = command(environment, "ocr-producer", "retry", "missed", "--quiet")
    assert told.returncode == 0, told.stderr
    told = command(away, "ocr-producer", "collect", "missed", "-o", out, "--follow", "-q", "--no-report")
    assert told.returncode == 0, told.stderr
    pages = sorted((record["image"], record["page"], record["status"]) for record in records(out).values())
    assert pages[:5] == [("a.pdf", page, "ok") for page in range(5)] and len(pages) == 6
