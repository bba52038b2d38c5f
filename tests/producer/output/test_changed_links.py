"""A picture that became a link after the scan: what opens it once more does not follow it out of the job's sources."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from PIL import Image

from producer.detector_process.draw import OverlayProcess
from producer.job.manifest import ManifestLine, write_manifest
from producer.job.output_folder import JobRequest, OutputFolder
from producer.job.upload import CannotSendError, Uploader
from producer.output.formats import export_results
from producer.sources.scan import FoundPage
from tests.processes import command
from tests.producer.records import BOX, ok, write_results
from worker.ledger.ledger import Ledger
from worker.messages import BoxRecord
from worker.redis_keys import JobKeys


def job(tmp_path: Path, *, follow_links: bool = False, sources: tuple[str, ...] = ("in",)) -> Path:
    """A job of one picture, which is a link to a picture beside its folder by now."""
    (tmp_path / "in").mkdir()
    Image.new("RGB", (64, 64), "red").save(tmp_path / "secret.png")
    (tmp_path / "in" / "a.png").symlink_to(tmp_path / "secret.png")
    out = OutputFolder(tmp_path / "out")
    named = [str(tmp_path / source) for source in sources]
    out.save_request(JobRequest(job="j", sources=named, follow_links=follow_links))
    write_results(out.root, [ok(0, "a.png", boxes=[BoxRecord(BOX.points, 0.9, "text", 0.9, [], 0.0, 0)])])
    write_manifest([FoundPage("a.png", (tmp_path / "in" / "a.png").as_uri(), 0)], out.manifest)
    return out.root


@pytest.mark.parametrize("format_name", ["crops", "pdf"])
def test_no_export_follows_it(format_name: str, tmp_path: Path) -> None:
    told: list[str] = []
    made = export_results(job(tmp_path), format_name, tell=told.append)
    assert [*made.rglob("*.jpg"), *made.rglob("*.pdf")] == []
    assert len(told) == 1 and "outside the allowed roots" in told[0] and "--follow-links" in told[0]


def test_the_roots_of_the_page_count_where_they_are_given(tmp_path: Path) -> None:
    """An address of one file: by itself it would be its own root, wherever it leads by now."""
    out, told = job(tmp_path, sources=("in/a.png",)), list[str]()
    export_results(out, "crops", tmp_path / "crops", told.append, roots=(tmp_path / "in",))
    assert len(told) == 1 and "outside the allowed roots" in told[0]


def test_no_picture_with_boxes_does(tmp_path: Path) -> None:
    out = OutputFolder(job(tmp_path))
    with OverlayProcess(roots=out.source_roots()) as process:
        drawn = process.draw((tmp_path / "in" / "a.png").as_uri(), 0, [], tmp_path / "a.jpg")
    assert not drawn.ok and "outside the allowed roots" in drawn.error


@pytest.mark.slow
def test_who_asked_for_links_gets_them(tmp_path: Path) -> None:
    assert len([*export_results(job(tmp_path, follow_links=True), "crops").rglob("*.jpg")]) == 1


@pytest.mark.parametrize(
    ("sources", "roots"),
    [
        (["in", "s3://bucket/x"], ["in"]),
        (["in/*.png"], ["in"]),
        (["link"], ["in"]),
        (["-", "in"], []),
        (["gone"], []),
    ],
)
def test_roots(sources: list[str], roots: list[str], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    named = [name if name == "-" or "://" in name else str(tmp_path / name) for name in sources]
    out = OutputFolder(tmp_path / "out")
    assert out.source_roots() == ()
    out.save_request(JobRequest(job="j", sources=named))
    assert out.source_roots() == tuple(tmp_path / root for root in roots)


@pytest.mark.parametrize("follow_links", [False, True])
def test_none_is_sent(follow_links: bool, ledger: Ledger, tmp_path: Path) -> None:
    """Before: `--transfer redis` sent it to whoever has the broker's password."""
    out = OutputFolder(job(tmp_path, follow_links=follow_links))
    line = ManifestLine(0, "a.png", (tmp_path / "in" / "a.png").as_uri(), 0)
    with Uploader(ledger, "j", limit_side=640, shrink=False, roots=out.source_roots()) as uploader:
        if follow_links:
            assert uploader.pack(line).data == (tmp_path / "secret.png").read_bytes()
        else:
            with pytest.raises(CannotSendError, match=r"outside the allowed roots .*--follow-links") as refused:
                uploader.pack(line)
            assert refused.value.type == "NotFound"


def test_a_fleets_job_knows_its_sources(environment: dict[str, str], ledger: Ledger, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "secret.png")
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    common = ("ocr-producer", "enqueue", folder, "--job", "j", "--transfer", "redis")
    assert command(environment, *common).returncode == 0
    assert command(environment, "ocr-producer", "cancel", "j").returncode == 0
    (folder / "b.png").unlink()
    (folder / "b.png").symlink_to(tmp_path / "secret.png")
    assert command(environment, "ocr-producer", "resume", "j").returncode in (0, 1)
    records = [msgspec.json.decode(fields[b"record"]) for _, fields in ledger.client.xrange(JobKeys.of("j").results)]
    assert [record["index"] for record in records] == [1] and "outside the allowed roots" in records[0]["error"][
        "message"
    ]
