import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from detector.cli.import_weights import import_weights
from detector.cli.train import train
from detector.convert.import_weights import ImportWeightsError, import_checkpoint
from detector.convert.prune import prune_network
from detector.convert.quantize import quantize_static
from detector.models import IMAGENET_MEAN, IMAGENET_STD, load_card
from detector.network.build import load_network, network_from_state
from detector.predictor import TextDetector, normalise
from detector.runtimes.torch import TorchRuntime
from tests.detector.cheap import compare_small, draw_no_curve
from tests.detector.commands import run_command
from tests.detector.convert import foreign_networks as foreign
from tests.detector.convert.foreign_networks import State, decoder_map, decoder_state, mmocr_map, mmocr_state
from tests.detector.training.pages import make_pages

NEAR = 1e-4
MODULE = "model.module."


def page(height: int = 96, width: int = 160) -> np.ndarray:
    """A picture that is not the same in any two channels, nor mirrored."""
    noise = np.random.default_rng(3).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.kron(noise, np.ones((8, 8, 1), np.uint8))


Published = tuple[Callable[[], State], Callable[[np.ndarray], Tensor], Callable[[State, Tensor], Tensor], str]
PUBLISHED: dict[str, Published] = {
    "modelscope": (decoder_state, foreign.modelscope_image, decoder_map, "ModelScope"),
    "modelscope while training": (
        partial(decoder_state, MODULE),
        foreign.modelscope_image,
        partial(decoder_map, prefix=MODULE),
        "ModelScope",
    ),
    "mhliao": (
        partial(decoder_state, MODULE, classifier=True),
        foreign.mhliao_image,
        partial(decoder_map, prefix=MODULE),
        "MhLiao/DB",
    ),
    "mhliao with biases": (
        partial(decoder_state, MODULE, classifier=True, bias=True),
        foreign.mhliao_image,
        partial(decoder_map, prefix=MODULE),
        "MhLiao/DB",
    ),
    "mmocr 1": (mmocr_state, foreign.mmocr_image, mmocr_map, "MMOCR"),
    "mmocr 0": (partial(mmocr_state, "bbox_head"), foreign.mmocr_image, partial(mmocr_map, head="bbox_head"), "MMOCR"),
}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    compare_small(monkeypatch)
    draw_no_curve(monkeypatch)


