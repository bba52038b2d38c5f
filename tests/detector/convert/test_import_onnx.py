from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from detector.cli.import_weights import import_weights
from detector.convert.import_onnx import CONVENTIONS
from detector.convert.import_weights import ImportWeightsError, import_onnx
from detector.convert.quantize import quantize_static
from detector.models import load_card
from detector.predictor import TextDetector
from tests.detector.commands import run_command
from tests.detector.training.pages import make_pages

PPOCR = CONVENTIONS["ppocr"]


def page(height: int = 96, width: int = 160) -> np.ndarray:
    """Coloured squares, no two channels alike."""
    noise = np.random.default_rng(3).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return np.kron(noise, np.ones((8, 8, 1), np.uint8))


class Detector(nn.Module):
    """The DB family in small: features at 1/4, two transposed convolutions; ``form`` is that of its output."""

    def __init__(self, form: str = "probability", first: str = "Conv") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.first = form, first
        self.gains = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1))
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 2, 1)
        self.up1, self.up2 = nn.ConvTranspose2d(8, 8, 2, 2), nn.ConvTranspose2d(8, 1, 2, 2)
        for layer in (self.conv1, self.conv2, self.up1, self.up2):
            nn.init.normal_(layer.weight, 0, 0.25)

    def forward(self, image: Tensor) -> Tensor:
        if self.first == "Mul":
            image = image * self.gains
        features = torch.relu(self.conv2(torch.relu(self.conv1(image))))
        if self.form == "frozen":  # a size written into the graph, as tracing a Python number does
            features = features.reshape(1, 8, 24, 40)
        logits = self.up2(torch.relu(self.up1(features)))
        if self.form == "logits":
            return 4 * logits
        found = torch.sigmoid(logits)
        if self.form == "three maps":
            return torch.cat((found, 1 - found, found * found), dim=1)
        if self.form == "no channel":
            return found[:, 0]
        return found


def write(
    path: Path,
    network: nn.Module,
    *,
    names: tuple[str, str] = ("x", "fetch_name_0"),
    free: bool = True,
    opset: int = 11,
) -> Path:
    axes = {name: {0: "n", 2: "h", 3: "w"} for name in names} if free else None
    with torch.inference_mode():
        torch.onnx.export(
            network.eval(),
            (torch.zeros(1, 3, 96, 160),),
            str(path),
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
    return path


def run_theirs(path: Path, pixels: np.ndarray, *, bgr: bool, mean: Any, std: Any) -> np.ndarray:
    """The original file with its own preparation of pixels."""
    image = pixels[:, :, ::-1] if bgr else pixels
    batch = ((image / 255.0 - np.array(mean)) / np.array(std)).astype(np.float32).transpose(2, 0, 1)[None]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0]
    kind = np.float16 if given.type == "tensor(float16)" else np.float32
    return np.asarray(session.run(None, {given.name: np.ascontiguousarray(batch, kind)})[0], np.float32)


@pytest.mark.parametrize("form", ["probability", "logits", "three maps", "no channel"])
@pytest.mark.parametrize("first", ["Conv", "Mul"])
@pytest.mark.parametrize("free", [True, False], ids=["any size", "one size"])
def test_every_form_of_network_keeps_its_map_and_gets_the_contract(
    tmp_path: Path, form: str, first: str, free: bool
) -> None:
    source, pixels = write(tmp_path / "x.onnx", Detector(form, first), free=free), page()
    truth = run_theirs(source, pixels, bgr=True, mean=PPOCR.mean, std=PPOCR.std)
    truth = truth[0] if form == "no channel" else truth[0, 0]
    truth = np.exp(-np.logaddexp(0, -truth)) if form == "logits" else truth
    assert truth.std() > 0.05
    imported = import_onnx(source, tmp_path / "m.fp32.onnx")
    graph = onnx.load(str(imported.path)).graph
    onnx.checker.check_model(str(imported.path), full_check=True)
    assert [item.name for item in (*graph.input, *graph.output)] == ["image", "probability"]
    assert any(node.op_type == "Gather" for node in graph.node[:3]) == (first == "Mul"), "colours turned in the weights"
    for runtime in ("onnxruntime", "openvino"):
        detector = TextDetector(imported.path, runtime=runtime)
        # Not near the right edge: OpenVINO pads to multiples of 128.
        assert np.abs(detector.probability(pixels) - truth)[:88, :120].max() < 1e-4
        assert detector.probability(page(64, 320)).shape == (64, 320)
    assert (
        np.abs(TextDetector(imported.path).probability(np.ascontiguousarray(pixels[:, :, ::-1])) - truth).max() > 0.01
    )


def test_the_card_holds_the_networks_own_mean_and_thresholds_in_rgb(tmp_path: Path) -> None:
    source = write(tmp_path / "det.onnx", Detector())
    imported = import_onnx(source, tmp_path / "pp.fp32.onnx", "pp-det")
    card = load_card(imported.path)
    assert (card.name, card.mean, card.std) == ("pp-det", (0.406, 0.456, 0.485), (0.225, 0.224, 0.229))
    assert (card.thresholds.binarize, card.thresholds.box_threshold, card.thresholds.unclip_ratio) == (0.4, 0.7, 1.2)
    origin = card.details["imported"]
    assert (origin["file"], origin["layout"], origin["channels"]) == ("det.onnx", "PP-OCR", "bgr")
    assert origin["mean"] == [0.485, 0.456, 0.406]


