"""Documents of one name beside each other, as a tar may hold them: each is a document, and has its own pages."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pypdfium2
import pytest
from PIL import Image

from producer.job.manifest import ManifestLine, write_lines, write_manifest
from producer.output.formats import export_results
from producer.output.overlays import write_overlays
from producer.sources.scan import scan
from tests.producer.output.test_documents import line, picture
from tests.producer.records import IN_PROCESS, ok, own_request, pdf, write_results

ENDINGS = {"txt": ".txt", "hocr": ".hocr", "pdf": ".pdf"}


def job(folder: Path, *members: tuple[str, bytes, int], lost: frozenset[int] = frozenset()) -> Path:
    """A job of a tar of these: name, bytes, pages. Each page's text is its number in the job."""
    (folder / "in").mkdir()
    with tarfile.open(folder / "in" / "t.tar", "w") as bundle:
        for name, data, _ in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    own_request(folder / "out", folder / "in")
    pages = list(scan([str(folder / "in")], IN_PROCESS))
    assert len(pages) == sum(count for _, _, count in members)
    write_results(
        folder / "out",
        [
            ok(index, page.image, page=page.page, boxes=[line(f"number {index}", 10, 10, 0)])
            for index, page in enumerate(pages)
            if index not in lost
        ],
    )
    write_manifest(pages, folder / "out" / "manifest.jsonl")
    return folder / "out"


def texts(folder: Path, format_name: str) -> list[str]:
    """All text of each document of an export."""
    found = []
    for path in sorted(folder.rglob(f"*{ENDINGS[format_name]}")):
        if format_name == "pdf":
            with pypdfium2.PdfDocument(path) as document:
                pages = [page.get_textpage().get_text_range().replace("\r\n", " ").strip() for page in document]
            found.append("|".join(pages))
        else:
            text = path.read_text()
            found.append("|".join(part.strip() for part in text.split("\f")) if format_name == "txt" else text)
    return sorted(found)


@pytest.mark.slow
def test_two_pictures(tmp_path: Path) -> None:
    """Before: one PDF of one page, with the text of both on it, and exit code 0."""
    png = picture(tmp_path / "a.png", "PNG")
    out = job(tmp_path, ("a.png", png, 1), ("a.png", png, 1))
    assert texts(export_results(out, "pdf"), "pdf") == ["number 0", "number 1"]
    assert texts(export_results(out, "txt"), "txt") == ["number 0", "number 1"]
    assert len(texts(export_results(out, "hocr"), "hocr")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("format_name", ["pdf", "txt"])
@pytest.mark.parametrize("lost", [set(), {2, 3}], ids=["all", "of both"])
def test_two_pdfs(tmp_path: Path, format_name: str, lost: set[int]) -> None:
    """Also where pages of both are missing, and those that are left look like one document's."""
    out = job(tmp_path, ("a.pdf", pdf(3), 3), ("a.pdf", pdf(3), 3), lost=frozenset(lost))
    first, second = ("number 0|number 1|number 2", "number 3|number 4|number 5")
    if lost:
        gap = "|" if format_name == "pdf" else ""  # nothing says that there were more
        first, second = f"number 0|number 1{gap}", "|number 4|number 5"
    assert texts(export_results(out, format_name), format_name) == sorted([first, second])


@pytest.mark.slow
def test_each_has_its_own_overlay(tmp_path: Path) -> None:
    """Before: there was one file, the second's, and two were counted."""
    first, second = tmp_path / "first.jpg", tmp_path / "second.jpg"
    for path, width in ((first, 40), (second, 60)):
        Image.new("L", (width, 30), 255).save(path)
    out = job(tmp_path, *(("a.jpg", path.read_bytes(), 1) for path in (first, second, second)))
    assert write_overlays(out).written == 3
    made = {path.name: Image.open(path).width for path in (out / "overlays").rglob("*.jpg")}
    assert made == {"a.jpg": 40, "a.jpg.1~.jpg": 60, "a.jpg.2~.jpg": 60}


def test_without_a_manifest(tmp_path: Path) -> None:
    png = picture(tmp_path / "a.png", "PNG")
    out = job(tmp_path, ("a.png", png, 1), ("a.png", png, 1), ("b.pdf", pdf(2), 2))
    (out / "manifest.jsonl").unlink()
    assert texts(export_results(out, "txt"), "txt") == ["number 0", "number 1", "number 2|number 3"]


@pytest.mark.parametrize("lost", [(), (0,), (0, 1), (4,)], ids=["none", "a first page", "both first pages", "another"])
@pytest.mark.parametrize("format_name", ["txt", "pdf"])
def test_pages_that_were_found_later_are_their_documents(
    tmp_path: Path, format_name: str, lost: tuple[int, ...]
) -> None:
    """Before: the first page of a PDF that could not be counted was one document, and its other pages another."""
    (tmp_path / "in").mkdir()
    own_request(tmp_path / "out", tmp_path / "in")
    for name, count in (("a.pdf", 3), ("b.pdf", 2), ("c.pdf", 1)):
        (tmp_path / "in" / name).write_bytes(pdf(count))
    #  index: file, page, the index of the file's first page
    pages = [("a", 0, -1), ("b", 0, -1), ("c", 0, -1), ("b", 1, 1), ("a", 1, 0), ("a", 2, 0)]
    lines = [
        ManifestLine(index, f"{name}.pdf", (tmp_path / "in" / f"{name}.pdf").as_uri(), page, of=of)
        for index, (name, page, of) in enumerate(pages)
    ]
    write_results(
        tmp_path / "out",
        [
            ok(index, f"{name}.pdf", page=page, boxes=[line(f"{name}{page}", 10, 10, 0)])
            for index, (name, page, _) in enumerate(pages)
            if index not in lost
        ],
    )
    with (tmp_path / "out" / "manifest.jsonl").open("wb") as stream:
        write_lines(stream, lines)
    made = export_results(tmp_path / "out", format_name)
    names = [f"{name}{ENDINGS[format_name]}" for name in "abc"]
    assert sorted(path.name for path in made.iterdir()) == [*names, "names.csv"]
    there = [f"{name}{page}" for index, (name, page, _) in enumerate(pages) if index not in lost]
    expected = ["|".join(sorted(page for page in there if page.startswith(name))) for name in "abc"]
    found = ["|".join(filter(None, text.split("|"))) for text in texts(made, format_name)]  # a PDF has all pages
    assert sorted(found) == expected
