"""What a job may ask of the workers for its pages: thresholds, shape, less memory. Travels in every task."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import msgspec

from detector.thresholds import Shape

if TYPE_CHECKING:
    from detector.predictor import TextDetector

READER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?<!\.onnx)(?<!\.safetensors)(?<!\.pt)$"
"""A recogniser's name. Never a path (`detector.models.is_file_name`): who may send tasks may not choose which files of
a worker's disk are loaded."""

_Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PageOptions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Instead of the worker's own settings; None leaves a setting to the worker.

    Attributes:
        box_threshold: a box whose mean probability is below this is dropped, 0 to 1.
        unclip_ratio: how much a found region grows, 0 to 10.
        binarize: pixels at or above this probability are text, 0 to 1.
        tiled: run large pages in overlapping tiles.
        memory_limit_mb: of the worker process, MiB. Can only lower what the worker allows itself.
        shape: of the boxes.
        read: name of the recogniser that reads the boxes; empty: only boxes are wanted.
    """

    box_threshold: _Probability | None = None
    unclip_ratio: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    binarize: _Probability | None = None
    tiled: bool | None = None
    memory_limit_mb: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] | None = None
    shape: Shape | None = None
    read: Annotated[str, msgspec.Meta(pattern=rf"{READER_NAME}|^$")] = ""

    def memory_limit(self, own_mb: int | None) -> int | None:
        """Bytes for a page of this job on a worker that allows itself ``own_mb`` MiB (None: any amount).

        The smaller of the two: who sends a message must not make a worker take more than its machine's owner said.
        """
        limits = [mb for mb in (own_mb, self.memory_limit_mb) if mb is not None]
        return min(limits) << 20 if limits else None


NO_OPTIONS = PageOptions()


@contextmanager
def adjusted(detector: TextDetector, options: PageOptions, own_mb: int | None) -> Iterator[None]:
    """The detector as a job wants it, for one page; afterwards it is as before.

    Args:
        detector: of this process.
        options: the job's.
        own_mb: what the worker allows itself, MiB; None for any amount.
    """
    from detector.memory import decode_budget, limit_memory, resident_bytes

    before = detector.thresholds, detector.tiled, detector.shape, detector.memory_limit, detector.max_bytes
    rlimit = resource.getrlimit(resource.RLIMIT_DATA)
    changes = {name: getattr(options, name) for name in ("box_threshold", "unclip_ratio", "binarize")}
    try:
        detector.thresholds = replace(
            detector.thresholds, **{name: value for name, value in changes.items() if value is not None}
        )
        detector.tiled = detector.tiled if options.tiled is None else options.tiled
        detector.shape = options.shape or detector.shape
        if options.memory_limit_mb is not None and (memory_limit := options.memory_limit(own_mb)):
            limit_memory(memory_limit)
            detector.memory_limit = memory_limit
            detector.max_bytes = min(detector.max_bytes, decode_budget(memory_limit, resident_bytes()))
        yield
    finally:
        detector.thresholds, detector.tiled, detector.shape, detector.memory_limit, detector.max_bytes = before
        if options.memory_limit_mb is not None:  # the next page may be another job's, on a worker without a limit
            resource.setrlimit(resource.RLIMIT_DATA, rlimit)
