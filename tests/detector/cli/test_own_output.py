"""What is written by its name: where another user put a link or a pipe of his there, nothing goes through it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from detector.cli.main import main
from detector.cli.own_output import own_target
from detector.runtimes import tuned
from tests.pictures import write_images
from tests.tools import missing

OTHER = 12345


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a file of the user's own beside it."""
    if os.geteuid() != 0:
        missing("needs root, to make links of another user")
    (tmp_path / "bashrc").write_text("alias mine=1")
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


def link(place: Path, target: str | Path, owner: int = OTHER) -> Path:
    place.symlink_to(target)
    os.lchown(place, owner, owner)
    return place


def write(path: Path) -> None:
    with open(path, "w", opener=own_target) as file:
        file.write("boxes")


@pytest.mark.parametrize("target", ["../bashrc", "../new", "own", "/dev/stdout", "nothing/x", "."])
def test_anothers_link_is_not_followed(project: Path, target: str) -> None:
    """Before: boxes went over a ~/.bashrc, where a picture called `$(cmd).jpg` ran cmd."""
    link(project / "own", "../bashrc", 0)
    path = link(project / "boxes.jsonl", target)
    for place in (path, link(project / "mine", path, 0), project / "../project/boxes.jsonl"):
        with pytest.raises(OSError, match=r"is a link of another user.*(boxes|mine)"):
            write(place)
    assert (project.parent / "bashrc").read_text() == "alias mine=1" and not (project.parent / "new").exists()


def test_ones_own_links_and_files_are(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "in").mkdir()
    there = link(project / "a", "in/b", 0)
    link(project / "in/b", "../../bashrc", 0)
    write(there)
    write(link(project / "c", "in/new", 0))
    monkeypatch.chdir(project)
    write(Path("plain"))
    write(link(Path("d"), "plain", 0))
    for file in (project.parent / "bashrc", project / "in/new", project / "plain"):
        assert file.read_text() == "boxes" and stat.S_ISREG(file.lstat().st_mode)
    for name in ("one", "two"):
        link(project / name, "two" if name == "one" else "one", 0)
    with pytest.raises(OSError, match="Too many levels"):
        write(project / "one")


def test_pipes(project: Path) -> None:
    """Of another's nobody need ever read; ours, `/dev/stdout` and `>(command)` are written to."""
    os.mkfifo(project / "pipe")
    reader = os.open(project / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write(project / "pipe")
    assert os.read(reader, 9) == b"boxes"
    os.chown(project / "pipe", OTHER, -1)
    with pytest.raises(PermissionError, match="another user's pipe"):
        write(project / "pipe")
    code = "import sys; from tests.detector.cli.test_own_output import *; [write(Path(p)) for p in sys.argv[1:]]"
    command = f'"{sys.executable}" -c "{code}" /dev/stdout /dev/null >(cat) /dev/fd/1 | cat'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "boxes" * 3, done.stderr


def test_commands_say_it_in_a_line(project: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`-o FILE` of detect; folders of pictures; and what `tune` tries first, whose name was known."""
    album = project.parent / "album"
    album.mkdir()
    boxes, folder = link(project / "boxes.jsonl", "../bashrc"), link(project / "seen", album)
    for words in (
        ("detect", tiny_model, "--model", tiny_model, "-o", boxes),
        ("detect", tiny_model, "--model", tiny_model, "--overlays", folder),
        ("evaluate", "--data", album, "--worst", 1, "-o", folder),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        said = capsys.readouterr().err.splitlines()
        assert ended.value.code == 2 and len(said) == 1 and "is a link of another user" in said[0], said
    link(project / f".tune.json.{os.getpid()}", album / "new")
    tuned.check_writable(project / "tune.json")
    assert (project.parent / "bashrc").read_text() == "alias mine=1" and not list(album.iterdir())


@pytest.mark.slow
def test_results_take_no_pictures_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before: `detect *.jpg` where a stranger's file is named `-oholiday.jpg` wrote over holiday.jpg."""
    write_images(tmp_path, 1)
    [picture] = tmp_path.iterdir()
    (tmp_path / "all.zip").write_bytes(b"PK\x03\x04")
    (tmp_path / "boxes.jsonl").write_text('{"image": "%PDF-1.7.jpg"}')  # results of before
    for name, is_refused in ((picture.name, True), ("all.zip", True), ("boxes.jsonl", False)):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(SystemExit) as ended:
            main(["detect", f"-o{tmp_path / name}", "--model", "none", str(picture)])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and ("there is a picture or an archive; name a new file" in said) is is_refused
        assert (tmp_path / name).read_bytes() == before and said.count("\n") == 1
