"""What a test leaves out of exports and training runs that other tests look at."""

from __future__ import annotations

import pytest


def compare_small(patch: pytest.MonkeyPatch) -> None:
    """Files that take every size are compared with torch at two small ones: a twentieth of the pixels.

    Those of the product: `test_dynamic_export_is_the_same_network`, for each backbone.
    """
    patch.setattr("detector.convert.export.DYNAMIC_SIZES", ((96, 160), (160, 64)))


def draw_no_curve(patch: pytest.MonkeyPatch) -> None:
    """A run's picture costs half a second an epoch; `test_a_run_leaves_its_record` looks at one."""
    patch.setattr("detector.training.history.draw_curve", lambda rows, path: None)
