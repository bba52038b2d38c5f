"""Which model "auto" is: the best public one where it was fetched, our own elsewhere, and what was named otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.cli.main import main
from detector.models import BEST_PUBLIC_MODEL, DEFAULT_MODEL, choose_model
from detector.public.models import fetched_folder
from tests.detector.tiny_model import write_tiny_model
from tests.pictures import write_images
from worker.settings import read_settings


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with a network by the public model's name."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OCRFLEET_MODEL", raising=False)
    path = fetched_folder("detector") / f"{BEST_PUBLIC_MODEL}.onnx"
    path.parent.mkdir(parents=True)
    write_tiny_model(path)
    return path


def test_ours_until_another_is_fetched(fetched: Path) -> None:
    assert choose_model() == BEST_PUBLIC_MODEL
    assert read_settings({}).model == BEST_PUBLIC_MODEL
    fetched.unlink()
    assert choose_model() == DEFAULT_MODEL
    assert read_settings({"OCRFLEET_MODEL": "auto"}).model == DEFAULT_MODEL


@pytest.mark.parametrize("named", [DEFAULT_MODEL, "dbnet-resnet18-slim", "mine.onnx"])
def test_a_named_model_stays(fetched: Path, named: str) -> None:
    assert choose_model(named) == named
    assert read_settings({"OCRFLEET_MODEL": named}).model == named


def test_torch_reads_no_public_model(fetched: Path) -> None:
    assert choose_model(runtime="torch") == DEFAULT_MODEL
    assert read_settings({"OCRFLEET_RUNTIME": "torch"}).model == DEFAULT_MODEL


def test_one_line_says_so(fetched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (image,) = write_images(tmp_path / "in", 1)
    for words, said in ([], True), (["--model", DEFAULT_MODEL], False):
        with pytest.raises(SystemExit) as ended:
            main(["detect", str(image), *words])
        assert not ended.value.code
        out, err = capsys.readouterr()
        name = BEST_PUBLIC_MODEL if said else DEFAULT_MODEL
        assert f'"model":{{"name":"{name}"' in out.replace(": ", ":")
        assert (f"model {BEST_PUBLIC_MODEL}, which was fetched to this machine" in err) is said
