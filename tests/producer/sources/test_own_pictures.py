"""Pictures and results in one folder: what we made of the pages is not taken for new ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.growing.settling import Settling
from producer.output import formats, overlays
from producer.output.formats import FORMATS, export_results
from producer.sources.own_pictures import EXPORTS, FOLDERS, PART
from producer.sources.passed_over import OURS, PassedOver
from producer.sources.scan import scan
from tests.producer.records import IN_PROCESS, ok, write_results


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def taken(root: Path, out: Path | None) -> set[str]:
    """By a scan, by a glob, and by a watched folder."""
    scanned = {page.image for page in scan([str(root)], IN_PROCESS, exclude=out)}
    globbed = {page.image for page in scan([f"{root}/**/*.jpg"], IN_PROCESS, exclude=out)}
    watched = {str(file.path.relative_to(root)) for file in Settling(root, (), settle_s=0, exclude=out).ready()}
    assert scanned == globbed == {name for name in watched if name.endswith(".jpg")}
    return scanned


MADE = [f"{folder}{part}/sub/a.jpg" for folder in sorted(FOLDERS) for part in ("", PART)]


def test_pictures_beside_results(tmp_path: Path) -> None:
    """Before: but for overlays all were new pages, and a watched folder cut crops out of crops."""
    touch(tmp_path, "a.jpg", "export-2024/b.jpg", "sub/overlays/c.jpg", *MADE)
    (tmp_path / "link").symlink_to("export-crops")
    assert taken(tmp_path, tmp_path) == {"a.jpg", "export-2024/b.jpg", "sub/overlays/c.jpg"}
    assert len(taken(tmp_path, tmp_path / "elsewhere")) == 3 + len(MADE), "nobody's: there are no results"


def test_another_jobs_results(tmp_path: Path) -> None:
    """Before: pages of a job that was collected into its pictures' folder, and of each job with another OUT."""
    touch(tmp_path, "a.jpg", "out/b.jpg", "out/results.jsonl", *(f"out/{name}" for name in MADE))
    for out in (None, tmp_path / "out2"):
        assert taken(tmp_path, out) == {"a.jpg", "out/b.jpg"}
        assert taken(tmp_path / "out", out) == {"b.jpg"}
    assert taken(tmp_path, tmp_path / "out") == {"a.jpg"}
    passed = PassedOver()
    list(scan([str(tmp_path)], IN_PROCESS, passed=passed))
    assert passed.counts == {OURS: len(MADE), ".jsonl": 1}, "not in silence"
    assert taken(tmp_path / "out/export-crops", None) == {"sub/a.jpg"}, "what is named is taken"


def test_links_to_a_folder_that_is_the_output(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", *(f"in/{name}" for name in MADE))
    (tmp_path / "out").symlink_to("in")
    assert taken(tmp_path / "in", tmp_path / "out") == taken(tmp_path / "out", tmp_path / "in") == {"a.jpg"}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_folder_is_known(kind: str, tmp_path: Path) -> None:
    assert overlays.FOLDER in FOLDERS and "overlays" in FOLDERS
    assert (formats._IN_OUT[kind] in EXPORTS) == (not Path(formats._IN_OUT[kind]).suffix)
    if kind == "icdar":
        write_results(tmp_path, [ok(0)])
        assert export_results(tmp_path, kind).name in EXPORTS
