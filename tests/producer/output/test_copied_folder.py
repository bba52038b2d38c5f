"""A folder of results that was copied from somebody: nothing that its list of pages names is opened or fetched."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import pytest
from PIL import Image

from producer.detector_process.draw import Drawn, OverlayProcess
from producer.job.manifest import write_manifest
from producer.job.output_folder import JobRequest, OutputFolder, state_folder, write_json
from producer.output.formats import export_results
from producer.output.overlays import write_overlays
from producer.output.report import write_report
from producer.sources.found_page import FoundPage
from tests.producer.records import ok, write_results

REFUSED = "no request of yours in this folder"


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OutputFolder:
    """Ours by now, since we copied it; of a picture of ours, and an address."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "mine").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "mine" / "a.png")
    out = OutputFolder(tmp_path / "out")
    out.make()
    pages = [FoundPage("a.png", (tmp_path / "mine" / "a.png").as_uri(), 0), FoundPage("b", "https://127.0.0.1:9/b", 0)]
    write_manifest(pages, out.manifest)
    write_results(out.root, [ok(0, "a.png"), ok(1, "b")])
    write_json(out.job_json, {"job": "j"})
    return out


def test_nothing_is_opened_of_it(copied: OutputFolder) -> None:
    """Before: any file of ours, and any https address."""
    text = write_report(copied.root).read_text()
    assert "<img" not in text and text.count(REFUSED) == 2
    assert write_overlays(copied.root).written == 0


def test_nor_exported(copied: OutputFolder, tmp_path: Path) -> None:
    told: list[str] = []
    export_results(copied.root, "crops", tmp_path / "made", told.append)
    assert len(told) == 2 and REFUSED in told[0] and not list((tmp_path / "made").rglob("*.jpg"))


def test_nor_by_the_name_of_a_job_of_ours(copied: OutputFolder, tmp_path: Path) -> None:
    """Its list is another than that job's."""
    kept = state_folder("j")
    kept.save_request(JobRequest(job="j", sources=[str(tmp_path / "mine")], follow_links=True))
    write_manifest([FoundPage("a.png", (tmp_path / "mine" / "a.png").as_uri(), 0)], kept.manifest)
    assert copied.picture_list()[1] is None
    copied.job_json.write_text('{"job": "../../x"}')
    assert copied.picture_list()[1] is None
    copied.job_json.write_text("[]")
    assert copied.picture_list()[1] is None


@pytest.mark.slow
def test_what_was_collected_where_it_was_enqueued_has_pictures(copied: OutputFolder, tmp_path: Path) -> None:
    kept = state_folder("j")
    kept.save_request(JobRequest(job="j", sources=[str(tmp_path / "mine")]))
    shutil.copyfile(copied.manifest, kept.manifest)
    assert copied.picture_list()[1] == (tmp_path / "mine",)
    assert write_overlays(copied.root).written == 1  # the address is dead


def test_a_list_that_changes_after_the_comparison_is_not_obeyed(
    copied: OutputFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before: who may write into OUT named any file of its user's in it, once it was found to be the kept one."""
    kept = state_folder("j")
    kept.save_request(JobRequest(job="j", sources=["-"]))
    mine = copied.manifest.read_bytes()
    kept.manifest.write_bytes(mine)
    compare, opened = filecmp.cmp, []

    def compared(*files: Path, shallow: bool) -> bool:
        copied.manifest.write_bytes(mine)
        same = compare(*files, shallow=shallow)
        copied.manifest.write_bytes(mine.replace(b"mine/a.png", b"priv/a.png"))
        return same

    def draw(process: OverlayProcess, uri: str, *_: object, **__: object) -> Drawn:
        opened.append(uri)
        return Drawn(False, 1, 1)

    monkeypatch.setattr(filecmp, "cmp", compared)
    monkeypatch.setattr(OverlayProcess, "draw", draw)
    write_report(copied.root)
    write_overlays(copied.root)
    assert {Path(uri).parent.name for uri in opened if uri.endswith(".png")} == {"mine"} and len(opened) == 4
    assert "mine/a.png" in export_results(copied.root, "labelstudio").read_text()


def test_a_job_of_another_machine_opens_nothing(copied: OutputFolder, tmp_path: Path) -> None:
    copied.save_request(JobRequest(job="j", sources=[str(tmp_path / "mine")]))
    assert copied.picture_list()[1] == (tmp_path / "mine",)
    copied.heir_file.write_text("another")
    assert copied.picture_list()[1] is None
