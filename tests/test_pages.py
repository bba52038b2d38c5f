"""Every page of every file: none vanishes, none is "ok" unread. Through `ocr-producer run`, in folders and zips."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.nasty_pages import FILES, HEIC, ZIP_NAMES, Case, named_zip, page, pdf, saved, tiff
from tests.processes import command
from tests.raw_tiff import BOTTOM, Picture, raw_tiff


def run(environment: dict[str, str], out: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return command(environment, "ocr-producer", "run", *arguments, "-o", out, "--quiet")


def records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def by_file(found: Iterable[dict], names: Iterable[str], prefix: str = "") -> dict[str, list[dict]]:
    """Records by the file they are of, whether it is named itself or one of its members is."""
    grouped: dict[str, list[dict]] = defaultdict(list)
    known = set(names)
    for record in found:
        grouped[next(part for part in [record["image"].removeprefix(prefix).split("/")[0]] if part in known)].append(
            record
        )
    return grouped


def check(found: dict[str, list[dict]], expected: dict[str, Case]) -> None:
    wrong = {}
    for name, case in expected.items():
        states = [record["status"] for record in found[name]]
        counts = (states.count("ok"), states.count("failed"))
        types = {record["error"]["type"] for record in found[name] if record["error"]}
        flags = {flag for record in found[name] for flag in record["flags"]}
        if counts != (case.ok, case.failed) or (case.flag and case.flag not in flags) or "Internal" in types:
            wrong[name] = (counts, types, flags)
    assert wrong == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pages") / "in"
    root.mkdir()
    for name, case in FILES.items():
        (root / name).write_bytes(case.make())
    (root / "notes.txt").write_text("no picture")
    (root / "scan").write_bytes(pdf(2))
    (root / "~$lock.png").write_bytes(b"x")
    (root / "@eaDir").mkdir()
    (root / "@eaDir" / "thumb.jpg").write_bytes(b"x")
    return root


def test_a_folder(environment: dict[str, str], folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(environment, out, folder)
    assert done.returncode == 1, done.stderr
    found = records(out)
    check(by_file(found, FILES), FILES)
    assert len(found) == sum(case.ok + case.failed for case in FILES.values())
    assert [record["index"] for record in sorted(found, key=lambda record: record["index"])] == list(range(len(found)))
    white = next(record for record in found if record["image"] == "white-on-nothing.png")
    assert white["boxes"]
    job = json.loads((out / "job.json").read_text())
    assert job["passed_over"] == {".txt": 1, "without a suffix": 1, "~$ files": 1, "in @eaDir": 2, "in __MACOSX": 1}
    assert job["uncertain_files"] == 2 and job["images"] == len(found)
    assert {"damaged", "blank", "attachments"} <= set(job["flags"])
    assert "passed over: " in done.stderr
    report = (out / "report.html").read_text()
    assert "passed over" in report and "could not be counted" in report and "damaged" in report


@pytest.mark.slow
def test_named_and_zipped(environment: dict[str, str], folder: Path, tmp_path: Path) -> None:
    done = run(environment, tmp_path / "named", "--no-report", *(folder / name for name in FILES))
    assert done.returncode == 1, done.stderr
    check(by_file(records(tmp_path / "named"), FILES), FILES)
    bundle = tmp_path / "all.zip"
    archives = (".zip", ".tar", ".xz")
    inside = {name: case for name, case in FILES.items() if not name.endswith(archives)}
    with zipfile.ZipFile(bundle, "w") as target:
        for name in inside:
            target.write(folder / name, name)
    done = run(environment, tmp_path / "zipped", "--no-report", bundle)
    assert done.returncode == 1, done.stderr
    check(by_file(records(tmp_path / "zipped"), inside, "all.zip/"), inside)


def test_names_of_zips_and_sniffing(environment: dict[str, str], tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for number, (name, encoding) in enumerate(ZIP_NAMES.items()):
        (root / f"{number}.zip").write_bytes(named_zip(name, encoding))
    (root / "scan").write_bytes(pdf(2))
    (root / "fax.dat").write_bytes(tiff(2))
    (root / "notes").write_text("no picture")
    done = run(environment, tmp_path / "out", "--no-report", "--sniff", root)
    assert done.returncode == 0, done.stderr
    shown = [f"{number}.zip/{name}" for number, name in enumerate(ZIP_NAMES)]
    assert [record["image"] for record in records(tmp_path / "out")] == [*shown, *["fax.dat"] * 2, *["scan"] * 2]
    done = run(environment, tmp_path / "told", "--no-report", "--zip-encoding", "cp1251", root / "2.zip")
    (told,) = records(tmp_path / "told")
    assert told["image"] == "2.zip/" + "Größe.png".encode("cp1252").decode("cp1251")


def test_pipes_sockets_and_devices_never_block(environment: dict[str, str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    os.mkfifo(tmp_path / "pipe.zip")
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(tmp_path)  # a socket's path may be 107 bytes long
        listener.bind("socket.tif")
        named = [tmp_path / "pipe.pdf", tmp_path / "pipe.zip", tmp_path / "socket.tif", Path("/dev/zero")]
        done = run(environment, tmp_path / "out", "--no-report", *named)
    assert done.returncode == 1, done.stderr
    assert {record["error"]["type"] for record in records(tmp_path / "out")} == {"NotFound"}
    assert len(records(tmp_path / "out")) == len(named)


COUNTS_ONE = """
import sys
from producer.sources import scan
from producer.sources.page_count import PageCount
scan.count_file = lambda path, count_pdf, time: PageCount(1)  # a producer that counts wrongly
from producer.cli.main import main
sys.exit(main())
"""


def test_pages_that_the_producer_missed_join_the_job(environment: dict[str, str], tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    (root / "a.pdf").write_bytes(pdf(4))
    (root / "b.tif").write_bytes(tiff(3))
    (root / "c.png").write_bytes(saved(page(), "PNG"))
    arguments = [sys.executable, "-c", COUNTS_ONE, "run", str(root), "-o", str(out), "--no-report"]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = sorted((record["image"], record["page"], record["status"]) for record in records(out))
    pages = [("a.pdf", 4), ("b.tif", 3), ("c.png", 1)]
    assert found == [(name, number, "ok") for name, count in pages for number in range(count)]
    assert json.loads((out / "job.json").read_text())["images"] == 8
    # What is done stays done.
    again = command(environment, "ocr-producer", "resume", out, "--quiet")
    assert again.returncode == 0 and len(records(out)) == 8, again.stderr


def test_a_repaired_file_is_counted_again(environment: dict[str, str], tmp_path: Path) -> None:
    scan, out = tmp_path / "scan.tif", tmp_path / "out"
    scan.write_bytes(raw_tiff([Picture()] * 3, last=BOTTOM))
    assert run(environment, out, "--no-report", scan).returncode == 1
    (failed,) = [record for record in records(out) if record["status"] == "failed"]
    assert failed["page"] == 3 and "pages 4-? could not be counted" in failed["error"]["message"]
    still = command(environment, "ocr-producer", "retry", out, "--quiet")
    assert still.returncode == 1 and len(records(out)) == 4
    scan.write_bytes(raw_tiff([Picture()] * 6))
    mended = command(environment, "ocr-producer", "retry", out, "--quiet")
    assert mended.returncode == 0, mended.stderr
    assert sorted((record["page"], record["status"]) for record in records(out)) == [(page, "ok") for page in range(6)]


def test_heic_says_what_is_missing(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    done = run(environment, tmp_path / "out", "--no-report", tmp_path / "IMG_1.HEIC")
    assert done.returncode == 1, done.stderr
    (record,) = records(tmp_path / "out")
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        assert record["error"]["type"] == "UnsupportedFormat" and "ocrfleet[heif]" in record["error"]["message"]
    else:
        assert record["error"]["type"] == "CorruptImage"
