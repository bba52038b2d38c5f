"""Files of a watched folder that have stopped growing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from os import fsencode
from pathlib import Path

from producer.growing.marks import Marks, Unchanged, mark_of
from producer.job.manifest import read_manifest
from producer.sources.own_pictures import made_by_us
from producer.sources.passed_over import is_junk
from producer.sources.walk import FoundFile, walk
from worker.storage.files import path_of


class Settling:
    """Looks at a folder again and again. By polling: it works on network file systems, where nobody is told of changes.

    Memory: 9 bytes a file that was given, 28 a file that was not yet; that of a walk.
    """

    def __init__(
        self,
        root: Path,
        taken: Iterable[Path],
        *,
        settle_s: float,
        exclude: Path | None = None,
        clock: Callable[[], float] = time.monotonic,  # one that is set back would hold files until it is there again
    ) -> None:
        """Look at nothing yet.

        Args:
            root: the folder.
            taken: files that were given before.
            settle_s: how long a file must have stayed as it is, seconds.
            exclude: the job's output folder: what we made in there is no input.
            clock: seconds, for tests.
        """
        self._root = root
        self._given = Marks()
        for file in taken:
            self._given.add(_mark(file))
        self._settle_s = settle_s
        self._is_ours = made_by_us(root, exclude)
        self._clock = clock
        self._unchanged = Unchanged()

    def _is_input(self, folder: Path, depth: int) -> bool:
        return not is_junk(folder.name) and not self._is_ours(folder)

    def ready(self) -> Iterator[FoundFile]:
        """Looks at the folder once. Gives the files that have been the same for long enough, and each of them once.

        Whoever takes long between two files finds the second as it is then.
        """
        self._unchanged.begin_look()
        # Whoever may put files here must not have us read others: no link out of the folder is followed.
        for found in walk(self._root, enter=self._is_input, outside=lambda link: False):
            mark = _mark(found.path)
            if mark in self._given:
                continue
            now = self._clock()
            try:
                facts = found.path.stat()
            except OSError:  # gone again, or a link that leads nowhere yet
                continue
            is_now = hash((facts.st_size, facts.st_mtime_ns)) % (1 << 64)
            if now - self._unchanged.since(mark, is_now, now) >= self._settle_s:
                self._given.add(mark)
                yield found
        self._unchanged.end_look()


def _mark(file: Path) -> int:
    return mark_of(fsencode(file))


def files_of(manifest: Path) -> Iterator[Path]:
    """The files that a manifest's pages are in, archives included."""
    if manifest.exists():
        yield from (path_of(line.uri) for line in read_manifest(manifest))
