import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detector.cli import main
from detector.convert.export import export_onnx
from detector.convert.prune import PruneError, fixed_layers, kept_channels, prune_network, size_of
from detector.convert.quantize import quantize_static
from detector.models import load_card
from detector.network.build import BACKBONES, build_network, load_network, save_half
from detector.network.dbnet import DBNet
from detector.predictor import TextDetector
from detector.runtimes.torch import TorchRuntime
from detector.thresholds import Thresholds
from detector.training.trainer import Trainer
from tests.detector.cheap import compare_small, draw_no_curve
from tests.detector.convert.test_export import lively
from tests.detector.training.pages import make_pages


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    compare_small(monkeypatch)
    draw_no_curve(monkeypatch)


@pytest.mark.parametrize(
    ("channels", "ratio", "kept"),
    [(64, 0.3, 48), (128, 0.3, 88), (512, 0.5, 256), (16, 0.3, 16), (24, 0.9, 8), (1, 0.5, 1), (58, 0.3, 40)],
)
def test_channels_are_kept_in_eights_near_what_was_asked(channels: int, ratio: float, kept: int) -> None:
    assert kept_channels(channels, ratio) == kept


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_pruned_network_is_smaller_and_goes_everywhere(tmp_path: Path, backbone: str) -> None:
    network = lively(backbone, 32)
    pruned = prune_network(network, 0.3)
    before, after = size_of(network), size_of(pruned)
    # Both sides of most layers shrink by 30 % (0.49); the thinnest layers stay, and so do ShuffleNet's block outputs.
    share = {"resnet18": 0.6, "mobilenet_v3_small": 0.75, "shufflenet_v2_x1_0": 0.85}[backbone]
    assert 0.3 < after.parameters / before.parameters < share
    assert 0.3 < after.gmac / before.gmac < share
    save_half(pruned.state_dict(), tmp_path / "p.safetensors")
    loaded = load_network(tmp_path / "p.safetensors")
    assert (loaded.backbone, loaded.width) == (backbone, 24)
    found = loaded.state_dict()
    for key, value in pruned.state_dict().items():
        assert torch.allclose(found[key], value, rtol=1e-3, atol=1e-6), key
    parities = export_onnx(loaded, tmp_path / "p.fp32.onnx", (320, 320), dynamic=True)
    assert max(item.difference for item in parities) < 1e-3
    pages = sorted((make_pages(tmp_path / "data", 2, side=320) / "train_images").iterdir())
    quantize_static(tmp_path / "p.fp32.onnx", tmp_path / "p.int8.onnx", pages, limit_side=320)
    assert (tmp_path / "p.int8.onnx").stat().st_size < 0.5 * (tmp_path / "p.fp32.onnx").stat().st_size
    page = torch.randn(1, 3, 96, 64).clamp(-2, 2).numpy()
    with torch.inference_mode():
        truth = loaded(torch.from_numpy(page))[0, 0]
    assert torch.allclose(
        torch.from_numpy(TorchRuntime(tmp_path / "p.safetensors", precision="fp32").probability(page)), truth
    )
    small = TextDetector(tmp_path / "p.int8.onnx", limit_side=320)
    assert small.detect(pages[0]).width == 320


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small", "resnet18_plain"])
def test_channels_that_do_nothing_are_those_that_go(backbone: str) -> None:
    torch.manual_seed(0)
    network = build_network(backbone).eval()
    fixed = set(fixed_layers(network))
    with torch.no_grad():
        for layer in network.modules():
            if layer in fixed or not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d):
                continue
            dead = slice(kept_channels(len(layer.weight) if layer.weight.ndim == 1 else layer.out_channels, 0.3), None)
            layer.weight[(slice(None), dead) if isinstance(layer, nn.ConvTranspose2d) else dead] = 0
            if layer.bias is not None:
                layer.bias[dead] = 0
    image = torch.randn(1, 3, 64, 96)
    pruned = prune_network(network, 0.3)
    assert size_of(pruned).gmac < 0.65 * size_of(network).gmac
    with torch.inference_mode():
        for old, new in zip(network.logits(image), pruned.logits(image), strict=True):
            assert old.std() > 1e-3
            assert torch.allclose(old, new, atol=1e-4 * float(old.abs().max()))


