"""The whole way: `ocr-producer run` on real files, with a real server and a real worker."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from detector.models import WEIGHTS_FOLDER
from tests.nasty import write_nasty_folder
from tests.pictures import text_image, write_images
from tests.processes import command


def read_records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[int, str]]]:
    folder = tmp_path_factory.mktemp("nasty") / "in"
    return folder, write_nasty_folder(folder)


def test_nasty_folder(nasty: tuple[Path, dict], environment: dict[str, str], tmp_path: Path) -> None:
    folder, expected = nasty
    out = tmp_path / "out"
    result = command(environment, "ocr-producer", "run", folder, "-o", out, "--overlays")
    assert result.returncode == 1, result.stderr
    pages: dict[str, list[dict]] = defaultdict(list)
    records = read_records(out)
    for record in records:
        pages[record["image"]].append(record)
    assert Counter({name: len(found) for name, found in pages.items()}) == Counter(
        {name: count for name, (count, _) in expected.items()}
    )
    assert sorted(record["index"] for record in records) == list(range(len(records)))
    outcome = {name: {r["error"]["type"] if r["error"] else "" for r in found} for name, found in pages.items()}
    assert outcome == {name: {error} for name, (_, error) in expected.items()}
    for name, found in pages.items():
        assert sorted(record["page"] for record in found) == list(range(len(found))), name
    text = result.stdout + result.stderr
    for name, (_, error) in expected.items():
        if error:
            assert name in text, f"{name} must be listed among the failures"
    # Upright sizes, whatever EXIF says: 300x200, turned for orientations 5 to 8.
    for orientation in range(1, 9):
        (record,) = pages[f"exif-{orientation}.jpg"]
        upright = (300, 200) if orientation < 5 else (200, 300)
        assert (record["width"], record["height"]) == upright
        assert ("exif_rotated" in record["flags"]) == (orientation > 1)
    for record in records:
        for box in record["boxes"]:
            for x, y in box["points"]:
                assert 0 <= x <= record["width"] and 0 <= y <= record["height"]
    # The text is really found where it is plainly to be seen.
    for name in ("whole.jpg", "cmyk.jpg", "sixteen-bit.png", "eighty-megapixels.jpg", "line\nbreak.jpg"):
        assert pages[name][0]["boxes"], name
    assert max(record["peak_rss_mb"] for record in records) < 300
    assert (out / "report.html").stat().st_size > 10_000
    job = json.loads((out / "job.json").read_text())
    assert (job["images"], job["ok"], job["failed"]) == (
        len(records),
        sum(record["status"] == "ok" for record in records),
        sum(record["status"] == "failed" for record in records),
    )


def test_running_again_resumes_and_another_input_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    arguments = ("ocr-producer", "run", tmp_path / "in", "-o", tmp_path / "out", "--quiet", "--no-report")
    assert command(environment, *arguments).returncode == 0
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    pace = json.loads((tmp_path / "out" / "job.json").read_text())
    assert pace["images_this_run"] == 2 and pace["images_per_second"] > 0
    again = command(environment, *arguments)
    assert again.returncode == 0 and "nothing was left to do" in again.stderr
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before
    assert json.loads((tmp_path / "out" / "job.json").read_text())["wall_seconds"] == pace["wall_seconds"]
    assert command(environment, *arguments, "--overlays").returncode == 0
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 2
    resized = command(environment, *arguments, "--limit-side", "320")
    assert resized.returncode == 2 and "leave --limit-side out" in resized.stderr
    write_images(tmp_path / "other", 1)
    other = command(environment, "ocr-producer", "run", tmp_path / "other", "-o", tmp_path / "out")
    assert other.returncode == 2 and "other inputs" in other.stderr


@pytest.mark.slow
def test_another_model(environment: dict[str, str], tmp_path: Path) -> None:
    """By name, by the path of a file (from another folder, too), by the environment; unknown ones are refused."""
    write_images(tmp_path / "in", 1)
    shipped = WEIGHTS_FOLDER / "dbnet-mobilenet-v3-small"
    for ending in (".json", ".int8.onnx"):
        shutil.copy(f"{shipped}{ending}", tmp_path / f"mine{ending}")
    run = ("ocr-producer", "run", "in", "--quiet", "--no-report", "-o")

    def model_of(out: str) -> dict:
        return read_records(tmp_path / out)[0]["model"]

    assert command(environment, *run, "a", "--model", shipped.name, cwd=tmp_path).returncode == 0
    assert model_of("a")["name"] == shipped.name
    assert json.loads((tmp_path / "a" / "job.json").read_text())["settings"]["model"] == shipped.name
    other = command(environment, *run, "a", "--model", "dbnet-resnet18", cwd=tmp_path)
    assert other.returncode == 2 and "leave --model out" in other.stderr
    assert command(environment, *run, "b", "--model", "mine.int8.onnx", cwd=tmp_path).returncode == 0
    assert model_of("b")["sha256"] == model_of("a")["sha256"]
    assert command(environment, "ocr-producer", "resume", tmp_path / "b", "--quiet", cwd="/").returncode == 0
    assert command(environment | {"OCRFLEET_MODEL": "mine.int8.onnx"}, *run, "c", cwd=tmp_path).returncode == 0
    assert model_of("c") == model_of("b")
    request = json.loads((tmp_path / "c" / ".ocrfleet" / "request.json").read_text())
    assert request["model"] == str(tmp_path / "mine.int8.onnx"), "a resume without the variable goes on with it"
    shutil.copy(f"{shipped}.fp16.safetensors", tmp_path)
    for unusable, words in (
        (("--model", "nonsense"), "no model 'nonsense'"),
        (("--model", f"{shipped.name}.fp16.safetensors"), "auto reads .onnx files"),
        (("--model", "mine.int8.onnx", "--runtime", "torch"), "torch reads .safetensors"),
    ):
        for arguments in (("ocr-worker", "start"), (*run, "d")):
            refused = command(environment, *arguments, *unusable, cwd=tmp_path)
            assert refused.returncode == 2 and words in refused.stderr, refused.stderr
    assert not (tmp_path / "d" / "results.jsonl").exists()
    celery = [sys.executable, "-m", "celery", "-A", "worker.app", "worker"]
    bare = subprocess.run(celery, env=environment | {"OCRFLEET_MODEL": "nonsense"}, capture_output=True, text=True)
    assert bare.returncode != 0 and "no model 'nonsense'" in bare.stderr


def test_retry_does_the_failed_ones_again(environment: dict[str, str], tmp_path: Path) -> None:
    write_images(tmp_path / "in", 2)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    out = tmp_path / "out"
    run = command(environment, "ocr-producer", "run", tmp_path / "in", "-o", out, "--quiet", "--no-report")
    assert run.returncode == 1
    text_image().save(tmp_path / "in" / "broken.jpg")
    assert command(environment, "ocr-producer", "retry", out, "--quiet").returncode == 0
    assert json.loads((out / "job.json").read_text())["images_this_run"] == 1
    assert Counter(record["status"] for record in read_records(out)) == {"ok": 3}
    assert command(environment, "ocr-producer", "retry", out, "--quiet").returncode == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "nowhere", "-o", "out"], 4, "nowhere"),
        (["run", "empty", "-o", "out"], 4, "no images"),
        (["run", "empty"], 2, "-o"),
        (["run", "empty", "-o", "out", "--limit-side", "7"], 2, "--limit-side"),
        (["resume", "nobody"], 4, "nobody"),
        (["report", "empty"], 4, "results.jsonl"),
        (["enqueue", "empty", "--job", "no/slash"], 2, "--job"),
    ],
)
def test_mistakes_get_one_clear_line(
    arguments: list[str], code: int, words: str, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    result = command(environment, "ocr-producer", *arguments, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()[-1]) < 300


def test_an_unusable_setting_is_one_line(environment: dict[str, str], tmp_path: Path) -> None:
    environment["OCRFLEET_PROFILE"] = "silly"
    for arguments in (["run", ".", "-o", "out"], ["status"]):
        result = command(environment, "ocr-producer", *arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert result.stderr.splitlines() == [
            "Error: OCRFLEET_PROFILE: unknown profile 'silly'; choose auto, low, standard, accurate"
        ]


@pytest.mark.parametrize("line", ["99 3 * * *", "1,,2 3 * * *"])
def test_an_unusable_cron_line_is_one_line(line: str, environment: dict[str, str]) -> None:
    environment["OCRFLEET_CLEANUP_CRON"] = line
    for arguments in (["ocr-producer", "status"], ["ocr-worker", "beat"]):
        result = command(environment, *arguments)
        assert result.returncode == 2
        [said] = result.stderr.splitlines()
        assert said.startswith(f"Error: OCRFLEET_CLEANUP_CRON: '{line}' is not a valid cron line (")
        assert said.endswith("example: '17 3 * * *'")


def test_no_broker_is_exit_3_without_the_password(environment: dict[str, str], tmp_path: Path) -> None:
    environment["OCRFLEET_REDIS_URL"] = "redis://:hunter2@127.0.0.1:1/0"
    for arguments in (["status"], ["enqueue", str(tmp_path), "--job", "j"], ["collect", "j", "-o", "out"]):
        result = command(environment, "ocr-producer", *arguments, cwd=tmp_path)
        assert result.returncode == 3 and "hunter2" not in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert command(environment, "ocr-worker", "start").returncode == 3
