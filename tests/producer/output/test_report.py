"""The report needs nothing but itself, shows failures first, and cannot be written into by a file name."""

from __future__ import annotations

import base64
import io
import re
import tracemalloc
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from PIL import Image

from producer.detector_process import draw
from producer.detector_process.draw import OverlayProcess
from producer.job.manifest import write_manifest
from producer.job.output_folder import JobRequest, OutputFolder
from producer.output import report
from producer.output.charts import bars_of, histogram_svg
from producer.output.naming import tells_case
from producer.output.overlays import CannotDrawError, overlay_name, write_overlays
from producer.output.report import write_report
from producer.output.totals import MEMORY_EDGES, Histogram
from producer.sources.scan import FoundPage, scan
from tests.pictures import write_images
from tests.producer.records import BOX, IN_PROCESS, failed, ok, tiff, write_results


class Page(HTMLParser):
    """Every element, its attributes, and all text; complains of what is not closed."""

    VOID = frozenset({"meta", "img", "line", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID and not (self.get_starttag_text() or "").endswith("/>"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def job(tmp_path: Path, count: int = 3) -> Path:
    """A finished job of small pictures and one failure."""
    images, out = tmp_path / "images", tmp_path / "out"
    write_images(images, count)
    (images / "three.tif").write_bytes(tiff(3))
    (images / "zero.jpg").touch()
    OutputFolder(out).save_request(JobRequest(job="j", sources=[str(images)]))
    total = write_manifest(scan([str(images)], IN_PROCESS), out / "manifest.jsonl")
    records = [ok(n, f"image-{n:04d}.jpg") for n in range(count)]
    records += [ok(count + page, "three.tif", page=page, boxes=()) for page in range(3)]
    write_results(out, [*records, failed(total - 1, "zero.jpg")])
    return out


def pictures(page: Page) -> list[Image.Image]:
    sources = [image["src"] or "" for image in page.of("img")]
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    return [Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources]


@pytest.mark.slow
def test_a_report_with_pictures(tmp_path: Path) -> None:
    page = Page(write_report(job(tmp_path)).read_text())
    assert "7 images, 1 failed" in page.said
    assert page.said.index("zero.jpg") < page.said.index("image-0000.jpg")
    shown = pictures(page)
    assert len(shown) == 6
    assert shown[0].size == (240, 160)
    colours = shown[0].convert("RGB").getcolors(maxcolors=1 << 20) or []
    assert sum(count for count, (red, green, _) in colours if red > 200 and green < 120) > 50  # type: ignore[misc]


@pytest.mark.slow
def test_nothing_comes_from_outside(tmp_path: Path) -> None:
    text = write_report(job(tmp_path)).read_text()
    page = Page(text)
    assert page.of("script") == [] and page.of("link") == [] and page.of("iframe") == []
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", re.sub(r"base64,[^\"]*", "", text))
    assert "default-src 'none'" in text


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script><!--gallery-->$title ${x}\n'
    out = tmp_path / "out"
    write_results(out, [ok(0, evil, worker=f"{evil}:1"), failed(1, evil, message=evil)])
    (out / "job.json").write_text('{"job": "<b>x</b>", "settings": {"sources": ["<script>"], "<i>": 1}}')
    text = write_report(out).read_text()
    page = Page(text)
    assert page.of("script") == [] and page.of("i") == []
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3
    assert "<b>x</b>" not in page.said.replace("<b>x</b>", "", 3) and "&lt;b&gt;x" in text


@pytest.mark.slow
def test_few_pictures_of_many(tmp_path: Path) -> None:
    out = job(tmp_path, count=6)
    text = write_report(out, pictures=2).read_text()
    assert len(pictures(Page(text))) == 2
    assert "2 of 9 pages" in text
    assert write_report(out, pictures=2).read_text() == text


def test_many_failures_are_cut_and_said(tmp_path: Path) -> None:
    write_results(tmp_path, (failed(number, f"{number}.jpg") for number in range(700)))
    text = write_report(tmp_path).read_text()
    assert "The first 200; the other 500 are in results.jsonl." in text
    assert "700 × CorruptImage" in text


@pytest.mark.slow
def test_a_page_that_cannot_be_drawn_says_why(tmp_path: Path) -> None:
    out = job(tmp_path)
    (tmp_path / "images" / "image-0001.jpg").unlink()
    page = Page(write_report(out).read_text())
    assert len(pictures(page)) == 5 and "no such file" in page.said


def test_without_opencv_or_manifest_no_pictures_but_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = job(tmp_path)
    monkeypatch.setattr(report, "can_draw", lambda: False)
    assert "this machine lacks OpenCV" in write_report(out).read_text()
    (out / "manifest.jsonl").unlink()
    assert "manifest.jsonl, which says where the images are" in write_report(out).read_text()


@pytest.mark.slow
def test_overlays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = job(tmp_path)
    count = write_overlays(out)
    assert (count.written, count.not_drawn) == (6, 0)
    assert sorted(path.name for path in (out / "overlays").iterdir()) == [
        "image-0000.jpg",
        "image-0001.jpg",
        "image-0002.jpg",
        "three.tif_p0001.jpg",
        "three.tif_p0002.jpg",
        "three.tif_p0003.jpg",
    ]
    assert Image.open(out / "overlays" / "image-0000.jpg").size == (240, 160)
    monkeypatch.setattr("producer.output.overlays.can_draw", lambda: False)
    with pytest.raises(CannotDrawError, match="pip install"):
        write_overlays(out)


NAMES = ["page.png", "page.png.jpg", "a:b.jpg", "a?b.jpg", "a_b.jpg", "a_b.jpg.2~.jpg", "scan", "scan.jpg", "scan.JPG"]


@pytest.mark.parametrize(
    ("image", "page", "paged", "expected"),
    [
        ("sub/a.jpg", 0, False, "sub/a.jpg"),
        ("2026.01.05.jpg", 0, False, "2026.01.05.jpg"),
        ("a.png", 0, False, "a.png.jpg"),
        ("a.png.jpg", 0, False, "a.png.jpg.7~.jpg"),
        ("b.pdf", 1, True, "b.pdf_p0002.jpg"),
        ("b.pdf_p0002.jpg", 0, False, "b.pdf_p0002.jpg.7~.jpg"),
        ("a:b.jpg", 0, False, "a_b.jpg.7~.jpg"),
    ],
)
def test_names_of_overlays(image: str, page: int, paged: bool, expected: str) -> None:
    assert str(overlay_name(image, page, 7, paged=paged)) == expected


@given(st.sets(st.sampled_from(NAMES) | st.text("a.:jpgJ~_0127", min_size=1, max_size=12), max_size=12))
def test_every_overlay_has_its_own_name(images: set[str]) -> None:
    pages = [(image, page, paged) for image in sorted(images) for page, paged in ((0, False), (0, True), (1, True))]
    made = [overlay_name(*page[:2], index, paged=page[2]) for index, page in enumerate(pages)]
    assert len(set(made)) == len(made)


@pytest.mark.slow
@given(st.sets(st.text("aAéÉe\u0301ßsSıiIµμςσ/.:jpgJ~_07", min_size=1, max_size=8), max_size=20))
def test_every_overlay_has_its_own_name_where_case_does_not_count(images: set[str]) -> None:
    """Before: on SMB, exFAT, NTFS and Macs the picture of `a.jpg` replaced that of `A.jpg`, with exit code 0."""
    images |= {f"{image}.jpg" for image in images} | {f"{image}.PNG" for image in images}
    pages = [(image, page, paged) for image in sorted(images) for page, paged in ((0, False), (0, True), (1, True))]
    made = [str(overlay_name(*page[:2], index, paged=page[2], cased=False)) for index, page in enumerate(pages)]
    for alike in (str.lower, str.upper, str.casefold, lambda name: name.upper().lower()):
        for form in ("NFC", "NFD"):
            assert len({normalize(form, alike(normalize(form, name))) for name in made}) == len(made)


@pytest.mark.slow
def test_on_a_disk_where_case_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tells_case(tmp_path) and not list(tmp_path.iterdir())
    with monkeypatch.context() as blind:
        blind.setattr("os.path.lexists", lambda path: path.name.startswith(".CASE-"))
        assert not tells_case(tmp_path)
    monkeypatch.setattr("producer.output.overlays.tells_case", lambda folder: False)
    sources = write_images(tmp_path / "in", 3)
    names = ("A.jpg", "a.jpg", "a.PNG")
    out = tmp_path / "out"
    OutputFolder(out).save_request(JobRequest(job="j", sources=[str(tmp_path / "in")]))
    pages = (FoundPage(name, path.as_uri(), 0) for name, path in zip(names, sources, strict=True))
    write_manifest(pages, out / "manifest.jsonl")
    write_results(out, [ok(index, name) for index, name in enumerate(names)])
    assert write_overlays(out).written == 3
    drawn = sorted(path.name for path in (out / "overlays").iterdir())
    assert drawn == ["A.jpg.0~.jpg", "a.PNG.2~.jpg", "a.jpg"]


@pytest.mark.slow
def test_overlays_of_like_names_do_not_overwrite_each_other(tmp_path: Path) -> None:
    sources = write_images(tmp_path / "in", 2)
    pages = (FoundPage(name, path.as_uri(), 0) for name, path in zip(("a.png", "a.png.jpg"), sources, strict=True))
    out = tmp_path / "out"
    OutputFolder(out).save_request(JobRequest(job="j", sources=[str(tmp_path / "in")]))
    write_manifest(pages, out / "manifest.jsonl")
    write_results(out, [ok(0, "a.png"), ok(1, "a.png.jpg")])
    for _ in range(2):  # drawing again replaces
        assert write_overlays(out).written == 2
        assert sorted(path.name for path in (out / "overlays").iterdir()) == ["a.png.jpg", "a.png.jpg.1~.jpg"]


@pytest.mark.slow
def test_a_lost_drawing_process_costs_one_picture(tmp_path: Path) -> None:
    (image,) = write_images(tmp_path, 1)
    with OverlayProcess() as process:
        assert process.draw(image.as_uri(), 0, [BOX], tmp_path / "a\udcff.jpg").ok
        first = process._child.process
        assert first is not None
        first.kill()
        first.wait()
        assert process.draw(image.as_uri(), 0, [], tmp_path / "b.jpg", max_side=100).width == 100
        assert process._child.process is not first
    assert (tmp_path / "b.jpg").is_file() and not list(tmp_path.glob(".*"))


def test_after_many_lost_pictures_no_more_are_asked_for(tmp_path: Path) -> None:
    """Twelve boxes far away were a minute; a report has 200 pictures."""
    (image,) = write_images(tmp_path, 1)
    with OverlayProcess(timeout_s=0.0) as process:
        for _ in range(draw.MOST_LOST):
            assert "took too long" in process.draw(image.as_uri(), 0, [], tmp_path / "a.jpg").error
        assert process._child.process is None
        assert "pages before it" in process.draw(image.as_uri(), 0, [], tmp_path / "a.jpg").error
        assert process._child.process is None


def test_a_report_holds_no_records(tmp_path: Path) -> None:
    """Of 200 newspaper pages that were read 1.1 GB."""
    read = structs.replace(BOX, text="x" * 100_000, words=[])
    write_results(tmp_path, (ok(index, f"{index}.jpg", boxes=[read]) for index in range(report.PICTURES)))
    tracemalloc.start()
    try:
        write_report(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_a_picture_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    (image,) = write_images(tmp_path, 1)
    with OverlayProcess(timeout_s=0.0) as process:
        drawn = process.draw(image.as_uri(), 0, [], tmp_path / "a.jpg")
    assert not drawn.ok and "took too long" in drawn.error and not (tmp_path / "a.jpg").exists()


def test_bars_join_until_they_fit() -> None:
    histogram = Histogram(MEMORY_EDGES)
    for value in range(100, 1100):
        histogram.add(value)
    bars = bars_of(histogram)
    assert len(bars) <= 40 and sum(count for _, _, count in bars) == 1000
    assert bars[0][0] <= 100 and bars[-1][1] >= 1099
    assert all(before[1] == after[0] for before, after in pairwise(bars))
    svg = histogram_svg(histogram, "a < b", "{:.0f} MB".format)
    assert svg.count("<rect") == len(bars) and "a &lt; b: median" in svg
    assert "nothing was measured" in histogram_svg(Histogram(MEMORY_EDGES), "x", str)
