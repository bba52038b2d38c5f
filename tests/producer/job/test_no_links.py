"""Locks and logs are never written through a link: whoever made OUT had us empty our own files."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.job.collect import Collector
from producer.job.collector_lock import FileLock
from producer.job.output_folder import OutputFolder
from worker.ledger import Ledger


def linked(folder: Path, name: str) -> Path:
    """A file of ours, and a link to it where ours would be."""
    mine = folder / "key"
    mine.write_text("secret")
    (folder / "out/.ocrfleet").mkdir(parents=True)
    (folder / "out/.ocrfleet" / name).symlink_to(mine)
    return mine


def test_the_lock_of_a_folder_follows_no_link(tmp_path: Path) -> None:
    mine = linked(tmp_path, "lock")
    with pytest.raises(OSError, match="lock"), OutputFolder(tmp_path / "out").locked():
        pass
    assert mine.read_text() == "secret"


def test_the_lock_of_results_follows_no_link(tmp_path: Path) -> None:
    mine = linked(tmp_path, "results.jsonl.lock")
    with pytest.raises(OSError, match="results"):
        FileLock(tmp_path / "out/results.jsonl").take()
    assert mine.read_text() == "secret"


def test_records_are_appended_to_no_link(tmp_path: Path, ledger: Ledger) -> None:
    """Before: results.jsonl as a link to ~/.bashrc, in a folder that another user had made, took our records."""
    mine = tmp_path / "key"
    mine.write_text("secret")
    (tmp_path / "results.jsonl").symlink_to(mine)
    ledger.create("job", 1, {})
    with pytest.raises(OSError, match="results"), Collector(ledger, "job", tmp_path / "results.jsonl", 1):
        pass
    assert mine.read_text() == "secret"
