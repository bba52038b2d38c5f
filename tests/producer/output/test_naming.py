"""Whatever an image is called, what we name after it stays inside its folder and fits the file system."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.errors import printable
from producer.output.naming import FOLDERS_BYTES, MOST_FOLDERS, NAME_BYTES, page_label, safe_name


@given(st.text(), st.integers(0, 99_999), st.booleans(), st.booleans())
def test_names_stay_inside_and_fit(image: str, page: int, paged: bool, suffix: bool) -> None:
    image = image.encode("utf-8", "replace").decode()
    name = safe_name(image, page, paged=paged, suffix=suffix)
    assert not name.is_absolute() and ".." not in name.parts and name.parts
    assert all(0 < len(part.encode()) <= 200 for part in name.parts)
    assert not set('\n\0\\:*?"<>|') & set(str(name))


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        ("sub/a.jpg", {}, "sub/a"),
        ("sub/a.jpg", {"suffix": True}, "sub/a.jpg"),
        ("b.pdf", {"paged": True}, "b_p0003"),
        ("../../etc/x.jpg", {}, "etc/x"),
        ("/abs/y.png", {}, "abs/y"),
        ("new\nline.jpg", {}, "new_line"),
        ("a.zip/c.jpg", {}, "a.zip/c"),
        ("..", {}, "_"),
        ("..x", {}, "_"),
        ("a.jpg/b.jpg", {"suffix": True}, "a.jpg~509b0d4641a7/b.jpg"),
        ("a.TXT/b.jpg", {}, "a.TXT~089a51d89575/b"),
    ],
)
def test_names(image: str, options: dict[str, bool], expected: str) -> None:
    assert safe_name(image, 2, **{"paged": False, "suffix": False, **options}) == PurePosixPath(expected)


def test_long_names_are_cut_but_stay_different(tmp_path: Path) -> None:
    names = {safe_name("茶" * 85 + end + ".jpg", 0, paged=True, suffix=True) for end in "ab"}
    assert len(names) == 2
    for name in names:
        (tmp_path / name).with_suffix(".txt.part").touch()


def test_folders_without_an_end_are_one_that_is_its_own() -> None:
    """Before: their copies were as deep as they, and 1,800 in each other no `rmtree` and no `os.walk` could follow."""
    names = {safe_name("d/" * 1800 + end + "/a.jpg", 0, paged=False) for end in ("x", "y")}
    assert len(names) == 2 and {len(name.parts) for name in names} == {MOST_FOLDERS + 2}
    wide = safe_name("茶" * 100 + "/" + ("w" * 150 + "/") * 20 + "a.jpg", 0, paged=False)
    assert len(str(wide)) < FOLDERS_BYTES + NAME_BYTES
    for depth in (1, MOST_FOLDERS):
        assert len(safe_name("d/" * depth + "a.jpg", 0, paged=False).parts) == depth + 1, "nothing changes"


def test_labels() -> None:
    assert page_label("a.jpg", 0) == "a.jpg"
    assert page_label("a.tif", 1) == "a.tif page 2"
    assert page_label("a.pdf", 0) == "a.pdf page 1"
    assert printable("a\r\n\x1b]0;x\x07\u202egpj.exe") == "a\\x0d\\x0a\\x1b]0;x\\x07\\x202egpj.exe"