def test_int8_of_an_old_opset_calibrated_with_the_networks_own_mean(tmp_path: Path) -> None:
    source = write(tmp_path / "x.onnx", Detector())
    images = sorted((make_pages(tmp_path / "data", 3) / "train_images").iterdir())
    imported = import_onnx(source, tmp_path / "m.fp32.onnx", convention=CONVENTIONS["db"])
    quantize_static(imported.path, tmp_path / "m.int8.onnx", images, limit_side=160)
    graph = onnx.load(str(tmp_path / "m.int8.onnx")).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    (reader,) = [node for node in graph.node if "image" in node.input]
    # From -0.48 to 0.6 in 255 steps; with ImageNet's std it would be from -2.1 to 2.6.
    assert reader.op_type == "QuantizeLinear" and 0.002 < constants[reader.input[1]] < 0.006
    full, small = TextDetector(imported.path), TextDetector(tmp_path / "m.int8.onnx")
    assert small.card.mean == full.card.mean
    shown = page() // 8 + 200
    assert np.abs(full.probability(shown) - small.probability(shown)).mean() < 0.03


def test_fp16_files_with_weights_among_the_inputs(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel = numpy_helper.from_array((rng.standard_normal((1, 3, 5, 5)) / 8).astype(np.float16), "probability")
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT16, [1, 3, "h", "w"])
    weight = helper.make_tensor_value_info("probability", TensorProto.FLOAT16, [1, 3, 5, 5])  # a name of ours
    found = helper.make_tensor_value_info("image", TensorProto.FLOAT16, [1, 1, "h", "w"])
    nodes = [
        helper.make_node("Conv", ["input.1", "probability"], ["y"], pads=[2, 2, 2, 2], name="decoder.binarize.conv"),
        helper.make_node("Sigmoid", ["y"], ["image"]),
    ]
    graph = helper.make_graph(nodes, "g", [image, weight], [found], [kernel])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=4), tmp_path / "x.onnx")
    convention = CONVENTIONS["db"]
    truth = run_theirs(tmp_path / "x.onnx", page(), bgr=True, mean=convention.mean, std=convention.std)[0, 0]
    imported = import_onnx(tmp_path / "x.onnx", tmp_path / "m.onnx")
    card = load_card(imported.path)
    assert card.mean == pytest.approx((0.407871, 0.457525, 0.481094), abs=1e-6) and card.std == (1, 1, 1)
    assert np.abs(TextDetector(imported.path).probability(page()) - truth).max() < 5e-3


def run(*words: object) -> tuple[int, str]:
    return run_command(import_weights, *words)


def test_unknown_networks_need_to_be_told_whose_pixels_they_want(tmp_path: Path) -> None:
    source, pixels, target = write(tmp_path / "x.onnx", Detector(), names=("in", "out")), page(), tmp_path / "m.onnx"
    code, output = run(source, "-o", target)
    assert code == 2 and output.count("\n") == 1 and "--like ppocr|db|imagenet" in output and not target.exists()
    given = {"bgr": False, "mean": (0.8, 0.7, 0.6), "std": (0.3, 0.2, 0.1)}
    words = ["--channels", "rgb", "--mean", 0.8, 0.7, 0.6, "--std", 0.3, 0.2, 0.1]
    for how, theirs in ((words, given), (["--like", "imagenet", *words], given), (["--like", "ppocr"], None)):
        code, output = run(source, "-o", target, *how)
        assert code == 0 and str(target) in output
        truth = run_theirs(source, pixels, **(theirs or {"bgr": True, "mean": PPOCR.mean, "std": PPOCR.std}))[0, 0]
        assert np.abs(TextDetector(target).probability(pixels) - truth).max() < 1e-5
    assert run(source, "-o", target, "--channels", "rgb")[0] == 2


def test_without_a_target_the_whole_name_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    write(tmp_path / "there" / "PP-OCRv4.0_det.onnx", Detector(), names=("in", "out"))
    monkeypatch.chdir(tmp_path / "here")
    code, _ = run(tmp_path / "there" / "PP-OCRv4.0_det.onnx", "--like", "ppocr")
    assert code == 0
    assert sorted(file.name for file in Path().iterdir()) == ["PP-OCRv4.0_det.json", "PP-OCRv4.0_det.onnx"]


@pytest.mark.parametrize(
    ("name", "like"),
    [("DB_TD500_resnet18.onnx", "MhLiao"), ("text_detection_DB_IC15_resnet18_2021sep.onnx", "MhLiao")],
)
def test_opencvs_files_are_known_by_name(tmp_path: Path, name: str, like: str) -> None:
    source = write(tmp_path / name, Detector(), names=("input", "output"), free=False)
    assert like in import_onnx(source, tmp_path / "m.onnx").lines[0]


def test_what_is_no_detector_of_the_family_is_refused_in_one_line(tmp_path: Path) -> None:
    def refused(network: nn.Module, message: str, **how: Any) -> None:
        write(tmp_path / "x.onnx", network, **how)
        with pytest.raises(ImportWeightsError, match=rf"^{tmp_path}/x\.onnx: .*{message}") as caught:
            import_onnx(tmp_path / "x.onnx", tmp_path / "m.onnx")
        assert "\n" not in str(caught.value) and not (tmp_path / "m.onnx").exists()

    classifier = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    refused(classifier, r"for an image \(1, 3, 64, 96\) it gives \(1, 4\) instead of a map")
    refused(nn.Conv2d(3, 1, 3, 4, 1), r"it gives \(1, 1, 16, 24\) instead of a map")
    refused(Detector("frozen"), "works at 96x160 alone; export it again with dynamic height and width", free=False)
    with pytest.raises(ImportWeightsError, match=r"stays one: give -o m\.onnx"):
        import_onnx(tmp_path / "x.onnx", tmp_path / "m.safetensors")
