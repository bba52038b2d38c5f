"""Every page is found once, under a name JSON can carry and a URI a worker can open."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.sources import archive
from producer.sources import walk as listing
from producer.sources.scan import FoundPage, SourceMissingError, file_uri, read_list, scan
from producer.sources.walk import display, list_folder, matches, sorted_lines
from tests.producer.records import IN_PROCESS, pdf, tiff
from worker.storage.files import Storage, path_of


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def found(*sources: Path | str, **options: object) -> list[FoundPage]:
    return list(scan([os.fspath(source) for source in sources], IN_PROCESS, **options))  # type: ignore[arg-type]


def names(*sources: Path | str, **options: object) -> list[str]:
    return [page.image for page in found(*sources, **options)]


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return path


def tarred(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as bundle:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
    return path


def test_a_folder_is_searched_in_order_for_images_only(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.JPG", "a.png", "sub/c.webp", "sub/deep/d.tiff", "notes.txt", ".hidden.jpg", ".git/e.jpg", "z.heic"
    )
    assert names(tmp_path) == ["a.png", "b.JPG", "sub/c.webp", "sub/deep/d.tiff", "z.heic"]


def test_a_named_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    touch(tmp_path, "scan", ".hidden", "notes.txt")
    for name in ("scan", ".hidden", "notes.txt"):
        assert found(tmp_path / name) == [FoundPage(name, file_uri(tmp_path / name), 0)]


def test_several_sources_are_told_apart(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/a.jpg", "b.jpg")
    assert names(tmp_path / "one", tmp_path / "two", tmp_path / "b.jpg") == ["one/a.jpg", "two/a.jpg", "b.jpg"]
    assert names(tmp_path / "one/a.jpg", tmp_path / "two/a.jpg") == ["one/a.jpg", "two/a.jpg"]
    assert names(tmp_path / "one", tmp_path / "one") == ["a.jpg"]


def test_a_missing_source_is_said_before_anything_is_found(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    with pytest.raises(SourceMissingError, match=r"gone\.jpg: no such file or folder"):
        scan([str(tmp_path), str(tmp_path / "gone.jpg")], IN_PROCESS)


def test_names_that_are_hard_to_write(tmp_path: Path) -> None:
    raw = [b"with space.jpg", b"new\nline.jpg", b"\xff\xfe.jpg", "茶.jpg".encode(), b"100%#?.jpg", b"a'\"\\.jpg"]
    for name in raw:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"x")  # noqa: PTH118
    pages = found(tmp_path)
    assert {page.image for page in pages} == {name.decode("utf-8", "backslashreplace") for name in raw}
    for page in pages:
        assert json.loads(json.dumps(page.image)) == page.image
        page.image.encode()
        assert page.uri.isascii() and "\n" not in page.uri
        assert path_of(page.uri).read_bytes() == b"x"  # as a worker reads it


def test_sorted_through_files_as_in_memory(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number * 7919 % 1000:03d} \n{number}.jpg" for number in range(100)))
    (tmp_path / "sub").mkdir()
    assert list(list_folder(tmp_path, in_memory=7)) == list(list_folder(tmp_path))
    assert [entry.is_dir for entry in list_folder(tmp_path, in_memory=7)].count(True) == 1


@pytest.mark.slow
@given(st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"/", b"\n"))), st.integers(1, 9))
def test_sorting_any_names(lines: list[bytes], in_memory: int) -> None:
    assert list(sorted_lines(lines, in_memory=in_memory)) == sorted(lines)


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "outside"
    touch(tmp_path, "in/a.jpg", "in/.store/s.jpg", "outside/o.jpg")
    (inside / "again").symlink_to(inside)
    (inside / "up").symlink_to(tmp_path)
    (inside / "elsewhere").symlink_to(outside)
    (inside / "elsewhere2").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    (inside / "self").symlink_to("self")
    (inside / "stored").symlink_to(".store")
    (inside / "dangling.jpg").symlink_to("nowhere.jpg")
    found = [page.image for page in scan([str(inside)], IN_PROCESS, follow_links=True)]
    assert found == ["a.jpg", "dangling.jpg", "elsewhere/o.jpg", "stored/s.jpg"]


def test_pipes_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    touch(tmp_path, "a.jpg")
    assert names(tmp_path) == ["a.jpg"]


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.jpg", "b/y.jpg")
    real = listing.open_folder

    def open_folder(path: Path, place: str) -> int:
        if path.name == "a":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, place)

    monkeypatch.setattr(listing, "open_folder", open_folder)
    said: list[str] = []
    assert names(tmp_path, warn=said.append) == ["b/y.jpg"]
    assert said == [f"{tmp_path}/a: folder skipped, it cannot be read (Permission denied)"]


def test_our_own_output_is_not_input(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/overlays/a.jpg", "other/out/b.jpg")
    assert names(tmp_path, exclude=tmp_path / "out") == ["a.jpg", "other/out/b.jpg"]
    assert names(tmp_path / "out", exclude=tmp_path / "out") == []
    touch(tmp_path, "out/c.jpg")
    assert names(tmp_path / "out", exclude=tmp_path / "out") == ["c.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg", "b[1].jpg"]),
        ("**/*.jpg", ["a.jpg", "b[1].jpg", "s1/c.jpg", "s1/t/d.jpg", "s2/e.jpg"]),
        ("s?/*.jpg", ["s1/c.jpg", "s2/e.jpg"]),
        ("s[1]", ["s1/c.jpg", "s1/t/d.jpg"]),
        ("*.raw", ["f.raw"]),
        ("*", ["a.jpg", "b[1].jpg", "s1/c.jpg", "s1/t/d.jpg", "s2/e.jpg"]),
        ("nothing*", []),
        ("b[1].jpg", ["b[1].jpg"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    touch(tmp_path, "a.jpg", "b[1].jpg", "s1/c.jpg", "s1/t/d.jpg", "s2/e.jpg", "f.raw", ".h/x.jpg")
    assert names(tmp_path / pattern) == expected


@given(
    parts=st.lists(st.sampled_from("ab"), min_size=1, max_size=5),
    pattern=st.lists(st.sampled_from(["a", "b", "*", "**"]), min_size=1, max_size=5),
)
def test_a_glob_matches_as_by_its_definition(parts: list[str], pattern: list[str]) -> None:
    def fits(parts: list[str], pattern: list[str]) -> bool:
        if not pattern or pattern[0] != "**":
            return not (parts or pattern) or bool(
                parts and pattern and pattern[0] in ("*", parts[0]) and fits(parts[1:], pattern[1:])
            )
        return fits(parts, pattern[1:]) or bool(parts and fits(parts[1:], pattern))

    on_the_way = [parts[:count] for count in range(1, len(parts) + 1)]
    assert matches(parts, tuple(pattern)) == any(fits(some, pattern) for some in on_the_way)


def test_a_glob_over_folders_a_thousand_deep() -> None:
    """Before: RecursionError, exit 70, and none of a folder's pictures was done."""
    deep = ["d"] * 1500
    assert matches([*deep, "z.png"], ("**", "*.png")) and not matches([*deep, "z.jpg"], ("**", "*.png"))


