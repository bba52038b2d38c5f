"""Every command of `ocr-detector`, given what it cannot use: one clear line on stderr and the right exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector import models as weights
from detector.cli.main import cli, main

COMMANDS = cli.list_commands(None)  # type: ignore[arg-type]


QUICK_TUNE = ("tune", "--limit-side", "64", "--seconds", "0.01", "--threads", "1", "-o", "t.json")
CALIBRATE = ("--images", "data/train_images")
INT8 = str(weights.weights_path("dbnet-resnet18"))
MISTAKES: list[tuple[str, int, str]] = [
    # a bad path
    ("detect", 2, "Missing argument 'IMAGES...'"),
    ("detect nowhere.jpg", 1, "nowhere.jpg: cannot be opened"),
    ("detect empty", 4, "no images in empty"),
    ("detect data/val_images -o nowhere/x.jsonl", 2, "there is no folder nowhere"),
    ("detect data/val_images --model nowhere.onnx", 2, "nowhere.onnx: no such model file"),
    (
        "detect data/val_images --model nonsense",
        2,
        "no model 'nonsense' (known: dbnet-mobilenet-v3-small, dbnet-resnet18",
    ),
    ("evaluate", 2, "Missing option '--data'"),
    ("evaluate --data nowhere", 4, "nowhere: "),
    ("evaluate --data data --results nowhere.jsonl", 4, "nowhere.jsonl: cannot be read"),
    ("evaluate --data data --model nowhere.onnx", 2, "nowhere.onnx: no such model file"),
    ("train", 2, "give --data FOLDER"),
    ("train --data nowhere -o run", 4, "nowhere: no such folder"),
    ("train --data empty -o run", 4, "empty: has no train_list.txt"),
    ("train --data data", 2, "give -o RUN"),
    ("train --data data -o text.txt", 2, "text.txt"),
    ("train --data data -o run --init nowhere.pt", 2, "nowhere.pt: neither a shipped model"),
    ("train --data data -o run --distill nowhere.onnx", 2, "nowhere.onnx"),
    ("train --resume empty", 4, "--resume wants the folder of an earlier run"),
    ("export nowhere.pt -o x.onnx", 2, "nowhere.pt: neither a shipped model"),
    ("export -o nowhere/x.onnx", 2, "there is no folder nowhere"),
    ("export", 2, "Missing option '-o'"),
    ("quantize nowhere.onnx -o x.onnx", 4, "nowhere.onnx: no such file"),
    ("quantize model.onnx --images nowhere -o x.onnx", 4, "nowhere: no such folder"),
    ("quantize model.onnx --images empty -o x.onnx", 4, "empty: no images in it"),
    ("quantize model.onnx -o x.onnx", 2, "give --images FOLDER or --data FOLDER"),
    ("quantize model.onnx --images data/train_images -o nowhere/x.onnx", 2, "there is no folder nowhere"),
    ("tune --model nowhere.onnx", 2, "nowhere.onnx: no such model file"),
    ("tune -o text.txt/t.json", 2, "cannot be written"),
    ("models --nonsense", 2, "No such option '--nonsense'"),
    ("import-weights nowhere.pt", 4, "nowhere.pt: no such file"),
    ("prune --data data", 2, "give -o RUN"),
    ("prune -o slim", 2, "give --data FOLDER"),
    ("prune --data nowhere -o slim", 4, "nowhere: no such folder"),
    ("prune nowhere.pt --data data -o slim", 2, "nowhere.pt: neither a shipped model"),
    ("prune --resume empty", 4, "--resume wants the folder of an earlier"),
    # a bad image, or bad ground truth
    ("detect text.txt", 1, "text.txt: not an image"),
    ("evaluate --data bad-image", 4, "a.png: not an image"),
    ("evaluate --data bad-line --model model.onnx", 4, "a.txt:1: expected x1,y1"),
    ("evaluate --data data --results text.txt", 4, "text.txt:1: not a record"),
    ("quantize model.onnx --images bad-image/train_images -o x.onnx", 4, "a.png: not an image"),
    # a bad size
    ("detect text.txt --limit-side 5", 2, "5 is not in the range"),
    ("evaluate --data data --limit-side 99999", 2, "99999 is not in the range"),
    ("train --data data -o run --crop 100", 2, "the nearest is 96"),
    ("train --data data -o run --crop 9999", 2, "9999 is not in the range"),
    ("prune --data data -o slim --crop 100", 2, "the nearest is 96"),
    ("prune --data data -o slim --ratio 1.5", 2, "1.5 is not in the range"),
    ("export -o x.onnx --size 810", 2, "the nearest is 800"),
    ("export -o x.onnx --size 100", 2, "the nearest is 320"),
    ("export -o x.onnx --size 5000", 2, "the nearest is 1536"),
    ("export -o x.onnx --size -3", 2, "the nearest is 320"),
    ("export -o x.onnx --height 800 --width 1000", 2, "the nearest is 992"),
    ("export -o x.onnx --size large", 2, "'large' is not a valid integer"),
    ("tune --limit-side 5", 2, "5 is not in the range"),
    # wrong keys, or a file of another kind
    ("detect text.txt --model junk.onnx", 2, "junk.onnx: ONNX Runtime cannot load it"),
    ("detect text.txt --model input.onnx", 2, "input.onnx: expected input 'image'"),
    ("detect text.txt --model fixed.onnx", 2, "fixed.onnx: has a fixed input size (320x320)"),
    ("evaluate --data data --model fixed.onnx", 2, "fixed.onnx: has a fixed input size (320x320)"),
    ("detect text.txt --model junk.pt", 2, "junk.pt: auto reads .onnx files"),
    ("detect text.txt --model junk.pt --runtime torch", 2, "junk.pt: cannot be loaded as weights"),
    ("detect text.txt --model keys.pt --runtime torch", 2, "keys.pt: not a DBNet of this project"),
    ("detect text.txt --model model.onnx --runtime torch", 2, "torch reads .safetensors files"),
    ("evaluate --data data --model junk.onnx", 2, "junk.onnx: ONNX Runtime cannot load it"),
    ("evaluate --data data --model keys.pt --runtime torch", 2, "keys.pt: not a DBNet of this project"),
    ("train --data data -o run --init junk.pt", 2, "junk.pt: cannot be loaded as weights"),
    ("train --data data -o run --init keys.pt", 2, "not a DBNet of this project"),
    ("train --data data -o run --init model.onnx", 2, "an ONNX file cannot be trained"),
    ("train --data data -o run --distill junk.onnx", 2, "junk.onnx: not an ONNX file"),
    ("train --resume broken-run", 2, "config.json: not the settings of a run"),
    ("train --resume odd-run", 2, "Expected `int`, got `str` - at `$.epochs`"),
    ("train --resume vast-run", 2, "config.json: larger than 1 MB"),
    ("prune --resume vast-run", 2, "prune.json: larger than 1 MB"),
    ("quantize vast.onnx --dynamic -o x.onnx", 2, "vast.onnx: larger than 1024 MB"),
    ("import-weights vast.onnx -o x.onnx", 2, "vast.onnx: larger than 1024 MB"),
    ("prune junk.pt --data data -o slim", 2, "junk.pt: cannot be loaded as weights"),
    ("prune keys.pt --data data -o slim", 2, "keys.pt: not a DBNet of this project"),
    ("prune model.onnx --data data -o slim", 2, "an ONNX file cannot be"),
    ("prune --resume broken-run --ratio 0.5", 2, "settings; leave out --ratio"),
    ("import-weights blind.onnx -o x.onnx", 2, "blind.onnx"),
    ("prune --resume broken-run", 2, "prune.json: not the plan of a run"),
    ("prune --resume odd-run", 2, "Expected `str`, got `int` - at `$.data`"),
    ("export junk.pt -o x.onnx", 2, "junk.pt: cannot be loaded as weights"),
    ("export junk.safetensors -o x.onnx", 2, "junk.safetensors: not a safetensors file"),
    ("export keys.pt -o x.onnx", 2, "keys.pt: not a DBNet of this project"),
    ("export model.onnx -o x.onnx", 2, "an ONNX file cannot be trained or exported"),
    ("quantize junk.onnx --images data/train_images -o x.onnx", 2, "junk.onnx: not an ONNX file"),
    ("quantize keys.pt --dynamic -o x.onnx", 2, "keys.pt: not an ONNX file"),
    ("quantize input.onnx --images data/train_images -o x.onnx", 2, "expected the input 'image', found ['x']"),
    ("quantize flat.onnx --images data/train_images -o x.onnx", 2, "flat.onnx: its input has 2 dimensions"),
    (f"quantize {INT8} --images data/train_images -o x.onnx", 2, "is int8 already"),
    ("tune --limit-side 64 --seconds 0.01 --threads 1 -o t.json --model junk.onnx", 2, "nothing ran: junk.onnx: ONNX"),
    ("models", 2, "mine.json: the model card is not readable JSON"),
    ("import-weights text.txt -o x.safetensors", 2, "text.txt: "),
    ("import-weights keys.pt -o x.safetensors", 2, "keys.pt: "),
    ("import-weights junk.onnx -o x.onnx", 2, "junk.onnx"),
    ("import-weights keys.pt -o x.txt", 2, "give a name that ends in .safetensors or .onnx"),
]
LISTED = [
    (f"{command} --data {data} -o fresh", says)
    for command in ("train", "prune")
    for data, says in (("bad-image", "a.png: not an image"), ("bad-line", "a.txt:1: "))
]


def told(capsys: pytest.CaptureFixture[str], words: list[str]) -> tuple[int, list[str]]:
    """Exit code, and what stands on stderr."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code, [line for line in capsys.readouterr().err.splitlines() if line.strip()]


