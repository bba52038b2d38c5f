"""Files of a few bytes in folders of their own take a block and an inode each: the quota counts them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from producer.web.bounds.room import ENTRY_BYTES
from producer.web.names import MOST_FOLDERS
from producer.web.problem import Problem
from producer.web.store import Store
from tests.producer.web.test_form_parts import PICTURE, file, send


def test_each_file_and_each_folder_counts(tmp_path: Path) -> None:
    """Before: 97 MB of disk were 158 KB of the quota."""
    store = Store(tmp_path)
    before = store.room.used()
    send(store, [file(b"%d/b/c/d/e/f/g/a.jpg" % number, PICTURE) for number in range(5)])
    entries = sum(len(folders) + len(files) for _, folders, files in os.walk(tmp_path / "incoming"))
    assert entries == 2 + 5 * 8
    assert store.room.used() - before >= 5 * 8 * ENTRY_BYTES  # at once, and not only when somebody looks
    store.room.forget()
    assert store.room.used() - before >= entries * ENTRY_BYTES


def test_one_request_makes_so_many_folders(tmp_path: Path) -> None:
    """Before: 350 of a request of 50 files."""
    with pytest.raises(Problem, match=f"more than {MOST_FOLDERS} folders") as refused:
        send(Store(tmp_path), [file(b"%d/b/c/d/e/f/g/a.jpg" % number, PICTURE) for number in range(50)], most_files=50)
    assert refused.value.status == 413
    assert sum(len(folders) for _, folders, _ in os.walk(tmp_path / "incoming")) <= MOST_FOLDERS + 2
