from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.evaluation.annotations import find_problems, read_split
from detector.training.synth import document as synth_document
from detector.training.synth import font as synth_font
from detector.training.synth import sign as synth_sign
from detector.training.synth.background import add_patterns, pattern_tile, pick_ground, surface
from detector.training.synth.bars import add_bars
from detector.training.synth.contact_sheet import make_sheet
from detector.training.synth.document import make_document
from detector.training.synth.font import (
    draw_ink,
    find_faces,
    missing_packages,
    pick_face,
    simplified_characters,
    traditional_characters,
)
from detector.training.synth.layer import Layer
from detector.training.synth.paper import Paper, wear
from detector.training.synth.pictogram import make_picture
from detector.training.synth.render import make_page, read_photos, render
from detector.training.synth.scene import clip_quad, make_scene, spoil
from detector.training.synth.sign import make_blank_sign, make_line, make_sign
from detector.training.synth.text import brand, chinese_sign, latin_sign, number

SANS = next(face for face in find_faces()[0] if "Sans" in face.path.name)


def test_characters_of_the_standards() -> None:
    assert len(simplified_characters()) == 3755 and simplified_characters()[0] == "啊"
    assert len(simplified_characters(2)) == 6763
    assert len(traditional_characters()) >= 5400 and "國" in traditional_characters()


def test_ink_is_cropped_and_vertical_text_is_tall() -> None:
    flat, tall = draw_ink(SANS, "EXIT 42", 30), draw_ink(SANS, "EXIT", 30, vertical=True)
    assert flat is not None and tall is not None
    assert flat.shape[1] > 2 * flat.shape[0] and tall.shape[0] > 2 * tall.shape[1]
    assert flat[0].max() > 40 and flat[:, -1].max() > 40
    assert draw_ink(SANS, " ", 30) is None


def test_spaced_bent_and_jittered_lines_are_longer_or_higher() -> None:
    plain = draw_ink(SANS, "HOTEL", 40)
    spaced, bent = draw_ink(SANS, "HOTEL", 40, spacing=1.0), draw_ink(SANS, "HOTEL", 40, arc=0.5)
    stray = draw_ink(SANS, "HOTEL", 40, jitter=0.1)
    assert plain is not None and spaced is not None and bent is not None and stray is not None
    assert abs(spaced.shape[1] - plain.shape[1] - 4 * 40) < 12
    assert plain.shape[0] + 14 < bent.shape[0] < plain.shape[0] + 26 and abs(bent.shape[1] - plain.shape[1]) < 4
    assert stray.shape[0] > plain.shape[0]


def test_strings_are_of_the_kinds_they_say() -> None:
    rng = np.random.default_rng(1)
    assert all(any(character.isdigit() for character in number(rng)) for _ in range(60))
    assert all(brand(rng).isalpha() for _ in range(20))
    signs = [latin_sign(rng) for _ in range(200)]
    assert all(sign.strip() for sign in signs) and len(set(signs)) > 150
    assert any("www." in sign for sign in signs) and any(len(sign) <= 3 for sign in signs)
    if find_faces()[1]:
        face = pick_face(rng, chinese=True)
        written = [chinese_sign(rng, face) for _ in range(40)]
        assert all(face.has_all(text) for text in written) and any(text for text in written)


def test_missing_fonts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synth_font, "PACKAGES", {"fonts-none-such": "NoneSuch", "fonts-here": SANS.path.stem})
    assert missing_packages() == ["fonts-none-such"]


def test_corners_lie_close_round_the_ink() -> None:
    layer = Layer(100, 300)
    ink = np.full((40, 200), 255, np.uint8)
    assert layer.text(ink, 50, 30, np.array((255, 0, 0)))
    (quad,) = layer.quads
    assert np.all(quad.min(axis=0) < (50, 30)) and np.all(quad.min(axis=0) > (50 - 4, 30 - 3))
    assert np.all(quad.max(axis=0) > (250, 70)) and np.all(quad.max(axis=0) < (250 + 4, 70 + 3))
    assert not layer.text(ink, 200, 30, np.array((255, 0, 0))) and len(layer.quads) == 1  # it would stick out


