"""A detector at work in a process of its own: what it finds, how long it takes, how much memory it ever held.

In this process it would count what was loaded before it, and what it loads would stay: a library is never unloaded.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote_from_bytes, unquote_to_bytes

import msgspec

from detector.errors import DetectorError, ImageError, ModelError, first_line, show
from detector.exit_codes import ExitCode
from detector.memory import configure_process, peak_rss_mb
from detector.thresholds import Thresholds

_log = logging.getLogger("detector")

WATCH_S = 0.02
LEAST_ROUNDS = 3
Points = list[tuple[float, float]]


class IsolatedRunError(DetectorError):
    """The run came to no end; one line. For a bad model it is a ModelError instead."""

    exit_code = ExitCode.NOTHING


class TooMuchMemoryError(IsolatedRunError):
    """It needed more memory than it may have, and was stopped or killed."""


class IsolatedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What is run. Settings mean what they mean for `detector.predictor.TextDetector`.

    Attributes:
        thresholds: instead of those on the model's card.
        seconds: go round and round through the images for so long (at least three rounds); 0: each image once.
    """

    model: str
    runtime: str = "auto"
    threads: int = 1
    limit_side: int = 640
    tiled: bool = False
    memory_limit_mb: int | None = None
    thresholds: Thresholds | None = None
    seconds: float = 0.0


