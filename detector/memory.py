"""What this process holds, what is left of its limit for opening a page, and how its libraries are set for little."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from pathlib import Path

RESERVE_BYTES = 8 * 2**20
"""Kept free: the record being written, Python's own growth between two pages."""

SMALLEST_BUDGET_BYTES = 16 * 2**20
"""Never less than this, however tight the limit: with less not even an ordinary photo could be opened."""


MARGIN_BYTES = 64 * 2**20
"""Allowed beyond the limit: allocated but never touched (arenas, thread stacks; 56 MiB measured with OpenVINO). Only
what is touched counts as resident; a page that an estimate admitted must never fail for this difference."""

LIBRARY_BYTES = 32 * 2**20
"""Of the mapped code of libraries (60 MB and more are touched in time) this much is in use at any moment. The rest is
only there until somebody needs the memory: the kernel drops pages that are on disk anyway, and never kills for them."""


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h, for mallopt(3)

OWN_MAPPING_BYTES = 2**20
"""Blocks from this size on are mapped apart, and unmapped when freed. Smaller ones are used again: mapping and zeroing
everything from 128 KB on for every single page costs up to 8 % of the time at 640 px. With 2 MB here, a page of 48
megapixels in strips keeps 50 MB more."""

HEAP_TOP_BYTES = 4 * 2**20
"""So much may lie free at the heap's end before it is given back."""

TRAINING_BYTES = 2**30
"""Training makes the same tensors at each step. Mapped anew each time, they cost 4 to 13 % of its time (ResNet-18, 448
to 128 px, one thread); kept, nothing: its peak is the same."""


def configure_malloc(arenas: int | None = None, *, training: bool = False) -> None:
    """Lets glibc give memory of past pages back: large blocks are mapped apart and unmapped when freed.

    glibc begins at 128 KB, but left alone it raises that to the largest block ever freed, up to 32 MB. Large pictures
    and maps of changing size then share the heap, and 500 pages of mixed sizes leave 100 MB of holes in it. Like
    ``MALLOC_MMAP_THRESHOLD_`` and ``MALLOC_TRIM_THRESHOLD_``, which would have to be set before the process starts;
    mallopt(3) works in a running one. No-op on musl and macOS.

    Args:
        arenas: how many heaps threads may have (``MALLOC_ARENA_MAX``); None leaves that alone.
        training: keep what is freed instead, for the next step.
    """
    mapped, top = (TRAINING_BYTES, TRAINING_BYTES) if training else (OWN_MAPPING_BYTES, HEAP_TOP_BYTES)
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, mapped)
        libc.mallopt(_M_TRIM_THRESHOLD, top)
        if arenas is not None:
            libc.mallopt(_M_ARENA_MAX, arenas)
    except (OSError, AttributeError):
        pass


def configure_process(*, threads: int = 1, arenas: int | None = None, training: bool = False) -> None:
    """Sets this process up for small and steady memory; for workers, commands, and programs that only detect.

    glibc's malloc gives memory of past pages back (`detector.memory.configure_malloc`), and OpenCV runs in the calling
    thread instead of starting a pool. `TextDetector` works without it; a long-running process then holds some 100 MiB
    more. Call it again after loading a detector whose number of threads was not known before.

    Args:
        threads: that OpenCV may use; 1 for none but the caller's.
        arenas: heaps that malloc may make for threads (``MALLOC_ARENA_MAX``); None leaves that alone.
        training: keep memory for the next step instead of giving it back.
    """
    import cv2

    configure_malloc(arenas, training=training)
    cv2.setNumThreads(threads if threads > 1 else 0)  # 0: run in the calling thread, start no pool


STARTING_OBJECTS = 10_000
"""So many new objects between two looks for garbage while a program starts; Python's own 700 are 140 looks."""

PYTHONS_OWN = gc.get_threshold()
_modules = 0  # imported at the last look


