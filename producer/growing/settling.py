"""Files of a watched folder that have stopped growing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from os import fsencode
from pathlib import Path

from producer.job.manifest import read_manifest
from producer.sources.own_pictures import made_by_us
from producer.sources.passed_over import is_junk
from producer.sources.walk import FoundFile, walk
from worker.storage.files import path_of

_Seen = tuple[int, int]  # size in bytes, time of the last change in ns


class Settling:
    """Looks at a folder again and again. By polling: it works on network file systems, where nobody is told of changes.

    Memory: about 60 bytes a file that was taken.
    """

    def __init__(
        self,
        root: Path,
        taken: Iterable[Path],
        *,
        settle_s: float,
        exclude: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Look at nothing yet.

        Args:
            root: the folder.
            taken: files that are not to be given again.
            settle_s: how long a file must have stayed as it is, seconds.
            exclude: the job's output folder: what we made in there is no input.
            clock: Unix time, for tests.
        """
        self._root = root
        self._taken = {_mark(file) for file in taken}
        self._settle_s = settle_s
        self._is_ours = made_by_us(root, exclude)
        self._clock = clock
        self._seen: dict[Path, tuple[_Seen, float]] = {}

    def _is_input(self, folder: Path, depth: int) -> bool:
        return not is_junk(folder.name) and not self._is_ours(folder)

    def ready(self) -> list[FoundFile]:
        """Files that were not taken, and have been the same for long enough."""
        now, seen, settled = self._clock(), dict[Path, tuple[_Seen, float]](), []
        # Whoever may put files here must not have us read others: no link out of the folder is followed.
        for found in walk(self._root, enter=self._is_input, outside=lambda link: False):
            if _mark(found.path) in self._taken:
                continue
            try:
                facts = found.path.stat()
            except OSError:  # gone again, or a link that leads nowhere yet
                continue
            is_now = (facts.st_size, facts.st_mtime_ns)
            before, since = self._seen.get(found.path, (None, now))
            seen[found.path] = (is_now, since if before == is_now else now)
            if now - seen[found.path][1] >= self._settle_s:
                settled.append(found)
        self._seen = seen
        return settled

    def take(self, files: Iterable[FoundFile]) -> None:
        """These are not to be given again."""
        self._taken |= {_mark(found.path) for found in files}


def _mark(file: Path) -> int:
    return int.from_bytes(blake2b(fsencode(file), digest_size=8).digest())


def files_of(manifest: Path) -> Iterator[Path]:
    """The files that a manifest's pages are in, archives included."""
    if manifest.exists():
        yield from (path_of(line.uri) for line in read_manifest(manifest))
