"""Two users, neither of them root, in a folder of their group: what one does while the other writes, at that moment."""

from __future__ import annotations

import importlib
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer.job.manifest import ManifestLine, write_lines
from producer.job.output_folder import JobRequest, OutputFolder
from tests.producer.records import ok, write_results
from tests.tools import missing

OWNER, OTHER, GROUP = 12345, 12346, 12347
AWAY = "away"
PICTURES = dict.fromkeys(
    ("a.jpg", "b.jpg", "sub/b.jpg", "doc.pdf_p0001.jpg", "doc_p0001.jpg", "a.txt", "sub/b.txt"), "mine"
)


class Shared:
    """A group's folder, the job of one user in it, and another of the group.

    Attributes:
        project: the folder.
        album: the first user's pictures, which none but he may see: links lead there.
        out: the first user's output folder.
        deed: what the other does; told by `now`.
    """

    def __init__(self, root: Path) -> None:
        """Make the folders; the job is made by its user."""
        self.project, self.album = root / "project", root / "home/album"
        self.out = self.project / "out"
        for folder, owner, mode in (
            (root, 0, 0o755),
            (self.project, 0, 0o2775),
            (root / "home", OWNER, 0o755),
            (self.album, OWNER, 0o700),
            (self.album / "sub", OWNER, 0o700),
        ):
            folder.mkdir(exist_ok=True)
            os.chown(folder, owner, GROUP)
            folder.chmod(mode)
        for name, text in PICTURES.items():
            (self.album / name).write_text(text)
            os.chown(self.album / name, OWNER, OWNER)
        self.deed: Callable[[], None] = lambda: None
        self._ask, self._told = os.pipe(), os.pipe()
        self._done = False

    def begin(self, mode: int = 0o2775) -> None:
        """As the first user: a job that is done, in a folder that its group may write into."""
        os.umask(0o002)
        self.out.mkdir()
        records = [ok(0, "a.jpg"), ok(1, "sub/b.jpg"), ok(2, "doc.pdf")]
        write_results(self.out, records)
        with (self.out / "manifest.jsonl").open("wb") as stream:
            write_lines(stream, (ManifestLine(r.index, r.image, f"file:///in/{r.image}", 0) for r in records))
        OutputFolder(self.out).save_request(JobRequest(job="j", sources=["/in"]))
        self.out.chmod(mode)

    def now(self) -> None:
        """Called by the first user: let the other act, and wait for it."""
        if not self._done:
            self._done = True
            os.write(self._ask[1], b"x")
            assert os.read(self._told[0], 1) == b"x"

    def play(self, first: Callable[[], None]) -> None:
        """Both, as processes of their own; what the first raises ends the test."""

        def other() -> None:
            os.read(self._ask[0], 1)
            try:
                self.deed()
            finally:
                os.write(self._told[1], b"x")

        second = forked(OTHER, other)
        first_said = os.waitpid(forked(OWNER, first), 0)[1]
        os.write(self._ask[1], b"x")
        assert os.waitpid(second, 0)[1] == 0, "the other could not do it"
        assert first_said == 0
        assert {name: (self.album / name).read_text() for name in PICTURES} == PICTURES
        assert sum(1 for path in self.album.rglob("*") if path.is_file()) == len(PICTURES)

    def swap(self, name: str, inside: str) -> None:
        """The deed: something in OUT is moved away and a link takes its name; OUT itself: with the link in it."""

        def deed() -> None:
            (place,) = self.out.glob(name) if name != "." else [self.out]
            place.rename(place.with_name(AWAY))
            if name == ".":
                place.mkdir()
            link = place / inside if name == "." else place
            link.symlink_to(self.album / "sub" if name.endswith("/sub") else self.album)

        self.deed = deed


@contextmanager
def shared_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shared]:
    """A scene that both users can reach, with the first one's state in his own home."""
    if os.geteuid() != 0:
        missing("needs root, to be two other users")
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:  # pytest's are root's alone
        for module in ("sqlite3", "importlib.readers"):  # now: the others cannot read a Python in root's home
            importlib.import_module(module)
        monkeypatch.setenv("XDG_STATE_HOME", str(Path(name) / "home/state"))
        yield Shared(Path(name))


def forked(user: int, deed: Callable[[], None]) -> int:
    """A process of this user; it ends with 0 unless the deed raises."""
    if process := os.fork():
        return process
    code = 1
    try:
        os.setgroups([GROUP])
        os.setgid(GROUP)
        os.setuid(user)
        deed()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
