"""What the page says of models."""

from __future__ import annotations

from detector.models import list_models, load_card
from producer.web.models import scores_of


def test_scores_on_unseen_images_come_first() -> None:
    """Before: the page showed what 30 validation photos said, of which development had chosen the best look."""
    details = {"scores": {"funsd val @640 int8": 0.5}, "held_out": {"90 photos @640": [0.8, 0.7, 0.9]}}
    assert next(iter(scores_of(details).items())) == ("90 photos @640", 0.8)
    measured = details | {"unseen": {"td500 test @640 int8": 0.781}}
    assert next(iter(scores_of(measured).items())) == ("td500 test @640 int8", 0.781)


def test_shipped_models_show_what_was_held_out_first() -> None:
    for name in list_models():
        scores = scores_of(load_card(name).details)
        assert " val " not in next(iter(scores)), name
        assert all(isinstance(score, float) for score in scores.values())
