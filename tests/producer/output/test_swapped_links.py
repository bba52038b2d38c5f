"""A picture that becomes a link after it was looked at, and before a process opens it by its name, is not followed."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from PIL import Image

from detector.errors import ImageError
from producer.detector_process.draw import OverlayProcess
from producer.detector_process.line_process import LineProcess
from producer.detector_process.originals import originals
from producer.detector_process.pdf_pages import PdfPages
from producer.detector_process.shrink import Shrinker
from producer.job.sending.refusal import refuse_others
from producer.output.formats import export_results
from producer.sources.page_count import kind_of_file
from tests.producer.output.test_changed_links import job


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job of one picture, for which a link to another is put just before a process is told its name."""
    folder = job(tmp_path)
    picture = tmp_path / "in" / "a.png"
    picture.unlink()
    Image.new("RGB", (64, 64), "white").save(picture)
    ask, begin = LineProcess.ask, LineProcess.begin

    def swap() -> None:
        picture.unlink()
        picture.symlink_to(tmp_path / "secret.png")

    def swapped(self: LineProcess, line: bytes) -> bytes:
        swap()
        return ask(self, line)

    def swapped_begin(self: LineProcess, line: bytes, timeout_s: float) -> None:
        if not picture.is_symlink():
            swap()
        begin(self, line, timeout_s)

    monkeypatch.setattr(LineProcess, "ask", swapped)
    monkeypatch.setattr(LineProcess, "begin", swapped_begin)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["crops", "pdf"])
def test_no_export_follows_it(format_name: str, out: Path) -> None:
    """Before: the boxes cut out of the picture outside, or that picture as PDF."""
    told: list[str] = []
    made = export_results(out, format_name, tell=told.append)
    assert [*made.rglob("*.jpg"), *made.rglob("*.pdf")] == []
    assert len(told) == 1 and "another file has taken its place" in told[0]


def test_nor_do_pictures_with_boxes(out: Path, tmp_path: Path) -> None:
    with OverlayProcess(roots=(tmp_path / "in",)) as process:
        drawn = process.draw((tmp_path / "in" / "a.png").as_uri(), 0, [], tmp_path / "a.jpg")
    assert not drawn.ok and "another file has taken its place" in drawn.error


@pytest.mark.slow
def test_nor_does_what_is_sent(out: Path, tmp_path: Path) -> None:
    storage = originals((tmp_path / "in",), tmp_path / "spool")
    with storage.open((tmp_path / "in" / "a.png").as_uri()) as path:
        refuse_others(path, "a.png")
        assert kind_of_file(path) == "png"
        with Shrinker(32, 1 << 20) as shrinker:
            answer = shrinker.shrink(path, 0, tmp_path / "small.jpg")
        assert not answer.ok and answer.type == "NotFound"
        for opens in (kind_of_file, lambda path: refuse_others(path, "a.png")):
            with pytest.raises(OSError, match="another file has taken its place"):
                opens(path)
        pages = PdfPages()
        assert not pages.take(path, 0, tmp_path / "page.pdf")
        pages.close()
    storage.close()


def test_nor_does_what_unpacks_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    archive, other = tmp_path / "in" / "a.zip", tmp_path / "b.zip"
    for path, data in ((archive, b"own"), (other, b"secret")):
        with zipfile.ZipFile(path, "w") as bundle:
            bundle.writestr("a.png", data)
    begin = LineProcess.begin

    def swapped(self: LineProcess, line: bytes, timeout_s: float) -> None:
        archive.unlink()
        archive.symlink_to(other)
        begin(self, line, timeout_s)

    monkeypatch.setattr(LineProcess, "begin", swapped)
    storage = originals((tmp_path / "in",), tmp_path / "spool")
    with (
        pytest.raises(ImageError, match="another file has taken its place"),
        storage.open(f"zip+{archive.as_uri()}#a.png"),
    ):
        pass
    storage.close()
