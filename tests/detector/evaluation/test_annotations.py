from pathlib import Path

import pytest

from detector.evaluation.annotations import (
    AnnotationError,
    find_problems,
    list_split,
    parse_line,
    read_annotations,
    read_split,
)


def make_folder(root: Path, gt: str = "1,2,30,2,30,12,1,12,hello\n", listed: str = "a.jpg\n") -> Path:
    for name in ("train_images", "train_gts"):
        (root / name).mkdir(parents=True)
    (root / "train_images/a.jpg").write_bytes(b"")
    (root / "train_gts/a.txt").write_text(gt, encoding="utf-8")
    (root / "train_list.txt").write_text(listed, encoding="utf-8")
    return root


def test_line_with_commas_in_its_label() -> None:
    region = parse_line("1,2,30,2,30,12,1,12,a, b, c")
    assert region.points == ((1, 2), (30, 2), (30, 12), (1, 12))
    assert (region.label, region.ignore) == ("a, b, c", False)


def test_hashes_mean_ignore_and_a_label_is_optional() -> None:
    assert parse_line("1,2,30,2,30,12,1,12,###").ignore
    assert parse_line("1,2,30,2,30,12,1,12").label == ""


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("1,2,3", "found 3 comma-separated fields"),
        ("1,2,x,2,30,12,1,12,t", "coordinate 3 is 'x', not a number"),
        ("1,2,nan,2,30,12,1,12,t", "not a finite number"),
        ("1,2,1e12,2,30,12,1,12,t", "coordinate 3 is 1e.12, beyond 1,000,000 pixels"),
        ("1,2,30,2,30,-1000001,1,12,t", "coordinate 6 is -1e.06, beyond"),
        ("1,1,1,1,1,1,1,1,t", "fewer than three different points"),
    ],
)
def test_bad_lines_say_what_is_wrong(line: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_line(line)


def test_byte_order_mark_and_blank_lines_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_bytes(b"\xef\xbb\xbf1,2,30,2,30,12,1,12,\xe5\xad\x97\r\n\r\n")
    assert [region.label for region in read_annotations(file)] == ["字"]


def test_bad_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "gt.txt"
    file.write_text("1,2,30,2,30,12,1,12,ok\n1,2,oops\n")
    with pytest.raises(AnnotationError, match=r"gt\.txt:2: "):
        read_annotations(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AnnotationError, match="not UTF-8"):
        read_annotations(file)


@pytest.mark.parametrize(
    "listed", ["a.jpg\n", "a.jpg a.txt\n", "a.jpg\ta.txt\n", "./train_images/a.jpg train_gts/a.txt\n"]
)
def test_lists_hold_names_or_pairs(tmp_path: Path, listed: str) -> None:
    (sample,) = read_split(make_folder(tmp_path, listed=listed), "train")
    assert (sample.image.name, sample.annotation.name) == ("a.jpg", "a.txt")
    assert len(sample.regions()) == 1


@pytest.mark.parametrize("name", ["gt_a.txt", "a.jpg.txt"])
def test_other_names_of_ground_truth(tmp_path: Path, name: str) -> None:
    folder = make_folder(tmp_path)
    (folder / "train_gts/a.txt").rename(folder / "train_gts" / name)
    assert read_split(folder, "train")[0].annotation.name == name


def test_names_with_blanks_are_not_pairs(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, listed="my photo.jpg\n")
    (folder / "train_images/my photo.jpg").write_bytes(b"")
    (folder / "train_gts/my photo.txt").write_text("1,2,30,2,30,12,1,12,x\n")
    assert read_split(folder, "train")[0].image.name == "my photo.jpg"


def test_every_problem_is_found_in_one_go(tmp_path: Path) -> None:
    folder = make_folder(tmp_path, gt="1,2\nx,2,30,2,30,12,1,12,t\n", listed="a.jpg\nmissing.jpg\n")
    problems = find_problems(folder)
    assert len(problems) == 3
    assert "train_list.txt:2: image 'missing.jpg' is not in" in problems[0]
    assert "a.txt:1: " in problems[1] and "a.txt:2: " in problems[2]
    assert len(list_split(folder, "train")[0]) == 1


def test_folders_that_are_none(tmp_path: Path) -> None:
    assert "no such folder" in find_problems(tmp_path / "nowhere")[0]
    assert "ICDAR-style" in find_problems(tmp_path)[0]
    with pytest.raises(AnnotationError, match="neither"):
        read_split(tmp_path, "train")
