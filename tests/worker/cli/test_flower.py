"""ocr-worker flower refuses to be open to the world."""

from __future__ import annotations

import click
import pytest

from tests.processes import command
from worker.cli.flower import check_basic_auth


@pytest.mark.parametrize(
    ("pairs", "address"),
    [(None, "0.0.0.0"), (None, ""), ("", "10.0.0.1"), ("me", "127.0.0.1"), ("me:short", "0.0.0.0"), (":x", "::1")],
)
def test_refused(pairs: str | None, address: str) -> None:
    with pytest.raises(click.UsageError):
        check_basic_auth(pairs, address)


@pytest.mark.parametrize(
    ("pairs", "address"), [(None, "127.0.0.1"), ("me:x", "localhost"), ("me:long enough,you:also long", "0.0.0.0")]
)
def test_allowed(pairs: str | None, address: str) -> None:
    check_basic_auth(pairs, address)


def test_command_says_what_to_set(environment: dict[str, str]) -> None:
    environment.pop("FLOWER_BASIC_AUTH", None)
    told = command(environment, "ocr-worker", "flower", "--address", "0.0.0.0")
    assert told.returncode == 2
    assert "FLOWER_BASIC_AUTH" in told.stderr