@pytest.mark.slow
def test_wide_words_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """One quad a line, however far its characters stand apart; pictures get none."""
    monkeypatch.setattr(synth_sign, "latin_sign", lambda rng: "O   O   O")
    monkeypatch.setattr(synth_sign, "chinese_sign", lambda rng, face: "口  口")
    made = [make_sign(np.random.default_rng(seed), 40, huge=True) for seed in range(12)]
    assert sum(layer is not None for layer in made) > 5
    assert all(len(layer.quads) <= 3 for layer in made if layer is not None)  # two lines, or three columns


def test_signs_of_pictures_have_no_lines() -> None:
    made = [make_blank_sign(np.random.default_rng(seed), 60) for seed in range(10)]
    assert sum(layer is not None for layer in made) > 5
    assert all(not layer.quads and layer.alpha.max() > 0.3 for layer in made if layer is not None)
    inks = [make_picture(np.random.default_rng(seed), 50) for seed in range(30)]
    assert sum(ink is not None and ink.dtype == np.uint8 for ink in inks) > 20


@pytest.mark.slow
def test_boxes_of_a_scene_hold_the_ink() -> None:
    photo = np.full((480, 640, 3), 127, np.uint8)
    found = 0
    for seed in range(8):
        picture, quads = make_scene(np.random.default_rng(seed), photo)
        assert picture.shape == photo.shape and picture.dtype == np.uint8
        for quad in quads:
            # What is cut at the edge is inside; the smallest rectangle around a tilted corner of it sticks out: of 204
            # lines of 60 scenes one in a hundred has less than .98 inside, .86 at least. Which, is a matter of the
            # machine's fonts.
            assert clip_quad(quad, (480, 640))[1] > 0.8
            assert quad.min() > -8 and quad[:, 0].max() < 648 and quad[:, 1].max() < 488
            x0, y0 = np.floor(quad.min(axis=0)).astype(int).clip(0)
            x1, y1 = np.ceil(quad.max(axis=0)).astype(int)
            found += bool(picture[y0:y1, x0:x1].std() > 3)
    assert found >= 7


@pytest.mark.slow
def test_some_lettering_is_huge() -> None:
    """A third of all pages has a line higher than an eighth of the picture, as in MSRA-TD500."""
    photo, tall = np.full((480, 640, 3), 90, np.uint8), 0
    for seed in range(20):
        _, quads = make_scene(np.random.default_rng((5, seed)), photo)
        sides = [cv2.minAreaRect(quad)[1] for quad in quads]
        tall += any(min(side) > 480 / 8 for side in sides)
        if tall == 2:  # the eighth page; to draw the others would take two seconds
            break
    assert tall >= 2


def test_lines_over_the_edge_are_cut_there() -> None:
    quad = np.array([[-50, 10], [50, 10], [50, 30], [-50, 30]], np.float32)
    inside, share = clip_quad(quad, (100, 200))
    assert share == pytest.approx(0.5) and inside.min() >= -0.01 and inside[:, 0].max() == pytest.approx(50, abs=0.1)
    assert clip_quad(quad + 60, (100, 200))[1] == 1.0
    assert clip_quad(quad - 300, (100, 200))[1] == 0.0


@pytest.mark.parametrize("seed", range(4))
def test_grounds_and_patterns_have_no_text_but_are_not_flat(seed: int) -> None:
    rng = np.random.default_rng(seed)
    ground = surface(rng)
    assert ground.dtype == np.uint8 and 640 <= max(ground.shape) < 860 and ground.std() > 0.3
    assert pick_ground(rng, []).shape[2] == 3 and pick_ground(rng, [Path("missing.jpg")]).shape[2] == 3
    tiles = [pattern_tile(rng, 120) for _ in range(12)]
    assert all(0 < (tile > 0).mean() < 1 or tile.all() for tile in tiles) and sum(tile.std() > 20 for tile in tiles) > 8
    assert (add_patterns(rng, ground) != ground).any()


@pytest.mark.parametrize("seed", range(6))
def test_bars_are_many_and_alike(seed: int) -> None:
    ground = np.full((480, 640, 3), 128, np.uint8)
    barred = add_bars(np.random.default_rng(seed), ground)
    assert barred.shape == ground.shape and barred.dtype == np.uint8 and (ground == 128).all()
    assert (barred == add_bars(np.random.default_rng(seed), ground)).all()
    changed = np.abs(barred.astype(int) - 128).max(axis=2) > 8
    # Across the bars, whichever way they stand, the picture changes at least four times.
    edges = [np.abs(np.diff(changed.astype(int), axis=axis)).sum(axis=axis).max() for axis in (0, 1)]
    assert max(edges) >= 8 and 0.02 < changed.mean() < 0.98


