"""Whoever may add pictures to a job chooses their names and numbers: none of them takes another's file in an export."""

from __future__ import annotations

import random
from pathlib import Path

import pypdfium2
import pytest

from producer.job.manifest import write_manifest
from producer.output.formats import export_results
from producer.output.naming import new_file
from producer.sources.found_page import FoundPage
from tests.producer.output.test_documents import line, picture
from tests.producer.records import ok, own_request, write_results
from worker.messages import ImageRecord

NAMES = ("a_2.jpg", "a.jpg", "a.png")
"""Before: the third was written over the first, as `a_2.txt`."""


def job(folder: Path, names: list[str]) -> Path:
    """Results of pictures; the text of each is its name and index."""
    write_results(folder, [ok(i, name, boxes=[line(f"{name} {i}", 10, 10 + i, 0)]) for i, name in enumerate(names)])
    return folder


@pytest.mark.parametrize("kind", ["txt", "hocr", "alto", "yolo-obb", "icdar", "pagexml"])
def test_every_page_has_a_file_of_its_own(kind: str, tmp_path: Path) -> None:
    chance = random.Random(kind)
    endings = (".jpg", ".png", ".jpg.png", "_0.jpg", "_1.png", ".jpg_2.png", ".png_3.jpg", "_2.txt", ".txt.jpg", "")
    names = [f"{folder}{stem}{end}" for folder in ("", "s/", "a.txt/") for stem in ("a", "A") for end in endings]
    for order in range(2):
        chance.shuffle(names)
        made = export_results(job(tmp_path / str(order), [*NAMES, *names]), kind)
        files = [path for path in made.rglob("*") if path.is_file() and path.name not in ("data.yaml", "names.csv")]
        held = {path.read_text() for path in files}
        assert len(files) == len(held) == len(names) + len(NAMES)
        if kind == "txt":
            assert (made / "a_2.txt").read_text() == "a_2.jpg 0\n" and (made / "a.txt").read_text() == "a.jpg 1\n"
            assert (made / "a.png.txt").read_text() == "a.png 2\n"


def test_who_takes_all_of_its_names_hides_no_page(tmp_path: Path) -> None:
    """Before: FileExistsError, and no export at all, of icdar and pagexml."""
    names = ["i.png", "i.jpg.png", "i.jpg_4.png", "i.jpg_4_2.png", "i.jpg"]
    for kind in ("icdar", "txt"):
        made = export_results(job(tmp_path / kind, names), kind)
        assert (made / "i.jpg_4_3.txt").read_text()
        assert len([path for path in made.iterdir() if path.suffix == ".txt"]) == len(names)


def test_a_folder_named_as_a_file_of_ours_is_not_in_its_way(tmp_path: Path) -> None:
    """Before: IsADirectoryError, and no export at all."""
    made = export_results(job(tmp_path, ["data.yaml/a.jpg", "names.csv/a.jpg"]), "yolo-obb")
    assert "text" in (made / "data.yaml").read_text()


@pytest.mark.slow
def test_pdfs(tmp_path: Path) -> None:
    for name in NAMES:
        picture(tmp_path / name, "PNG" if name.endswith("png") else "JPEG")
    (tmp_path / "z.jpg").write_bytes(b"no picture")
    names = [*NAMES, "z.jpg"]
    own_request(tmp_path / "out", tmp_path)
    job(tmp_path / "out", names)
    pages = (FoundPage(name, (tmp_path / name).as_uri(), 0) for name in names)
    write_manifest(pages, tmp_path / "out" / "manifest.jsonl")
    made = export_results(tmp_path / "out", "pdf")
    texts = {
        path.name: pypdfium2.PdfDocument(path)[0].get_textpage().get_text_range().strip() for path in made.glob("*.pdf")
    }
    assert texts == {"a_2.pdf": "a_2.jpg 0", "a.pdf": "a.jpg 1", "a.png.pdf": "a.png 2"}


def test_two_results_of_one_page_are_two_files(tmp_path: Path) -> None:
    record: ImageRecord = ok(7, "a.jpg")
    made = [str(new_file(tmp_path, record, False, ".txt")) for _ in range(4)]
    assert made == ["a.txt", "a.jpg.txt", "a.jpg_7.txt", "a.jpg_7_2.txt"]