def test_pruned_again_or_not_at_all() -> None:
    network = lively("mobilenet_v3_small", 32)
    state = {key: value.clone() for key, value in network.state_dict().items()}
    once = prune_network(network, 0.3)
    twice = prune_network(once, 0.3)
    assert size_of(twice).gmac < 0.8 * size_of(once).gmac
    untouched = network.state_dict()
    assert all(torch.equal(value, untouched[key]) for key, value in state.items())
    for ratio in (0.0, -1.0, 0.95, float("nan")):
        with pytest.raises(PruneError, match="not possible"):
            prune_network(network, ratio)
    with pytest.raises(PruneError, match="cuts nothing"):
        prune_network(network, 0.001)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights, made once."""
    folder = tmp_path_factory.mktemp("weights")
    save_half(lively("mobilenet_v3_small", 32).state_dict(), folder / "w.safetensors")
    (folder / "w.json").write_text('{"name": "w", "box_threshold": 0.4}')
    return folder


@pytest.fixture
def weights(made: Path, tmp_path: Path) -> Path:
    """Weights and their card, of this test alone."""
    for file in made.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "w.safetensors"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_pages(tmp_path / "data", 4)
    return make_pages(tmp_path / "data", 2, "val")


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.slow
def test_prune_from_the_command_line(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("detector.convert.prune.ROUNDS", 1)
    monkeypatch.setattr("detector.convert.prune.SIDE", 320)
    words = ["--crop", 64, "--batch-size", 2, "--limit-side", 160, "--device", "cpu", "--amp", "off"]
    out = tmp_path / "run"
    assert command("prune", weights, "--data", data, "--epochs", 2, *words, "-o", out) == 0
    printed = capsys.readouterr().out
    rows = {
        line[:12].strip(): line[12:].split() for line in printed.splitlines() if line[:7].strip() in ("before", "after")
    }
    assert list(rows) == ["before fp32", "after fp32", "before int8", "after int8"]
    for column in range(3):  # parameters, GMAC, MB
        assert float(rows["after fp32"][column]) < 0.8 * float(rows["before fp32"][column])
    assert all(float(row[3]) > 0 and 20 < float(row[4]) < 1000 and 0 <= float(row[5]) <= 1 for row in rows.values())
    assert (out / "table.txt").read_text() in printed and "less time" in printed
    assert load_card(out / "pruned.safetensors").thresholds == Thresholds(box_threshold=0.4)
    # The same run, interrupted after its first epoch and gone on with: the same network, bit for bit.
    again = tmp_path / "again"
    save = Trainer.save

    def interrupted(self: Trainer, path: Path) -> None:
        save(self, path)
        if path.name == "last.pt":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", interrupted)
        assert command("prune", weights, "--data", data, "--epochs", 2, *words, "--no-int8", "-o", again) == 130
    assert f"prune --resume {again}" in capsys.readouterr().err and not (again / "pruned.safetensors").exists()
    assert command("prune", weights, "--data", data, *words, "-o", again) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert command("prune", "--resume", again) == 0
    assert (again / "pruned.safetensors").read_bytes() == (out / "pruned.safetensors").read_bytes()
    assert "int8" not in (again / "table.txt").read_text()


def test_a_pruned_network_trains_on_resumes_and_exports(data: Path, weights: Path, tmp_path: Path) -> None:
    save_half(prune_network(load_network(weights), 0.3).state_dict(), tmp_path / "p.safetensors")
    words = ["--crop", 64, "--batch-size", 4, "--limit-side", 160, "--device", "cpu", "--amp", "off", "--epochs", 1]
    more = tmp_path / "more"
    assert command("train", "--data", data, "--init", tmp_path / "p.safetensors", *words, "-o", more) == 0
    assert command("train", "--resume", more) == 0
    assert load_network(more / "best.pt").width == 24
    assert command("export", more / "best.pt", "--size", 320, "-o", tmp_path / "m.onnx") == 0


def test_prune_without_training_is_prune_network(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.convert.prune.ROUNDS", 1)
    monkeypatch.setattr("detector.convert.prune.SIDE", 320)
    assert command("prune", weights, "--ratio", 0.5, "--epochs", 0, "-o", tmp_path / "run") == 0
    expected: DBNet = prune_network(load_network(weights), 0.5)
    found = load_network(tmp_path / "run" / "pruned.safetensors").state_dict()
    assert all(torch.allclose(found[key], value, rtol=1e-3) for key, value in expected.state_dict().items())
    assert json.loads((tmp_path / "run" / "prune.json").read_text())["ratio"] == 0.5


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["nothing", "--epochs", "0", "-o", "RUN"], 2, "nothing: neither a shipped model"),
        (["BAD", "--epochs", "0", "-o", "RUN"], 2, "bad.safetensors: not a safetensors file"),
        (["OK", "--epochs", "0", "--ratio", "1.5", "-o", "RUN"], 2, "1.5 is not in the range"),
        (["OK", "--epochs", "0", "--ratio", "0.001", "-o", "RUN"], 2, "cuts nothing"),
        (["OK", "-o", "RUN"], 2, "give --data"),
        (["OK", "--data", "nowhere", "-o", "RUN"], 4, "no such folder"),
        (["OK", "--data", "nowhere"], 2, "give -o RUN"),
        (["--resume", "nowhere"], 4, "wants the folder of an earlier"),
    ],
)
def test_prune_refuses_in_one_line(
    words: list[str], code: int, complaint: str, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no weights at all")
    names = {"OK": weights, "BAD": tmp_path / "bad.safetensors", "RUN": tmp_path / "run"}
    assert command("prune", *(names.get(word, word) for word in words)) == code
    complaints = capsys.readouterr().err
    assert complaint in complaints and "Traceback" not in complaints
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_named(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without torch in a process that has not imported it yet; the other one is imported where it is needed."""
    words = ["prune", str(weights), "--epochs", "0", "-o", str(tmp_path / "run")]
    code = "import sys; sys.modules['torch'] = None; from detector.cli.main import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    for package, ended, said in (
        ("torch", done.returncode, done.stderr),
        ("torch_pruning", command(*words), capsys.readouterr().err),
    ):
        assert ended == 2
        assert f"needs {package}," in said and "'ocrfleet[torch]'" in said
        assert len(said.splitlines()) == 1