def collect_little_at_start() -> None:
    """Lets Python look for garbage rarely until this program has imported what it needs; for entry points.

    Imports make 55,000 objects and no garbage; looking for it took a sixth of the start of a command. The first look
    before which no module came is the end of that (`collect_as_usual`).
    """
    gc.callbacks.append(_looked)
    gc.set_threshold(STARTING_OBJECTS)


def collect_as_usual() -> None:
    """What is there stays, and is not looked at again; what comes is, as often as Python does by itself."""
    gc.freeze()
    gc.set_threshold(*PYTHONS_OWN)
    with suppress(ValueError):
        gc.callbacks.remove(_looked)


def _looked(phase: str, info: dict[str, int]) -> None:
    """Python's garbage collector calls it before ("start") and after ("stop") each look."""
    global _modules
    if phase == "stop":
        before, _modules = _modules, len(sys.modules)
        if before == _modules:
            collect_as_usual()


def resident_bytes() -> int:
    """Memory that this process needs, in bytes: its own, and of mapped files at most LIBRARY_BYTES.

    From /proc/self/status; elsewhere than on Linux the peak of everything.
    """
    try:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        own, files, shared = (int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem"))
        return own + shared + min(files, LIBRARY_BYTES)
    except (OSError, ValueError, KeyError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def peak_rss_mb() -> float:
    """The largest resident size of this process so far (since `clear_refs` was written, if it was), MiB.

    VmHWM of /proc/self/status; ru_maxrss elsewhere, which begins with the size of the process that forked this one.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def decode_budget(memory_limit: int, held: int) -> int:
    """Bytes that opening a page may take.

    Args:
        memory_limit: of the whole process, bytes.
        held: what the process holds at the moment, bytes.
    """
    return max(SMALLEST_BUDGET_BYTES, memory_limit - held - RESERVE_BYTES)


OOM_SCORE = 500
"""Of 1000: as if the process held half of what the machine, or its cgroup, may use."""


def raise_oom_score(pid: int | None = None) -> None:
    """If the kernel must kill for memory, this process goes, not the one that started it or the server beside it.

    For processes that open strangers' files: one that is lost costs a page or a file, a lost main process the service
    (proc(5), oom_score_adj; raising it needs no rights).

    Args:
        pid: of a child just started; None for this process. Those that it starts begin with the same score.
    """
    adjustment = Path("/proc") / ("self" if pid is None else str(pid)) / "oom_score_adj"
    with suppress(OSError, ValueError):  # another system, or it has ended already
        adjustment.write_text(str(min(1000, int(adjustment.read_text()) + OOM_SCORE)))


_limit_in_force: int | None = None


def limit_in_force() -> int | None:
    """The limit (bytes) that `limit_memory` last set here; None if it never did, or could not.

    Some libraries hide why they failed. Under a limit, want of memory is one of the reasons.
    """
    return _limit_in_force


def limit_memory(limit: int) -> None:
    """Lets this process allocate no more than its limit leaves, from now on; may be called again for each page.

    Estimates are made from headers, and a header may lie: 94 bytes of WebP can ask for 1.5 GB, a PDF of 2 KB for 1 GB.
    Beyond the limit an allocation fails instead: a MemoryError, a decoder's own error, or an abort of the library, each
    of which costs one page and never the machine.

    Sets the soft RLIMIT_DATA (setrlimit(2): private writable memory, since Linux 4.7). Other systems than Linux: no-op.

    Args:
        limit: of resident memory of this process, bytes.
    """
    global _limit_in_force  # one process, one limit
    allocated = _allocated_bytes()
    if allocated is None:
        return
    free = max(SMALLEST_BUDGET_BYTES, limit - resident_bytes())
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = allocated + free + MARGIN_BYTES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    with suppress(OSError, ValueError):  # a sandbox that forbids it has a limit of its own
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
        _limit_in_force = limit


def _allocated_bytes() -> int | None:
    """Private writable memory of this process, bytes: VmData of /proc/self/status; None where there is none."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
