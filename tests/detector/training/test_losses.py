import math

import pytest
import torch

from detector.training.losses import LossWeights, balanced_bce, db_loss, dice, masked_l1


def test_balanced_bce_takes_positives_and_hardest_negatives() -> None:
    # One positive at p = 0.5, so ln 2; of five negatives the three hardest: 0.5, 0.5, 0.5 (not the two certain ones).
    logits = torch.tensor([0.0, 0.0, 0.0, 0.0, -20.0, -20.0])
    target = torch.tensor([1.0, 0, 0, 0, 0, 0])
    assert balanced_bce(logits, target, torch.ones(6)).item() == pytest.approx(math.log(2), rel=1e-5)


def test_balanced_bce_leaves_out_weight_zero() -> None:
    logits = torch.tensor([0.0, 50.0, -50.0])
    target = torch.tensor([1.0, 0, 0])
    weight = torch.tensor([1.0, 0, 1])
    assert balanced_bce(logits, target, weight).item() == pytest.approx(math.log(2) / 2, rel=1e-5)


def test_a_crop_without_text_still_teaches() -> None:
    logits = torch.zeros(128, requires_grad=True)
    loss = balanced_bce(logits, torch.zeros(128), torch.ones(128))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-5)
    loss.backward()
    assert int((logits.grad != 0).sum()) == 2  # 1/64 of the pixels


def test_dice_by_hand() -> None:
    prediction, target = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([1.0, 0.0, 1.0])
    assert dice(prediction, target, torch.ones(3)).item() == pytest.approx(1 - 2 * 1 / 3.5)
    assert dice(target, target, torch.ones(3)).item() == pytest.approx(0, abs=1e-6)
    assert dice(prediction, target, torch.tensor([1.0, 0, 0])).item() == pytest.approx(0, abs=1e-6)


def test_masked_l1_by_hand() -> None:
    result = masked_l1(torch.tensor([0.5, 0.9]), torch.tensor([0.3, 0.0]), torch.tensor([1.0, 0.0]))
    assert result.item() == pytest.approx(0.2, rel=1e-4)
    assert masked_l1(torch.ones(2), torch.zeros(2), torch.zeros(2)).item() == 0


def test_a_perfect_answer_costs_nothing_and_terms_add_up() -> None:
    target = torch.zeros(1, 8, 8)
    target[:, 2:6, 2:6] = 1
    threshold, band = torch.full((1, 8, 8), 0.3), torch.ones(1, 8, 8)
    logits = torch.where(target > 0, 30.0, -30.0)
    flat = torch.full((1, 8, 8), math.log(0.3 / 0.7))
    loss, terms = db_loss(logits, flat, target, torch.ones(1, 8, 8), threshold, band, LossWeights())
    assert loss.item() == pytest.approx(0, abs=1e-3)
    wrong, terms = db_loss(-logits, flat, target, torch.ones(1, 8, 8), threshold, band, LossWeights())
    assert wrong.item() == pytest.approx(sum(term.item() for term in terms.values()), rel=1e-5)
    assert terms["dice"].item() == pytest.approx(1, abs=1e-3) and terms["binary"].item() == pytest.approx(1, abs=1e-3)
