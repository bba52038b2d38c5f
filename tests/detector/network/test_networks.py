from pathlib import Path

import pytest
import torch

from detector.errors import ModelError
from detector.models import weights_path
from detector.network.build import (
    BACKBONES,
    build_network,
    load_network,
    network_from_state,
    read_state,
    recognise,
    save_half,
)
from detector.network.shufflenet import shuffle_channels


@pytest.mark.parametrize("backbone", BACKBONES)
def test_shapes_and_recognition(backbone: str) -> None:
    network = build_network(backbone, width=32).eval()
    with torch.inference_mode():
        image = torch.randn(2, 3, 64, 96)
        assert [stage.shape[2:] for stage in network.stages(image)] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        probability = network(image)
        assert probability.shape == (2, 1, 64, 96)
        assert probability.min() >= 0 and probability.max() <= 1
        assert torch.equal(torch.sigmoid(network.logits(image)[0]), probability)
    assert recognise(network.state_dict()) == (backbone, 32)


def test_shipped_weights_are_a_resnet18_of_width_128() -> None:
    network = load_network(weights_path("dbnet-resnet18", "fp16_safetensors"))
    assert (network.backbone, network.width) == ("resnet18", 128)
    assert sum(parameter.numel() for parameter in network.parameters()) == 11_594_528
    assert not network.training


def test_half_weights_round_trip(tmp_path: Path) -> None:
    network = build_network("resnet18", width=16)
    network.head[1].running_var[0] = 2e5  # type: ignore[union-attr, index]
    save_half(network.state_dict(), tmp_path / "w.safetensors")
    again = read_state(tmp_path / "w.safetensors")
    assert again.keys() == network.state_dict().keys()
    for key, value in network.state_dict().items():
        assert torch.allclose(again[key].float(), value.float(), rtol=1e-3, atol=1e-6), key


def test_shuffle_interleaves_the_halves() -> None:
    x = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle_channels(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_strange_files_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(1)}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"x\.pt: not a DBNet"):
        load_network(tmp_path / "x.pt")
    torch.save([1, 2], tmp_path / "y.pt")
    with pytest.raises(ModelError, match=r"y\.pt: holds no weights"):
        load_network(tmp_path / "y.pt")
    torch.save({"ema": 0.999, "model": {}}, tmp_path / "z.pt")
    with pytest.raises(ModelError, match=r"z\.pt: holds no weights"):
        load_network(tmp_path / "z.pt")
    with pytest.raises(ModelError, match="unknown backbone 'vgg'"):
        build_network("vgg")
    with pytest.raises(ModelError, match="width"):
        build_network("resnet18", width=30)


def test_a_network_is_rebuilt_from_the_shapes_of_its_tensors() -> None:
    state = build_network("resnet18", width=16).state_dict()
    for key in ("conv1.weight", "conv1.bias"):  # as layer1's inputs and outputs add to the stem's, both shrink
        state[key] = state[key][:40]
    for block in ("layer1.0", "layer1.1"):
        state[f"{block}.conv1.weight"] = state[f"{block}.conv1.weight"][:24, :40]
        state[f"{block}.conv1.bias"] = state[f"{block}.conv1.bias"][:24]
        state[f"{block}.conv2.weight"] = state[f"{block}.conv2.weight"][:40, :24]
        state[f"{block}.conv2.bias"] = state[f"{block}.conv2.bias"][:40]
    for key in ("layer2.0.conv1.weight", "layer2.0.downsample.0.weight", "fpn.lat.0.weight"):
        state[key] = state[key][:, :40]
    network = network_from_state(state)
    assert network.width == 16 and network.layer1[0].conv2.in_channels == 24  # type: ignore[union-attr, index]
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert network.conv1.weight.data_ptr() != state["conv1.weight"].data_ptr()  # type: ignore[union-attr]
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"][:, :32]
    with pytest.raises(ModelError, match=r"a damaged resnet18 network: .*40 channels"):
        network_from_state(state)
    del state["fpn.out.0.bias"]
    with pytest.raises(ModelError, match=r"fpn\.out\.0\.bias"):
        network_from_state(state)


@pytest.mark.parametrize("layer", ["features.0.0.weight", "features.10.block.1.0.weight"])
def test_layers_without_channels_are_damage(tmp_path: Path, layer: str) -> None:
    """Before: a traceback; the second has as many groups as channels."""
    state = build_network("mobilenet_v3_small", width=8).state_dict()
    torch.save(state | {layer: state[layer][:0]}, tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"m\.pt: a damaged mobilenet_v3_small network"):
        load_network(tmp_path / "m.pt")