def test_documents_page_by_page(tmp_path: Path) -> None:
    (tmp_path / "five.pdf").write_bytes(pdf(5))
    (tmp_path / "three.tif").write_bytes(tiff(3))
    (tmp_path / "open.pdf").write_bytes(pdf(2, password=""))
    assert [(page.image, page.page) for page in found(tmp_path)] == [
        *(("five.pdf", page) for page in range(5)),
        *(("open.pdf", page) for page in range(2)),
        *(("three.tif", page) for page in range(3)),
    ]


def test_a_document_without_its_ending(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(pdf(2))
    (tmp_path / "fax.dat").write_bytes(tiff(3))
    assert [page.page for page in found(tmp_path / "scan", tmp_path / "fax.dat")] == [0, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("broken.pdf", b"%PDF-1.4 and then nothing"),
        ("empty.pdf", b""),
        ("locked.pdf", pdf(3, password="secret")),
        ("broken.tif", b"II*\0 and then nothing"),
        ("short.tif", tiff(3)[:60]),
    ],
    ids=["broken pdf", "empty pdf", "locked pdf", "broken tif", "short tif"],
)
def test_what_cannot_be_counted_is_one_page(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    said: list[str] = []
    assert [page.page for page in found(tmp_path, warn=said.append)] == [0]
    assert len(said) == 1 and said[0].startswith(f"{name}: its pages cannot be counted")


def test_members_of_archives(tmp_path: Path) -> None:
    members = {
        "x/a b.jpg": b"1",
        "readme.txt": b"2",
        "doc.pdf": pdf(2),
        ".hidden.jpg": b"3",
        "__MACOSX/x/a.jpg": b"4",
        "茶#1.png": b"5",
    }
    zipped(tmp_path / "a.zip", members)
    tarred(tmp_path / "b.tar.gz", members)
    tarred(tmp_path / "c.txz", members, "w:xz")
    shown = ["x/a b.jpg", "doc.pdf", "doc.pdf", "茶#1.png"]
    pages = found(tmp_path)
    expected = [f"{archive}/{name}" for archive in ("a.zip", "b.tar.gz", "c.txz") for name in shown]
    assert [page.image for page in pages] == expected
    storage = Storage((), tmp_path / "spool")
    for page in pages:
        with storage.open(page.uri) as path:  # the worker finds the same member
            assert path.read_bytes() == members[page.image.partition("/")[2]]


def test_members_that_want_out_stay_harmless(tmp_path: Path) -> None:
    zipped(tmp_path / "evil.zip", {"../../up.jpg": b"x", "/etc/abs.jpg": b"x", "..\\win.jpg": b"x"})
    shown = names(tmp_path)
    assert all(name.startswith("evil.zip/") and ".." not in name for name in shown) and len(shown) == 3
    assert sorted(os.listdir(tmp_path)) == ["evil.zip"]  # noqa: PTH208


def test_an_archive_in_an_archive_is_said(tmp_path: Path) -> None:
    zipped(tmp_path / "a.zip", {"inner.zip": b"PK", "a.jpg": b"x"})
    said: list[str] = []
    inner, page = found(tmp_path, warn=said.append)
    assert page == FoundPage("a.zip/a.jpg", file_uri(tmp_path / "a.zip", "zip+file", b"a.jpg"), 0)
    assert inner.problem and inner.problem.type == "UnsupportedFormat"  # a failed record, not only a warning
    assert said == ["a.zip/inner.zip: skipped, an archive inside an archive is not opened; unpack it first"]


def test_a_broken_archive_becomes_one_page_that_will_fail(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\3\4 and then nothing")
    said: list[str] = []
    (page,) = found(tmp_path, warn=said.append)
    assert (page.image, page.uri, page.page) == ("broken.zip", file_uri(tmp_path / "broken.zip"), 0)
    assert page.problem and page.problem.type == "CorruptImage" and "after 1 members" in page.problem.message
    assert said[0].startswith("broken.zip: the archive cannot be read to its end")


def test_a_torn_tar_keeps_what_it_had(tmp_path: Path) -> None:
    whole = tarred(tmp_path / "whole.tar.gz", {f"{number}.jpg": os.urandom(5000) for number in range(9)}).read_bytes()
    (tmp_path / "whole.tar.gz").unlink()
    (tmp_path / "torn.tar.gz").write_bytes(whole[: len(whole) // 2])
    shown = names(tmp_path)
    assert "torn.tar.gz/0.jpg" in shown and shown[-1] == "torn.tar.gz" and len(shown) < 9


def test_a_large_document_in_an_archive_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "COUNT_LIMIT", 100)
    zipped(tmp_path / "a.zip", {"doc.pdf": pdf(3)})
    said: list[str] = []
    assert [page.page for page in found(tmp_path, warn=said.append)] == [0]
    assert "larger than" in said[0]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_list_on_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, separator: bytes) -> None:
    touch(tmp_path, "a b.jpg", "sub/c.jpg", "raw")
    monkeypatch.chdir(tmp_path)
    listed = separator.join([b"./a b.jpg", os.fsencode(tmp_path / "raw"), b"sub", b"gone.jpg"]) + separator
    pages = found("-", stdin=io.BytesIO(listed))
    assert [page.image for page in pages] == ["a b.jpg", str(tmp_path / "raw"), "sub/c.jpg", "gone.jpg"]
    assert pages[1].uri == file_uri(tmp_path / "raw")


@given(
    st.lists(
        st.binary(min_size=1, max_size=9).map(lambda line: line.replace(b"\0", b"x")).filter(lambda line: line != b"\n")
    ),
    st.integers(1, 20),
)
def test_lists_survive_any_block_size(entries: list[bytes], block: int) -> None:
    stream = io.BytesIO(b"".join(entry + b"\0" for entry in entries))
    # The separator is found in the first block; `find -print0` writes names far shorter than a real block.
    if entries and len(entries[0]) >= block:
        block = len(entries[0]) + 1
    assert list(read_list(stream, block)) == entries


HOLDS_NO_LIST = """
import io, tracemalloc
from producer.sources.scan import scan
from tests.producer.records import IN_PROCESS
count = 30_000  # as a list, more than 12 MB
listed = io.BytesIO(b"".join(b"/nowhere/%08d.jpg\\n" % number for number in range(count)))
tracemalloc.start()
total = sum(1 for _ in scan(["-"], IN_PROCESS, stdin=listed))
print(total, tracemalloc.get_traced_memory()[1])
"""


def test_a_scan_holds_no_list() -> None:
    # In a process of its own: whatever else the test session allocates would be counted too.
    done = subprocess.run([sys.executable, "-c", HOLDS_NO_LIST], capture_output=True, text=True, check=True)
    total, peak = map(int, done.stdout.split())
    assert total == 30_000 and peak < 6_000_000


@given(st.binary(min_size=1).filter(lambda name: b"\0" not in name))
def test_display_is_always_valid_unicode(name: bytes) -> None:
    assert display(name).encode("utf-8")
