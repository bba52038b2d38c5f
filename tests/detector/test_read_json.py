"""JSON of strangers has one error, and one place where it is read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from detector.errors import ModelError, read_json
from detector.models import read_card

ROOT = Path(__file__).parents[2]
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("text", [DEEP, DEEP.encode(), "{", b"\xff", "", '{"a":' * 100_000])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        read_json(text)


def test_a_card_nested_deeply_is_said_to_be_no_card(tmp_path: Path) -> None:
    """Before: a traceback of a thousand lines."""
    (tmp_path / "card.json").write_text(DEEP)
    with pytest.raises(ModelError, match="nested too deeply"):
        read_card(tmp_path / "card.json")


def test_nothing_else_reads_json_without_that() -> None:
    """msgspec's decoders are asked with `detector.record.UNREADABLE`."""
    files = [file for part in ("detector", "worker", "producer") for file in (ROOT / part).rglob("*.py")]
    found = {str(file.relative_to(ROOT)) for file in files if re.search(r"\bjson\.loads?\(", file.read_text())}
    assert found == {"detector/errors.py"}