@pytest.fixture
def in_place(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OCRFLEET_MODELS", "cards")
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    return place


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code", "says"), MISTAKES, ids=[words for words, *_ in MISTAKES])
def test_one_line_and_the_right_code(
    in_place: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, says: str
) -> None:
    got, lines = told(capsys, words.split())
    lines = [line for line in lines if not line.startswith("note: this machine is busy")]
    assert (got, len(lines)) == (code, 1), lines
    assert says in lines[0]
    assert "Traceback" not in lines[0]
    assert not list(in_place.glob("x.*"))  # nothing half-made is left behind


@pytest.mark.parametrize(("words", "says"), LISTED)
def test_data_folders_are_checked_in_full_before_training(
    in_place: Path, capsys: pytest.CaptureFixture[str], words: str, says: str
) -> None:
    """Every problem of the folder is a line: one in each of the two splits, and the sum."""
    code, lines = told(capsys, words.split())
    assert (code, len(lines)) == (4, 3)
    assert says in lines[0]
    assert says in lines[1]
    assert not (in_place / "fresh").exists()


def test_every_command_has_been_asked() -> None:
    assert {words.split()[0] for words, *_ in MISTAKES} == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples(name: str) -> None:
    command = cli.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert "Examples:" in (command.help or "")
    assert f"ocr-detector {name}" in (command.help or "")


def test_interrupted_where_nothing_takes_time(
    in_place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(weights, "load_card", interrupted)
    assert told(capsys, ["models"]) == (130, ["interrupted"])


def test_no_memory_is_one_line(
    in_place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(weights, "load_card", exhausted)
    code, (line,) = told(capsys, ["models"])
    assert code == 1
    assert "not enough memory" in line


def test_a_bug_is_reported_as_one(
    in_place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """numpy's ValueError is no mistake of the user's: a line that says where to report it, a traceback, exit 70."""

    def broken(*_: object) -> None:
        raise ValueError("operands could not be broadcast together with shapes (2,) (3,)")

    monkeypatch.setattr(weights, "load_card", broken)
    code, lines = told(capsys, ["models", "--json"])
    assert code == 70
    assert lines[0].startswith("This is a bug in ocrfleet ")
    assert lines[0].endswith("met by: ocr-detector models --json")
    assert "Please report it" in lines[1]
    assert lines[2].startswith("Traceback")
    assert lines[-1] == "ValueError: operands could not be broadcast together with shapes (2,) (3,)"
