"""What a killed process leaves in the spool goes at once; what a living one reads stays."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from worker.ops.cleanup import clean_spool
from worker.settings import Settings
from worker.storage import Storage
from worker.storage.held_copies import HELD, held_prefix, remove_left
from worker.storage.spool import open_spool

OPEN = """
import sys
from pathlib import Path
from worker.storage import Storage
from worker.storage.spool import open_spool
with Storage((), Path(sys.argv[1]), make_spool=open_spool).open(f"zip+file://{sys.argv[2]}#page.jpg"):
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.writestr("page.jpg", bytes(1000))
    return tmp_path / "a.zip"


@pytest.fixture
def reader(settings: Settings, archive: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has a page open."""
    command = [sys.executable, "-c", OPEN, settings.spool, archive]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        yield process
        process.kill()


def test_the_copy_of_a_killed_process_goes_and_no_other(
    settings: Settings, archive: Path, reader: subprocess.Popen[bytes]
) -> None:
    """Before: it lay there for a day, and a few filled the spool. Old versions' copies go by their age."""
    old_style = settings.spool / "page-0a1b2c3d.jpg"
    old_style.write_bytes(b"x")
    with Storage((), settings.spool, make_spool=open_spool).open(f"zip+file://{archive}#page.jpg") as ours:
        (theirs,) = set(settings.spool.iterdir()) - {ours, old_style}
        assert remove_left(settings.spool) == 0 and theirs.exists(), "its process lives"
        assert clean_spool(settings) == {"files": 0, "bytes": 0}
        reader.kill()
        reader.wait()
        assert clean_spool(settings, dry_run=True) == {"files": 1, "bytes": 1000}
        assert remove_left(settings.spool) == 1000
        assert set(settings.spool.iterdir()) == {ours, old_style}
    assert list(settings.spool.iterdir()) == [old_style]


def test_cleanup_takes_it_whatever_its_age_and_never_a_living_ones(
    settings: Settings, reader: subprocess.Popen[bytes]
) -> None:
    (copy,) = settings.spool.iterdir()
    os.utime(copy, (0, 0))
    assert clean_spool(settings) == {"files": 0, "bytes": 0}, "a page that takes long is no old file"
    os.utime(copy)
    reader.kill()
    reader.wait()
    assert clean_spool(settings) == {"files": 1, "bytes": 1000}


def test_nothing_is_removed_from_a_folder_that_is_not_marked_as_a_spool(tmp_path: Path) -> None:
    copy = tmp_path / f"{held_prefix()}1"
    copy.write_bytes(b"theirs")
    assert remove_left(tmp_path) == 0 and copy.exists()


def test_of_another_machine_nothing_is_known(settings: Settings) -> None:
    """Its locks may be its own, on a network folder; what it left goes by its age."""
    open_spool(settings.spool)
    copy = settings.spool / f"{HELD}0badcafe-1.jpg"
    copy.write_bytes(b"theirs")
    assert remove_left(settings.spool) == 0 and clean_spool(settings) == {"files": 0, "bytes": 0}
    os.utime(copy, (0, 0))
    assert clean_spool(settings) == {"files": 1, "bytes": 6}