@pytest.mark.parametrize("name", PUBLISHED)
@torch.inference_mode()
def test_published_layouts_give_the_map_of_the_literal_network(tmp_path: Path, name: str) -> None:
    make, prepare, literal, project = PUBLISHED[name]
    state, pixels = make(), page()
    # As they are published: bare, in the format before torch 1.6, or beside the epoch.
    content = {"meta": {"epoch": 1200}, "state_dict": state} if project == "MMOCR" else state
    torch.save(content, tmp_path / "theirs.pth", _use_new_zipfile_serialization=project != "MhLiao/DB")
    imported = import_checkpoint(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    assert project in imported.lines[0]
    truth = literal(state, prepare(pixels))[0, 0].numpy()
    assert truth.std() > 0.1 and ((truth > 0.02) & (truth < 0.98)).mean() > 0.3, "a map that says nothing"
    assert np.abs(literal(state, prepare(pixels[:, :, ::-1]))[0, 0].numpy() - truth).max() > 0.05, "colours must matter"
    card = load_card(imported.path)
    found = TorchRuntime(imported.path, precision="fp32").probability(normalise(pixels, card.mean, card.std))
    assert np.abs(found - truth).max() < NEAR
    assert card.details["imported"]["threshold_branch"]
    branch = {"branch": "threshold"} if project == "MMOCR" else {"head": "thresh"}
    thresholds = literal(state, prepare(pixels), **branch)[0, 0].numpy()
    _, logits = load_network(imported.path).logits(torch.from_numpy(normalise(pixels, card.mean, card.std)))
    assert np.abs(logits.sigmoid()[0, 0].numpy() - thresholds).max() < NEAR
    assert np.abs(thresholds - truth).max() > 0.1


@torch.inference_mode()
def test_imported_onnx_runs_like_the_literal_network_and_quantizes(tmp_path: Path) -> None:
    state = decoder_state(MODULE, classifier=True)
    torch.save(state, tmp_path / "td500_resnet18")  # MhLiao's files have no ending
    code, output = run_command(
        import_weights, tmp_path / "td500_resnet18", "-o", tmp_path / "m.fp32.onnx", "--name", "td500"
    )
    assert code == 0 and "MhLiao/DB" in output and "openvino" in output
    detector = TextDetector(tmp_path / "m.fp32.onnx")
    assert detector.info.name == "td500" and detector.thresholds.box_threshold == 0.5
    pixels = page()
    truth = decoder_map(state, foreign.mhliao_image(pixels), MODULE)[0, 0].numpy()
    assert np.abs(detector.probability(pixels) - truth).max() < NEAR
    images = sorted((make_pages(tmp_path / "data", 3) / "train_images").iterdir())
    quantize_static(tmp_path / "m.fp32.onnx", tmp_path / "m.int8.onnx", images, limit_side=160)
    small = TextDetector(tmp_path / "m.int8.onnx")
    shown = page(160, 160) // 8 + 215  # as light as the pages it was calibrated on
    difference = np.abs(small.probability(shown) - detector.probability(shown))
    assert small.info.name == "td500" and difference.mean() < 0.05


def test_fine_tuning_starts_from_imported_weights(tmp_path: Path) -> None:
    state = {key: value for key, value in decoder_state().items() if ".thresh." not in key}
    torch.save(state, tmp_path / "pytorch_model.pt")
    imported = import_checkpoint(tmp_path / "pytorch_model.pt", tmp_path / "mine.safetensors")
    assert (
        "no threshold branch" in imported.lines[1]
        and not load_card(imported.path).details["imported"]["threshold_branch"]
    )
    make_pages(make_pages(tmp_path / "data", 2), 1, "val")
    words = [
        "--init",
        imported.path,
        "--epochs",
        1,
        "--batch-size",
        2,
        "--crop",
        64,
        "--limit-side",
        96,
        "--amp",
        "off",
    ]
    code, _ = run_command(train, "--data", tmp_path / "data", "--device", "cpu", "-o", tmp_path / "run", *words)
    assert code == 0
    tuned, before = load_network(tmp_path / "run" / "best.pt"), load_network(imported.path)
    assert tuned.backbone == "resnet18_plain"
    assert torch.equal(tuned.shift, before.shift)  # type: ignore[attr-defined]
    assert not torch.equal(tuned.head[6].weight, before.head[6].weight)


def deformable(state: State) -> None:
    state["backbone.layer2.0.conv2_offset.weight"] = torch.zeros(27, 128, 3, 3)


def deeper(state: State) -> None:
    state["backbone.layer1.0.conv3.weight"] = torch.zeros(256, 64, 1, 1)


def incomplete(state: State) -> None:
    del state["decoder.in3.weight"], state["backbone.layer4.1.bn2.running_var"]


def surplus(state: State) -> None:
    state["decoder.concat_attention.conv.weight"] = torch.zeros(64, 256, 3, 3)


def misshapen(state: State) -> None:
    state["decoder.thresh.0.weight"] = torch.zeros(64, 257, 3, 3)  # the option "serial"


def of_something_else(state: State) -> None:
    state.clear()
    state["encoder.0.weight"] = torch.zeros(3)


def of_ours(state: State) -> None:
    state["fpn.lat.0.weight"] = torch.zeros(128, 64, 1, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (deformable, r"deformable convolutions \(backbone\.layer2\.0\.conv2_offset\.weight\).*take the checkpoint"),
        (deeper, r"deeper than ResNet-18 \(backbone\.layer1\.0\.conv3\.weight\)"),
        (incomplete, r"ModelScope.*2 weights missing \(in our names: .*fpn\.lat\.1\.weight.*is the file whole"),
        (surplus, r"ModelScope.* with 1 key unknown \(decoder\.concat_attention\.conv\.weight\); import it as ONNX"),
        (misshapen, r"1 weight of another shape \(in our names: thr\.0\.weight\)"),
        (of_something_else, r"none of the known key layouts: 1 key \(encoder\.0\.weight\); known are ModelScope"),
        (of_ours, "is a model of this project already"),
    ],
)
def test_other_networks_are_refused_with_the_keys_and_the_remedy(
    tmp_path: Path, spoil: Callable[[State], None], message: str
) -> None:
    state = decoder_state()
    spoil(state)
    torch.save(state, tmp_path / "theirs.pt")
    with pytest.raises(ImportWeightsError, match=rf"^{tmp_path}/theirs\.pt: .*{message}") as caught:
        import_checkpoint(tmp_path / "theirs.pt", tmp_path / "x.safetensors")
    assert "\n" not in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["theirs.pt"]


