"""What the page says of models."""

from __future__ import annotations

from detector.models import list_models, load_card
from producer.web.models import scores_of


def test_scores_on_unseen_images_come_first() -> None:
    """Before: the page showed what 30 validation photos said, of which development had chosen the best look."""
    scores = {name: list(scores_of(load_card(name).details).items()) for name in list_models()}
    assert scores["dbnet-resnet18"][0] == ("td500 test @640 int8", 0.781)
    assert scores["dbnet-mobilenet-v3-small"][0][0].startswith("90 photos of MSRA-TD500 in blocks")
    assert all(isinstance(score, float) for found in scores.values() for _, score in found)