class Found(msgspec.Struct, frozen=True, tag=True):
    """One image's outcome.

    Attributes:
        image: its number in the list that was given.
        seconds: opening, network and boxes together.
        boxes: corners in original upright pixels.
    """

    image: int
    seconds: float
    boxes: list[Points]


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The last message.

    Attributes:
        runtime: what really ran, such as "onnxruntime-int8".
        peak_mb: peak resident memory of the process, MiB.
    """

    runtime: str
    peak_mb: float


class _Refused(msgspec.Struct, frozen=True, tag=True):
    """Why there is no result: kind "image", "model", "memory" or "missing" (then the message is the package's name)."""

    kind: str
    message: str


class _Remark(msgspec.Struct, frozen=True, tag=True):
    """A warning that the detector logged, such as that it was tuned for another size."""

    line: str


class _Order(msgspec.Struct, frozen=True):
    settings: IsolatedRun
    images: list[str]  # percent-encoded: names need not be text


_Message = Found | Ended | _Refused | _Remark


def run_isolated(
    settings: IsolatedRun, images: Sequence[Path], *, stop_above_mb: float | None = None
) -> Iterator[Found | Ended]:
    """Runs images in a new process. The last thing that comes is `Ended`.

    Args:
        settings: of the run.
        images: files; of many pages the first.
        stop_above_mb: the process is stopped when it holds more, MiB.

    Raises:
        ModelError: no such model or runtime.
        ModuleNotFoundError: the runtime's package is not installed.
        TooMuchMemoryError: it was stopped for its memory.
        IsolatedRunError: an image cannot be opened, or the process died.
    """
    order = _Order(settings, [quote_from_bytes(os.fsencode(image)) for image in images])
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            # -P: a folder named `detector` where the user happens to stand must not be taken for ours.
            [sys.executable, "-P", "-m", "detector.evaluation.isolated_run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            # As in a worker: two arenas, or memory freed by one thread is not used by another.
            env={"MALLOC_ARENA_MAX": "2", **os.environ},
        )
        assert child.stdin is not None
        assert child.stdout is not None
        watch = _Watch(child.pid, stop_above_mb)
        try:
            _give(order, child.stdin)
            ended = False
            for line in child.stdout:
                message = msgspec.json.decode(line, type=_Message)
                if isinstance(message, _Refused):
                    raise _as_error(message)
                if isinstance(message, _Remark):
                    _log.warning("%s", message.line)
                    continue
                ended = isinstance(message, Ended)
                yield message
            child.wait()
            if not ended:
                raise _death(child.returncode, watch, errors)
        finally:
            watch.stop()
            child.kill()
            child.wait()
            child.stdout.close()


def _give(order: _Order, stdin: IO[bytes]) -> None:
    try:
        stdin.write(msgspec.json.encode(order))
        stdin.close()
    except BrokenPipeError:  # it died at once: the reader of its output says why
        pass


def _as_error(refused: _Refused) -> Exception:
    if refused.kind == "missing":
        return ModuleNotFoundError(f"No module named {refused.message!r}", name=refused.message)
    return {"model": ModelError, "memory": TooMuchMemoryError}.get(refused.kind, IsolatedRunError)(refused.message)


def _death(code: int, watch: _Watch, errors: IO[bytes]) -> IsolatedRunError:
    if watch.tripped:
        return TooMuchMemoryError(f"stopped above {watch.limit_mb:.0f} MiB")
    if code == -signal.SIGKILL:
        return TooMuchMemoryError("killed by the system, most likely for its memory")
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return IsolatedRunError(f"died with code {code}: {lines[-1] if lines else 'it said nothing'}")


class _Watch:
    """Looks at a process's memory until stopped, and kills it when it holds too much. Does nothing without /proc."""

    def __init__(self, pid: int, limit_mb: float | None) -> None:
        self.tripped = False
        self.limit_mb = limit_mb
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        if limit_mb is not None:
            self._thread.start()

    def _look(self) -> None:
        assert self.limit_mb is not None
        while not self._done.wait(WATCH_S):
            if _resident_mb(self._pid) > self.limit_mb:
                self.tripped = True
                os.kill(self._pid, signal.SIGKILL)  # not yet waited for, so the number is still its own
                return

    def stop(self) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join()


def _resident_mb(pid: int) -> float:
    """What a process holds, MiB; 0 when it is not told (not Linux, or the process has ended)."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class _Remarks(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[_Remark] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(_Remark(record.getMessage()))


@contextmanager
def _named(image: Path) -> Iterator[None]:
    """A fault of ours says of which image it is: its last line is all that is told of it."""
    try:
        yield
    except (DetectorError, MemoryError, ImportError):
        raise
    except Exception as error:
        raise RuntimeError(f"{show(image)}: {type(error).__name__}: {first_line(error)}") from error


def _work(order: _Order) -> Iterator[_Message]:
    """What the child says, message by message."""
    settings = order.settings
    images = [Path(os.fsdecode(unquote_to_bytes(name))) for name in order.images]
    try:
        from detector.predictor import TextDetector

        remarks = _Remarks()
        _log.addHandler(remarks)
        detector = TextDetector(
            settings.model,
            runtime=settings.runtime,
            threads=settings.threads,
            limit_side=settings.limit_side,
            memory_limit=settings.memory_limit_mb << 20 if settings.memory_limit_mb else None,
            thresholds=settings.thresholds,
            tiled=settings.tiled,
        )
        configure_process(threads=detector.threads)
        yield from remarks.heard
        begun, rounds = time.perf_counter(), 0
        while not rounds or (
            settings.seconds and (rounds < LEAST_ROUNDS or time.perf_counter() - begun < settings.seconds)
        ):
            for number, image in enumerate(images):
                started = time.perf_counter()
                with _named(image):
                    boxes = [list(box.points) for box in detector.detect(image).boxes]
                yield Found(number, time.perf_counter() - started, boxes)
            rounds += 1
        yield Ended(detector.info.runtime, peak_rss_mb())
    except ModelError as error:
        yield _Refused("model", str(error))
    except ImageError as error:
        yield _Refused("image", str(error))
    except MemoryError:
        yield _Refused("memory", "no memory left")
    except ModuleNotFoundError as error:
        yield _Refused("missing", error.name or str(error))


def main() -> None:
    """The child: an order on stdin, messages on stdout."""
    output = sys.stdout.buffer
    # Libraries that print must not do so into our messages.
    sys.stdout = sys.stderr
    for message in _work(msgspec.json.decode(sys.stdin.buffer.read(), type=_Order)):
        output.write(msgspec.json.encode(message) + b"\n")
        output.flush()


if __name__ == "__main__":
    main()