def test_bad_light_keeps_shape_and_source() -> None:
    picture = np.full((60, 90, 3), 128, np.uint8)
    spoilt = [spoil(np.random.default_rng(seed), picture, near=bool(seed % 2)) for seed in range(20)]
    assert all(one.shape == picture.shape and one.dtype == np.uint8 for one in spoilt)
    assert sum(bool((one != picture).any()) for one in spoilt) > 8 and (picture == 128).all()


@pytest.mark.parametrize("seed", range(8))
def test_documents_have_lines_inside_the_page(seed: int) -> None:
    pixels, quads = make_document(np.random.default_rng(seed))
    assert len(quads) >= 2
    assert quads.min() > -10 and quads[..., 0].max() < pixels.shape[1] + 10
    assert quads[..., 1].max() < pixels.shape[0] + 10


@pytest.mark.parametrize("layout", ["_receipt", "_letter", "_form", "_table", "_notice"])
def test_every_layout_writes_lines_that_do_not_overlap(layout: str) -> None:
    paper = Paper(np.random.default_rng(3), 640, 800)
    getattr(synth_document, layout)(paper)
    assert len(paper.layer.quads) >= 3
    count = np.zeros((800, 640), np.uint8)
    for quad in paper.layer.quads:
        (x0, y0), (x1, y1) = quad.min(axis=0) + 2.5, quad.max(axis=0) - 2.5  # the air round the ink may meet
        count[int(np.ceil(y0)) : int(y1), int(np.ceil(x0)) : int(x1)] += 1
    assert count.max() == 1


def test_wear_changes_but_keeps_the_page() -> None:
    page = np.full((120, 160, 3), 240, np.uint8)
    worn = [wear(np.random.default_rng(seed), page) for seed in range(12)]
    assert all(one.shape == page.shape and one.dtype == np.uint8 and (one != page).any() for one in worn)


@pytest.mark.slow
def test_lines_have_many_shapes() -> None:
    inks = [make_line(np.random.default_rng(seed), 32) for seed in range(60)]
    shapes = [ink.shape[1] / ink.shape[0] for ink in inks if ink is not None]
    assert len(shapes) > 50 and min(shapes) < 1.6 and max(shapes) > 7


@pytest.mark.slow
def test_pages_are_reproducible_and_readable(tmp_path: Path) -> None:
    one, again = make_page(7, 3, []), make_page(7, 3, [])
    assert np.array_equal(one[0], again[0]) and np.array_equal(one[1], again[1])
    assert render(tmp_path, range(4), []) > 0
    assert render(tmp_path, range(4), []) == 0  # they are there already
    assert find_problems(tmp_path) == [] and len(read_split(tmp_path, "train")) == 4


@pytest.mark.slow
def test_photos_come_from_a_folder_or_a_list(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    photo, listed = tmp_path / "photos" / "a.png", tmp_path / "list.txt"
    cv2.imwrite(str(photo), np.full((300, 400, 3), (10, 20, 200), np.uint8))
    listed.write_text(f"{photo}\n\n")
    assert read_photos(None) == [] and read_photos(tmp_path / "photos") == read_photos(listed) == [photo]
    grounds = [pick_ground(np.random.default_rng(seed), [photo]) for seed in range(12)]
    assert any((ground == (200, 20, 10)).all() for ground in grounds)
    with pytest.raises(OSError):
        read_photos(tmp_path / "none")


@pytest.mark.slow
def test_a_sheet_shows_whole_rows_of_pages() -> None:
    sheet = make_sheet(12, range(5), [], columns=2).astype(int)
    assert sheet.shape == (2 * 240, 2 * 300, 3)
    assert ((sheet[..., 1] - sheet[..., 0] > 120) & (sheet[..., 1] - sheet[..., 2] > 90)).sum() > 100  # drawn corners


@pytest.mark.parametrize("seed", range(40))
def test_bars_fit_on_a_banner(seed: int) -> None:
    ground = np.full((40, 900, 3), 128, np.uint8)
    assert add_bars(np.random.default_rng(seed), ground).shape == ground.shape
