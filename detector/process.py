"""Settings of a whole process that does nothing but detect. Only entry points call this, never the library itself."""

from __future__ import annotations

from detector.memory import configure_malloc


def configure_process(*, threads: int = 1, arenas: int | None = None) -> None:
    """Sets this process up for small and steady memory; for workers, commands, and programs that only detect.

    glibc's malloc gives memory of past pages back (`detector.memory.configure_malloc`), and OpenCV runs in the calling
    thread instead of starting a pool. `TextDetector` works without it; a long-running process then holds some 100 MiB
    more. Call it again after loading a detector whose number of threads was not known before.

    Args:
        threads: that OpenCV may use; 1 for none but the caller's.
        arenas: heaps that malloc may make for threads (``MALLOC_ARENA_MAX``); None leaves that alone.
    """
    import cv2

    configure_malloc(arenas)
    cv2.setNumThreads(threads if threads > 1 else 0)  # 0: run in the calling thread, start no pool
