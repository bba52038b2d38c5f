"""What "auto" means here: the runtime that `ocr-detector tune` found to be the fastest on this machine.

One small JSON file holds what was measured, by model (sha256), limit side and machine. What no longer fits the machine
is not used; a file that cannot be read is as good as none. The user is told in one line.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import platform
import secrets
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from detector.atomic import atomic_write
from detector.cache import cache_folder, who_may_change
from detector.errors import DetectorError, read_bounded
from detector.machine import read_machine

FILE_VARIABLE = "OCRFLEET_TUNE_FILE"
RUNTIMES = ("onnxruntime", "openvino", "torch")
LEAST_AGREEMENT = 0.9
SLOWER_ALLOWED = 1.1
"""Of runtimes that are not more than this much slower than the fastest, threads and memory decide."""
MOST_ENTRIES = 64
MOST_BYTES = 1 << 20  # of the file: 64 entries are some 100 KB

_log = logging.getLogger("detector")


class TuningError(DetectorError):
    """A tune.json that cannot be used; one line without the file's name."""


class Candidate(msgspec.Struct, frozen=True):
    """One runtime with a number of threads, and what was measured of it.

    Attributes:
        runtime: of `RUNTIMES`.
        threads: of one inference.
        ms: median time of a page, milliseconds; None: it did not run.
        peak_mb: peak resident memory of its process, MiB; None: unknown.
        agreement: hmean of its boxes against those of the reference, 0 to 1; None: it did not run.
        note: why it did not run.
    """

    runtime: str
    threads: int
    ms: float | None = None
    peak_mb: float | None = None
    agreement: float | None = None
    note: str = ""


class Tuning(msgspec.Struct, frozen=True):
    """All that was measured with one model at one size on one machine.

    Attributes:
        sha256: of the model's .onnx file.
        limit_side: longest side of the pages, pixels.
        machine: `machine_facts` at the time.
        measured: every candidate.
    """

    sha256: str
    limit_side: int
    machine: dict[str, str]
    measured: list[Candidate]


class _File(msgspec.Struct, frozen=True):
    format: int
    tunings: list[Tuning]


def tuning_file() -> Path:
    """The file in force: OCRFLEET_TUNE_FILE, or tune.json in the cache folder."""
    named = os.environ.get(FILE_VARIABLE, "").strip()
    return Path(named) if named else cache_folder() / "tune.json"


def machine_facts() -> dict[str, str]:
    """What a measurement depends on: CPU, cores, GPUs, and the versions of the runtimes ("" = not installed)."""
    facts = {"cpu": _cpu(), "cores": f"{read_machine().cores:g}", "gpus": str(_gpus())}
    for package in RUNTIMES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = ""
    return facts


def _cpu() -> str:
    """Architecture, name, and a mark of the instructions: virtual machines of one name run on unlike CPUs."""
    name, instructions = "", ""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = (part.strip() for part in line.partition(":"))
                if not key:  # the first core says it all
                    break
                if key in ("model name", "CPU part"):
                    name = value
                elif key in ("flags", "Features"):
                    instructions = hashlib.sha256(value.encode()).hexdigest()[:8]
    except OSError:
        name = platform.processor()
    return " ".join(part for part in (platform.machine(), name, instructions) if part)


def _gpus() -> int:
    try:
        return len(list(Path("/proc/driver/nvidia/gpus").iterdir()))
    except OSError:
        return 0


def best(
    measured: list[Candidate], threads: int | None = None, memory_limit_mb: float | None = None
) -> Candidate | None:
    """The runtime to take: of those about as fast as the fastest the one with the fewest threads, then least memory.

    Args:
        measured: every candidate.
        threads: only with so many; None: with any number.
        memory_limit_mb: only those that need no more, MiB.
    """
    fit = [
        candidate
        for candidate in measured
        if candidate.ms is not None
        and candidate.runtime in RUNTIMES
        and (candidate.agreement or 0) >= LEAST_AGREEMENT
        and (threads is None or candidate.threads == threads)
        and (memory_limit_mb is None or candidate.peak_mb is None or candidate.peak_mb <= memory_limit_mb)
    ]
    fastest = min((candidate.ms for candidate in fit if candidate.ms is not None), default=0.0)
    near = [candidate for candidate in fit if candidate.ms is not None and candidate.ms <= fastest * SLOWER_ALLOWED]
    return min(near, key=lambda candidate: (candidate.threads, candidate.peak_mb or 0.0), default=None)


