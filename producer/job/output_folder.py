"""The output folder of a job: where its files are, and its lock."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from detector.atomic import atomic_write
from producer.errors import ProducerError


class FolderBusyError(ProducerError):
    """Another process works in this output folder."""


class JobRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for, kept so that ``resume`` needs no arguments.

    Attributes:
        job: the job's name.
        sources: absolute paths, globs or archives, as given.
        limit_side: long side the network sees at most, pixels; 0 leaves it to the profile.
        profile: ``auto``, ``low``, ``standard`` or ``accurate``.
        model: name or absolute path; empty leaves it to the environment.
        runtime: ``auto``, ``onnxruntime``, ``openvino`` or ``torch``.
        workers: worker processes ``run`` starts.
        overlays: draw every image with its boxes.
        report: write report.html.
        transfer: ``uri`` (workers open the same address) or ``redis`` (the bytes travel through the broker).
        shrink: with ``redis``: make pages no larger than ``limit_side`` before they travel.
        read: name of the recogniser that reads the boxes; empty: only boxes are wanted.
        output: an ``s3://`` prefix that gets ``results.jsonl`` at the end; empty for none.
        sniff: in folders, also take files of unknown or no suffix that begin like an image or a PDF.
        zip_encoding: of names in zips that do not say theirs; empty to guess.
    """

    job: str
    sources: list[str]
    limit_side: int = 0
    profile: str = "auto"
    model: str = ""
    runtime: str = "auto"
    workers: int = 1
    overlays: bool = False
    report: bool = True
    transfer: str = "uri"
    shrink: bool = False
    read: str = ""
    output: str = ""
    sniff: bool = False
    zip_encoding: str = ""


class OutputFolder:
    """Paths inside ``OUT`` (docs/architecture.md), and its private ``.ocrfleet`` folder."""

    def __init__(self, root: Path) -> None:
        """Make nothing: the folder need not exist."""
        self.root = root
        self.results = root / "results.jsonl"
        self.manifest = root / "manifest.jsonl"
        self.job_json = root / "job.json"
        self.private = root / ".ocrfleet"
        self.request_file = self.private / "request.json"
        self.server_data = self.private / "server"
        self.passed_over_file = self.private / "passed-over.json"

    def exists(self) -> bool:
        """Whether a job was ever started here."""
        return self.request_file.is_file()

    def request(self) -> JobRequest:
        """What was asked for."""
        return msgspec.json.decode(self.request_file.read_bytes(), type=JobRequest)

    def _make(self) -> None:
        """New folders are this user's alone: results name other people's files, `.ocrfleet` holds a server's data."""
        if not self.root.exists():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.private.mkdir(mode=0o700, exist_ok=True)

    def save_request(self, request: JobRequest) -> None:
        """Remember what was asked for."""
        self._make()
        write_atomically(self.request_file, msgspec.json.encode(request))

    def save_passed_over(self, counts: dict[str, int]) -> None:
        """Remember what the scan passed over, by kind."""
        self.private.mkdir(parents=True, exist_ok=True)
        write_atomically(self.passed_over_file, msgspec.json.encode(dict(counts)))

    def passed_over(self) -> dict[str, int]:
        """What the scan passed over, by kind."""
        try:
            return msgspec.json.decode(self.passed_over_file.read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return {}

    def forget_pages(self) -> None:
        """Remove the list of pages and the records made from it: their indices mean nothing to a new list."""
        for file in (self.manifest, self.results):
            file.unlink(missing_ok=True)

    def worker_log(self, number: int) -> Path:
        """Log of the n-th local worker."""
        return self.private / f"worker-{number}.log"

    def forget_server(self) -> None:
        """Remove the private server's data: its job is done and collected."""
        shutil.rmtree(self.server_data, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this folder; a killed process frees it by itself.

        Raises:
            FolderBusyError: another process holds it.
        """
        self._make()
        with (self.private / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FolderBusyError(f"another ocr-producer works in {self.root}: wait for it, or stop it") from None
            # Only the holder of this lock scans: these were left by a scan that was killed, and may be large.
            for left in self.root.glob(f".{self.manifest.name}.*.part"):
                left.unlink()
            yield


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file so that a reader sees the old one or the new one, never half of it."""
    with atomic_write(path, sync=True) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a readable JSON file atomically."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n")


def state_folder(job: str) -> OutputFolder:
    """Where ``enqueue`` keeps a job's manifest on the producer's machine (XDG base directory specification)."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return OutputFolder(Path(base) / "ocrfleet" / job)
