"""What strangers have a worker log is short, and few lines of each kind."""

from __future__ import annotations

import io
import logging
import os
import sys

import pytest

from worker.log_format import MOST_ENTRY, FewOfEach, ShortFormatter, configure_logging


def entry(text: str, error: Exception | None = None) -> str:
    exc_info = (type(error), error, None) if error else None
    return ShortFormatter().format(logging.LogRecord("x", logging.ERROR, "f", 1, "%s", (text,), exc_info))


@pytest.mark.parametrize("letter", ["x", "\x1b", "\n", "😀", "\u202e"])
def test_an_entry_is_bounded_and_says_how_it_ends(letter: str) -> None:
    """Before: a message of 1 MB was a line of 4 MB."""
    said = entry(letter * 1_000_000, ValueError("the reason"))
    assert len(said) < MOST_ENTRY + 100 and said.endswith("ValueError: the reason") and "ERROR" in said[:40]
    assert "\x1b" not in said and not any(line[:1].isdigit() for line in said.split("\n")[1:])
    assert entry("a traceback of ours" * 250).count("a traceback of ours") == 250


def test_a_kind_is_a_place_in_the_code(caplog: pytest.LogCaptureFixture) -> None:
    """Before: a format; a library that puts what it was sent into that had a line for each."""
    logger = logging.getLogger("celery.of.any.name")
    logger.addFilter(FewOfEach(clock=lambda: 100.0))
    for number in range(1000):
        logger.error(f"unknown {number}")
        logger.error("another %d", number)
    assert len(caplog.messages) == 10
    with caplog.at_level(logging.DEBUG):
        for _ in range(20):
            logger.debug("who looks for a fault sees all")
    assert len(caplog.messages) == 30


def test_children_count_with_their_parent() -> None:
    """A worker's child is replaced after so many pages, or messages that are none: each began anew."""
    few = FewOfEach(clock=lambda: 100.0)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "said", (), None)
    if not (child := os.fork()):
        os._exit(sum(few.filter(record) for _ in range(9)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    assert not few.filter(record)


def test_of_all_loggers_of_a_worker_few_lines_are_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", said := io.StringIO())
    configure_logging(logging.INFO, few=True)
    for name in ("kombu.pidbox", "celery.app.trace", "celery.worker.consumer.consumer", "some.library"):
        for _ in range(100):
            logging.getLogger(name).error("a command that nobody knows")
    assert len(said.getvalue().splitlines()) == 5