def tuned(
    sha256: str, limit_side: int, threads: int | None = None, memory_limit_mb: float | None = None
) -> Candidate | None:
    """What was found best here, or None: then the default holds. Says in one line why a file that is there is not used.

    Args:
        sha256: of the model's .onnx file.
        limit_side: longest side shown to the network, pixels.
        threads: only with so many; None: with any number.
        memory_limit_mb: of the process, MiB.
    """
    path = tuning_file()
    if not path.is_file():
        if os.environ.get(FILE_VARIABLE, "").strip():
            _note(f"{path}: not found ({FILE_VARIABLE}); using the default runtime")
        return None
    if path == cache_folder() / path.name and (open_to_others := who_may_change(path.parent)) is not None:
        _note(f"{path}: others can write into {open_to_others}; using the default runtime; `chmod go-w` it")
        return None
    try:
        tunings = [item for item in _read(path) if item.sha256 == sha256]
    except TuningError as error:
        _note(f"{path}: {error}; using the default runtime; make it again with: ocr-detector tune")
        return None
    if not tunings:
        return None
    facts = machine_facts()
    here = [item for item in tunings if item.machine == facts]
    if not here:
        _note(f"{path}: {_changed(tunings[-1].machine, facts)}; using the default runtime; run ocr-detector tune again")
        return None
    fitting = [item for item in here if item.limit_side == limit_side]
    if not fitting:
        _note(
            f"{path}: not tuned for pages of {limit_side} pixels; using the default runtime; "
            f"run: ocr-detector tune --limit-side {limit_side}"
        )
        return None
    candidate = best(fitting[-1].measured, threads, memory_limit_mb)
    if candidate is None:
        asked = f" with {threads} threads" if threads else ""
        within = f" within {memory_limit_mb:.0f} MiB" if memory_limit_mb else ""
        _note(f"{path}: holds no runtime that ran{asked}{within}; using the default runtime")
    return candidate


def _read(path: Path) -> list[Tuning]:
    """What the file holds.

    Raises:
        TuningError: it cannot be read, or is no such file.
    """
    try:
        with path.open("rb") as file:
            content = msgspec.json.decode(read_bounded(file, MOST_BYTES), type=_File)
    except OSError as error:
        raise TuningError(f"cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise TuningError(f"not a file of ocr-detector tune ({error})") from None
    if content.format != 1:
        raise TuningError(f"of another version (format {content.format})")
    return content.tunings


def _changed(then: dict[str, str], now: dict[str, str]) -> str:
    """Which fact about the machine is another now."""
    name = next((name for name in now if then.get(name) != now[name]), "machine")
    return f"made with {name} {then.get(name) or 'not there'}, now {now.get(name) or 'not there'}"


@functools.cache
def _note(line: str) -> None:
    """Once is enough."""
    _log.warning("%s", line)


def check_writable(path: Path) -> None:
    """Raises OSError, with the file's name, if a file could not be written there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Through no link: who may write beside it knew its name, by our number.
    attempt = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    attempt.touch(exist_ok=False)
    attempt.unlink()


def write_tuning(path: Path, tuning: Tuning) -> None:
    """Adds to the file, in place of what it held on the same model, size and machine.

    Raises:
        OSError: it cannot be written.
    """
    try:
        others = _read(path) if path.exists() else []
    except TuningError:  # it is no use to anybody
        others = []
    key = (tuning.sha256, tuning.limit_side, tuning.machine)
    kept = [item for item in others if (item.sha256, item.limit_side, item.machine) != key]
    content = _File(1, [*kept, tuning][-MOST_ENTRIES:])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, sync=True) as unfinished:
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1) + b"\n")
