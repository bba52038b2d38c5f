"""What workers of `run` may open: the job's sources, where these can be said."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.job.output_folder import JobRequest
from producer.local.fleet import MOST_ROOTS, sources_as_roots


def request(*sources: Path | str, follow_links: bool = False) -> JobRequest:
    return JobRequest(job="j", sources=[str(source) for source in sources], follow_links=follow_links)


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "a.png").touch()
    (tmp_path / "link").symlink_to("in")
    both = f"{tmp_path}/in:{tmp_path}/a.png"
    assert sources_as_roots(request(tmp_path / "in", tmp_path / "a.png")) == both
    assert sources_as_roots(request(tmp_path / "link", tmp_path / "a.png")) == both
    assert sources_as_roots(request(tmp_path / "in" / "*.png")) == f"{tmp_path}/in"
    gone = tmp_path / "gone.png"
    assert sources_as_roots(request(tmp_path / "in", gone)) == f"{tmp_path}/in:{gone}", "nobody is freed by removing it"


@pytest.mark.parametrize("sources", [(), ("-",), ("s3://bucket/a",), ("in", "https://host/a"), ("in", "-")])
def test_what_cannot_be_said(sources: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    assert sources_as_roots(request(*sources)) == ""
    assert sources_as_roots(request("in", follow_links=True)) == ""


@pytest.mark.parametrize("name", ["a:b", " ", "a ", "s3:"])
def test_names_that_the_variable_cannot_hold(name: str, tmp_path: Path) -> None:
    """The folder that they lie in, if it can be said."""
    (tmp_path / name / "a:b").mkdir(parents=True)
    assert sources_as_roots(request(tmp_path / name)) == str(tmp_path)
    assert sources_as_roots(request(tmp_path / name / "a:b")) == ""


def test_files_by_the_thousand(tmp_path: Path) -> None:
    """What the kernel takes for one variable is 128 KB; `run *.png` has no such end."""
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    files = [tmp_path / "xy"[number % 2] / f"{number:0200}.png" for number in range(600)]
    for file in files:
        file.touch()
    assert sources_as_roots(request(*files)) == f"{tmp_path}/x:{tmp_path}/y"
    folders = [tmp_path / "x" / str(number) / "in" for number in range(MOST_ROOTS + 1)]
    assert sources_as_roots(request(*folders)) == ""


def test_a_source_of_a_thousand_links(tmp_path: Path) -> None:
    for number in range(1100):
        (tmp_path / f"l{number:04}.png").symlink_to(f"l{number + 1:04}.png")
    assert sources_as_roots(request(tmp_path / "l0000.png")) in ("", str(tmp_path))