def refused(tmp_path: Path, source: Path, *words: object) -> str:
    """The one line that the command says about a file it does not take."""
    code, output = run_command(import_weights, source, "-o", tmp_path / "out.safetensors", *words)
    assert code == 2 and output.count("\n") == 1 and output.startswith(f"{source}: ")
    assert not (tmp_path / "out.safetensors").exists() and not (tmp_path / "out.json").exists()
    return output


@pytest.mark.slow
def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "notes.pt").write_text("these are not weights\n")
    assert "keep the state_dict() alone" in refused(tmp_path, tmp_path / "notes.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    refused(tmp_path, tmp_path / "empty.pt")
    torch.save({"backbone.conv1.weight": torch.zeros(2)}, tmp_path / "cut.pt")
    whole = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path, tmp_path / "cut.pt")
    torch.save({"epoch": 3, "best": 0.8}, tmp_path / "log.pt")
    assert "holds no weights of a network" in refused(tmp_path, tmp_path / "log.pt")
    torch.save({"state_dict": decoder_state(), "history": Path("code")}, tmp_path / "code.pt")
    assert "more than plain weights" in refused(tmp_path, tmp_path / "code.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"\0" * 64)
    refused(tmp_path, tmp_path / "bad.safetensors")
    (tmp_path / "bad.onnx").write_bytes(b"no graph")
    code, output = run_command(import_weights, tmp_path / "bad.onnx", "-o", tmp_path / "x.onnx")
    assert code == 2 and "not an ONNX file" in output and output.count("\n") == 1


@pytest.mark.slow
def test_missing_files_wrong_names_and_cards_in_the_way(tmp_path: Path) -> None:
    code, output = run_command(import_weights, tmp_path / "nowhere.pt")
    assert code == 4 and output.startswith(f"{tmp_path}/nowhere.pt: no such file")
    save_file({"one": torch.ones(1)}, tmp_path / "a.safetensors")
    assert (
        "would be overwritten"
        in run_command(import_weights, tmp_path / "a.safetensors", "-o", tmp_path / "a.safetensors")[1]
    )
    torch.save(decoder_state(), tmp_path / "a.pt")
    (tmp_path / "b.json").write_text('["mine"]')
    code, output = run_command(import_weights, tmp_path / "a.pt", "-o", tmp_path / "b.safetensors")
    assert code == 2 and "b.json: is there already" in output
    assert (tmp_path / "b.json").read_text() == '["mine"]' and not (tmp_path / "b.safetensors").exists()
    for words in (["-o", "a.bin"], ["-o", tmp_path / "none" / "a.onnx"], ["--like", "db"]):
        code, output = run_command(import_weights, tmp_path / "a.pt", *words)
        assert code == 2 and "ocr-detector import-weights: " in output


def test_without_torch_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(b"")
    program = "import sys; sys.modules['torch'] = None; from detector.cli.main import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", program, "import-weights", str(tmp_path / "a.pt"), "-o", str(tmp_path / "b.onnx")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 2
    assert done.stderr.endswith(" needs torch, which is not installed: pip install 'ocrfleet[torch]'\n")
    assert done.stderr.count("\n") == 1


def test_the_card_says_where_the_weights_come_from(tmp_path: Path) -> None:
    torch.save(decoder_state(), tmp_path / "pytorch_model.pt")
    card = json.loads(import_checkpoint(tmp_path / "pytorch_model.pt", tmp_path / "m.safetensors").card.read_text())
    assert card["name"] == "m" and card["mean"] == list(IMAGENET_MEAN) and card["std"] == list(IMAGENET_STD)
    origin = card["imported"]
    assert (origin["file"], origin["channels"], origin["std"]) == ("pytorch_model.pt", "bgr", [1, 1, 1])
    assert origin["mean"] == [0.48502, 0.457961, 0.407608]


def test_imported_networks_can_be_pruned(tmp_path: Path) -> None:
    torch.save(decoder_state(), tmp_path / "pytorch_model.pt")
    network = load_network(import_checkpoint(tmp_path / "pytorch_model.pt", tmp_path / "m.safetensors").path)
    pruned = prune_network(network, 0.4).eval()
    again = network_from_state(pruned.state_dict()).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert torch.equal(again(image), pruned(image)) and again(image).shape == (1, 1, 64, 96)
    assert sum(map(torch.numel, again.parameters())) < 0.5 * sum(map(torch.numel, network.parameters()))
