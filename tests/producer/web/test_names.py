from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.errors import ImageError
from producer.web.names import fitting_name, free_name, safe_upload_name

STARTS = {"a.jpg": b"\xff\xd8\xff\xe0", "a.png": b"\x89PNG\r\n\x1a\n", "a.pdf": b"%PDF-1.7\n", "a.tif": b"II*\0"}


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200))
def test_no_name_leads_out_of_its_folder(name: str) -> None:
    path = safe_upload_name(name)
    assert not path.is_absolute() and path.parts
    assert all(part not in ("", ".", "..") and not part.startswith(".") and "\0" not in part for part in path.parts)
    assert all(len(part.encode()) <= 255 for part in path.parts)


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "etc/passwd"),
        ("/abs/a.jpg", "abs/a.jpg"),
        ("C:\\scans\\a.jpg", "C_/scans/a.jpg"),
        (".hidden.jpg", "_hidden.jpg"),
        ("", "upload"),
        ("..", "upload"),
        ("a\nb.jpg", "a_b.jpg"),
        ("@eaDir/~$letter.png", "_@eaDir/_~$letter.png"),  # before: taken, and passed over by the scan
        ("__MACOSX/._a.png", "___MACOSX/__a.png"),
    ],
)
def test_names(name: str, safe: str) -> None:
    assert safe_upload_name(name) == PurePosixPath(safe)


@pytest.mark.parametrize(("name", "start"), STARTS.items())
def test_the_ending_says_what_the_bytes_are(tmp_path: Path, name: str, start: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(start.ljust(64, b"\0"))
    assert fitting_name(file, PurePosixPath(name), archives=False) == PurePosixPath(name)
    wanted = f"photo{Path(name).suffix}"
    assert fitting_name(file, PurePosixPath("photo"), archives=False) == PurePosixPath(wanted)


@pytest.mark.parametrize("data", [b"", b"hello", b"<html>", b"PK\x03\x04 zip", b"MZ\x90"])
def test_what_is_no_image_is_refused(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(data)
    with pytest.raises(ImageError):
        fitting_name(file, PurePosixPath("a.jpg"), archives=False)


def test_a_zip_is_one_where_it_is_welcome(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"PK\x03\x04 zip")
    assert fitting_name(file, PurePosixPath("scans"), archives=True) == PurePosixPath("scans.zip")


def test_many_of_one_name_are_all_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: each looked for all names before it: 2,000 pictures of a phone stopped the page for a minute."""
    looks, numbers, exists = list[Path](), dict[PurePosixPath, int](), Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: looks.append(path) or exists(path))
    for number in range(1, 101):
        name = free_name(tmp_path, PurePosixPath("a/b.jpg"), numbers)
        assert name == PurePosixPath("a/b.jpg" if number == 1 else f"a/b-{number}.jpg")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert len(looks) < 400
    assert free_name(tmp_path, PurePosixPath("a/b.jpg"), {}) == PurePosixPath("a/b-101.jpg")
