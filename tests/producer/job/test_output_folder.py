"""The output folder's lock, and who may look into it."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from pathlib import Path

import pytest

from producer.job.output_folder import DamagedFolderError, FolderBusyError, JobRequest, OutputFolder
from producer.whole_append import whole_append


def test_one_at_a_time(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    with folder.locked():
        with pytest.raises(FolderBusyError, match="another ocr-producer works in"), OutputFolder(folder.root).locked():
            pass
        assert folder.private.is_dir()
    with folder.locked():
        pass


def test_new_folders_are_for_this_user_alone(tmp_path: Path) -> None:
    """Before: 0755, with the names of all images. A folder that is there keeps its mode: its owner chose it."""
    new, old = tmp_path / "new", tmp_path / "old"
    old.mkdir()
    old.chmod(0o755)
    modes = []
    for root in (new, old):
        folder = OutputFolder(root)
        with folder.locked():
            modes.append([path.stat().st_mode & 0o777 for path in (root, folder.private)])
    assert modes == [[0o700, 0o700], [0o755, 0o700]]


def test_what_a_killed_scan_left_is_removed(tmp_path: Path) -> None:
    """A list of ten million pages is a gigabyte: ten kills must not leave ten of them."""
    folder = OutputFolder(tmp_path)
    left = tmp_path / ".manifest.jsonl.123-0.part"
    others = [tmp_path / ".report.html.123-0.part", tmp_path / "manifest.jsonl"]  # a report may be under way
    for file in (left, *others):
        file.touch()
    with folder.locked():
        assert not left.exists() and all(file.exists() for file in others)


def test_who_appends_and_who_takes_the_folder_end_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: `collect --follow` and `watch-folder`, or `retry`, ended each other: "No such file or directory"."""
    folder, taken = OutputFolder(tmp_path), list[str]()
    folder.manifest.write_text("one\n")

    def take() -> None:
        with OutputFolder(tmp_path).locked():
            taken.append(folder.manifest.read_text())

    taking = threading.Thread(target=take)

    def sync(path: Path) -> None:
        if path.name.endswith(".part"):
            taking.start()
            taking.join(0.2)

    monkeypatch.setattr("detector.atomic.sync_to_disk", sync)
    with whole_append(folder.manifest) as stream:
        stream.write(b"two\n")
    taking.join(10)
    assert taken == ["one\ntwo\n"]


@pytest.mark.parametrize("kind", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: "another ocr-producer works in", for ever, on Lustre and NFS without locks."""

    def no_locks(file: object, operation: int) -> None:
        raise OSError(kind, os.strerror(kind))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = tmp_path / ".manifest.jsonl.123-0.part"  # another's, for all one knows
    left.touch()
    (tmp_path / "manifest.jsonl").write_text("one\n")
    with OutputFolder(tmp_path).locked(), whole_append(tmp_path / "manifest.jsonl") as stream:
        assert left.exists()
        stream.write(b"two\n")
    assert (tmp_path / "manifest.jsonl").read_text() == "one\ntwo\n"
    [said] = caplog.messages
    assert said.startswith(f"{tmp_path}: no locks there ({os.strerror(kind)}); start no second")


@pytest.mark.parametrize("workers", [0, 65, 10**9])
def test_a_request_of_more_workers_than_may_be_asked_for_is_damaged(tmp_path: Path, workers: int) -> None:
    """Before: 40 in a folder that was handed over started as many on two cores, at `resume`."""
    folder = OutputFolder(tmp_path / "out")
    folder.save_request(JobRequest(job="job", sources=["/in"], workers=64))
    assert folder.request().workers == 64
    told = folder.request_file.read_bytes()
    folder.request_file.write_bytes(told.replace(b'"workers":64', b'"workers":%d' % workers))
    with pytest.raises(DamagedFolderError):
        folder.request()
