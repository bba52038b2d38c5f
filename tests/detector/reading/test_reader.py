"""Reading with a network whose answer is known: text, places of words, turned lines, batches, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from detector.errors import ModelError, NetworkFailed
from detector.memory import resident_bytes
from detector.models import ModelCard
from detector.predictor import TextDetector
from detector.reading import recogniser
from detector.reading.crop import cut, reading_quad
from detector.reading.ctc import Decoded, words
from detector.reading.models import load_reader_card
from detector.reading.reader import LineReader
from detector.reading.recogniser import Recogniser
from detector.record import box_records
from tests.detector.reading.tiny_reader import strip, write_tiny_reader


@pytest.fixture(scope="module")
def tiny_reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_reader(tmp_path_factory.mktemp("reader") / "colours.onnx")


@pytest.fixture(scope="module")
def network(tiny_reader: Path) -> Recogniser:
    return Recogniser(load_reader_card(tiny_reader))


def quad(left: float, top: float, right: float, bottom: float) -> tuple[tuple[float, float], ...]:
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def test_text_and_places(network: Recogniser) -> None:
    (line,) = network.read([strip("ab ca")])
    assert "".join(line.text) == "ab ca"
    assert line.score > 0.99
    # A character's colour fills the first 16 of its 24 pixels.
    assert np.allclose(line.places, [(24 * number + 8) / 120 for number in range(5)], atol=1e-6)
    first, second = words(line)
    assert (first.text, second.text) == ("ab", "ca")
    assert first.start == 0.0
    assert first.end == pytest.approx((24 + 8 + 12) / 120)
    assert second.start == pytest.approx((72 + 8 - 12) / 120)


def test_a_batch_reads_as_its_lines_alone(network: Recogniser) -> None:
    texts = ["abcabcabc", "a", "c b", "bb"]
    together = network.read([strip(text) for text in texts])
    alone = [network.read([strip(text)])[0] for text in texts]
    assert ["".join(line.text) for line in together] == texts
    for one, other in zip(together, alone, strict=True):
        assert np.allclose(one.places, other.places, atol=1e-6)


def test_batches_hold_similar_widths_and_few_bytes(network: Recogniser, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = [320, 1000, 300, 310, 40, 990, 3000]
    batches = list(network.batches(widths))
    assert sorted(number for batch in batches for number in batch) == list(range(len(widths)))
    for batch in batches:
        assert min(widths[number] for number in batch) >= 0.8 * max(widths[number] for number in batch)
    monkeypatch.setattr(recogniser, "BATCH_BYTES", 2 * 320 // 8 * 5 * 4)
    assert max(len(batch) for batch in network.batches(widths)) == 2


def test_words_never_overlap() -> None:
    line = Decoded(tuple("ab cd"), (0.1, 0.5, 0.52, 0.54, 0.9), (1.0,) * 5)
    first, second = words(line)
    assert first.end <= second.start
    assert words(Decoded((), (), ())) == []
    assert words(Decoded((" ",), (0.5,), (1.0,))) == []


def page_with_lines() -> tuple[np.ndarray, list[tuple[tuple[float, float], ...]], list[str]]:
    """A page with an upright line, one upside down, one downwards, one upwards, and one of twice the height."""
    page = np.zeros((600, 800, 3), np.uint8)
    page[20:68, 30:150] = strip("ab ca")
    page[100:148, 30:150] = strip("ab ca")[::-1, ::-1]
    page[200:320, 40:88] = np.rot90(strip("cab b"), -1)
    page[200:320, 140:188] = np.rot90(strip("cab b"), 1)
    page[400:496, 30:270] = cv2.resize(strip("bb aa"), (240, 96), interpolation=cv2.INTER_NEAREST)
    boxes = [quad(30, 20, 150, 68), quad(30, 100, 150, 148), quad(40, 200, 88, 320), quad(140, 200, 188, 320)]
    return page, [*boxes, quad(30, 400, 270, 496)], ["ab ca", "ab ca", "cab b", "cab b", "bb aa"]


def test_lines_in_any_direction(tiny_reader: Path) -> None:
    page, boxes, texts = page_with_lines()
    lines = LineReader(tiny_reader).read(page, boxes, 800, 600)
    assert [line.text for line in lines] == texts
    assert [line.angle % 360 for line in lines] == [0, 180, 90, 270, 0]
    assert all(line.score > 0.9 for line in lines)
    # The first word begins where reading begins.
    assert lines[0].words[0].points[0] == (30.0, 20.0)
    assert lines[1].words[0].points[0] == (150.0, 148.0)
    assert lines[2].words[0].points[0] == (88.0, 200.0)
    assert lines[3].words[0].points[0] == (140.0, 320.0)
    assert lines[4].words[1].points[0][0] == pytest.approx(30 + 240 * 68 / 120, abs=5)  # a step is 4.4 px


def test_boxes_are_in_original_pixels_whatever_the_page_was_opened_at(tiny_reader: Path) -> None:
    page, boxes, texts = page_with_lines()
    enlarged = [tuple((4 * x, 4 * y) for x, y in box) for box in boxes]
    reader = LineReader(tiny_reader)
    assert reader.side(enlarged, 3200, 2400) == 800  # the lines are 192 high, 48 are wanted
    lines = reader.read(page, enlarged, 3200, 2400)
    assert [line.text for line in lines] == texts
    assert lines[0].words[0].points[0] == (120.0, 80.0)


def test_a_tilted_line_is_straightened() -> None:
    page = np.zeros((400, 400, 3), np.uint8)
    matrix = cv2.getRotationMatrix2D((200, 200), 20, 1)
    page[176:224, 140:260] = strip("ab ca")
    tilted = cv2.warpAffine(page, matrix, (400, 400))
    corners = np.array(quad(140, 176, 260, 224)) @ matrix[:, :2].T + matrix[:, 2]
    found = cut(tilted, reading_quad(corners), 48)
    assert found.shape == (48, 120, 3)
    assert np.abs(found.astype(int) - strip("ab ca")).mean() < 12


def test_a_page_without_boxes(tiny_reader: Path) -> None:
    assert LineReader(tiny_reader).read(np.zeros((10, 10, 3), np.uint8), [], 10, 10) == []


@pytest.mark.parametrize(
    ("characters", "classes", "reason"),
    [(None, 5, "no list of its characters"), ("a\nb\n", 9, "not its list")],
)
def test_a_reader_without_its_characters(tmp_path: Path, characters: str | None, classes: int, reason: str) -> None:
    path = write_tiny_reader(tmp_path / "odd.onnx", characters=characters, classes=classes)
    with pytest.raises(ModelError, match=reason) as problem:
        LineReader(path)
    assert "odd.onnx" in str(problem.value)
    assert "\n" not in str(problem.value)


def test_characters_beside_the_network(tmp_path: Path) -> None:
    path = write_tiny_reader(tmp_path / "own.onnx", characters=None)
    (tmp_path / "own.txt").write_bytes(b"a\r\nb\r\nc\r\n")
    (line,) = Recogniser(load_reader_card(path)).read([strip("ab c")])
    assert "".join(line.text) == "ab c"


def test_a_detector_is_no_reader(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="no CTC recogniser"):
        LineReader(tiny_model)


@pytest.fixture
def red_is_text(tiny_model: Path, tmp_path: Path) -> Path:
    """The tiny detector with a card by which any pure colour is bright enough to be text."""
    model = tmp_path / "red.fp32.onnx"
    model.write_bytes(tiny_model.read_bytes())
    (tmp_path / "red.json").write_text(json.dumps({"mean": [0, 0, 0], "std": [0.1, 0.1, 0.1], "unclip_ratio": 0.01}))
    return model


def test_detect_and_read(red_is_text: Path, tiny_reader: Path) -> None:
    page = np.zeros((400, 640, 3), np.uint8)
    page[100:148, 100:340] = (255, 0, 0)  # one long a
    page[250:298, 100:340] = (0, 0, 255)
    detector = TextDetector(red_is_text, read=tiny_reader)
    found = detector.detect(page)
    assert found.lines is not None
    assert [line.text for line in found.lines] == ["a", "c"]
    assert found.text.split() == ["a", "c"]
    assert [word.text for word in found.words] == ["a", "c"]
    assert found.seconds["read"] > 0
    assert [box["text"] for box in found.to_dict()["boxes"]] == ["a", "c"]
    json.dumps(found.to_dict())
    assert [crop.shape[2] for crop in found.crops(page)] == [3, 3]
    drawn = found.draw(page)
    assert drawn.shape == page.shape
    assert (drawn != page).any()
    record = box_records(found.boxes, found.lines)[0]
    assert (record.text, record.order, record.angle) == ("a", 0, 0.0)


def test_without_read_nothing_is_read(red_is_text: Path) -> None:
    page = np.zeros((400, 640, 3), np.uint8)
    page[100:148, 100:340] = (255, 0, 0)
    found = TextDetector(red_is_text).detect(page)
    assert found.lines is None
    assert "read" not in found.seconds
    assert set(found.to_dict()["boxes"][0]) == {"points", "score"}
    with pytest.raises(ValueError, match="not read"):
        _ = found.text


def test_memory_admission_counts_the_reader(red_is_text: Path, tiny_reader: Path) -> None:
    limit = resident_bytes() + (512 << 20)  # this process may be large from the tests before
    alone = TextDetector(red_is_text, memory_limit=limit)
    reading = TextDetector(red_is_text, memory_limit=limit, read=tiny_reader)
    assert reading.max_bytes <= alone.max_bytes - (48 << 20)


def test_card_is_of_a_reader(tmp_path: Path) -> None:
    path = write_tiny_reader(tmp_path / "mine.onnx")
    (tmp_path / "mine.json").write_text(json.dumps({"kind": "detector"}))
    with pytest.raises(ModelError, match="reads none"):
        load_reader_card(path)
    assert ModelCard("x", path, "", "fp32").channels == "rgb"


@pytest.mark.parametrize(
    "card", ['{"std": [0, 1, 1]}', '{"mean": [NaN, 0, 0]}', '{"height": Infinity}', '{"height": 0}']
)
def test_a_card_that_would_make_any_line_unreadable(tmp_path: Path, card: str) -> None:
    path = write_tiny_reader(tmp_path / "mine.onnx")
    (tmp_path / "mine.json").write_text(card)
    with pytest.raises(ModelError, match=r"mine\.json: mean and std are three numbers each, height one"):
        load_reader_card(path)


@pytest.mark.parametrize("what", ["nan", "steps", "classes"])
def test_what_a_recogniser_says_that_is_no_text(tmp_path: Path, what: str) -> None:
    """Before: a NaN was read as some character, with a score that is no JSON; others were tracebacks."""
    path = write_tiny_reader(tmp_path / "mine.onnx")
    model = onnx.load(path)
    last = model.graph.node[-1]
    last.output[0] = "z"
    if what == "nan":
        node = helper.make_node("Mul", ["z", "extra"], ["y"])
        extra = np.array([1, 1, np.nan, 1, 1], np.float32)
    else:  # the first two classes, or no step
        node = helper.make_node("Compress", ["z", "extra"], ["y"], axis=2 if what == "classes" else 1)
        extra = np.array([what == "classes"] * 2)
    model.graph.node.append(node)
    model.graph.initializer.append(numpy_helper.from_array(extra, "extra"))
    for dimension in model.graph.output[0].type.tensor_type.shape.dim:
        dimension.Clear()
    onnx.save(model, path)
    with pytest.raises(NetworkFailed, match="not finite" if what == "nan" else "the recogniser's output is no text"):
        Recogniser(load_reader_card(path)).read([strip("ab")])
