"""Two users, neither of them root, in a folder of their group: what one does while the other writes, at that moment."""

from __future__ import annotations

import grp
import importlib
import os
import pwd
import stat
import struct
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer.held_folder import SHARED_OUT
from producer.job.manifest import ManifestLine, write_lines
from producer.job.output_folder import JobRequest, OutputFolder
from tests.producer.records import ok, write_results
from tests.tools import missing

OWNER, OTHER, GROUP = 12345, 12346, 12347
AWAY = "away"
WAYS = ("group", "own group", "acl")
"""How a user lets the other write: a group of both; his own group, which the other has as his primary one, so that
/etc/group lists nobody; an entry of an ACL, whose mask is what the group's bits show."""
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
        way: of `WAYS`, by which the other is let in.
    """

    def __init__(self, root: Path) -> None:
        """Make the folders; the job is made by its user."""
        self.way = "group"
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

    def share(self) -> None:
        """As the first user: let the other write everywhere in OUT, in the scene's way."""
        if self.way != "acl":
            subprocess.run(("chmod", "-R", "g+rwX", self.out), check=True)
            return
        for path in (self.out, *self.out.rglob("*")):
            set_acl(path)

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

        second = forked(OTHER, other, OTHER if self.way == "acl" else GROUP)
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
def shared_folder(monkeypatch: pytest.MonkeyPatch, way: str = "group") -> Iterator[Shared]:
    """A scene that both users can reach, with the first one's state in his own home."""
    if os.geteuid() != 0:
        missing("needs root, to be two other users")
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as name:  # pytest's are root's alone
        for module in ("sqlite3", "importlib.readers"):  # now: the others cannot read a Python in root's home
            importlib.import_module(module)
        monkeypatch.setenv("XDG_STATE_HOME", str(Path(name) / "home/state"))
        monkeypatch.setenv(SHARED_OUT, "1")  # what holds all the same
        scene = Shared(Path(name))
        scene.way = way
        if way != "group":
            own = pwd.struct_passwd(("owner", "x", OWNER, GROUP, "", "/", ""))
            monkeypatch.setattr(pwd, "getpwuid", lambda uid: own)
            monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group(("owner", "x", GROUP, [])))
        if way == "acl":
            acl_or_skip(scene.project)
            os.removexattr(scene.project, "system.posix_acl_access")
            scene.project.chmod(0o2775)
        yield scene


def set_acl(path: Path, kind: str = "access") -> None:
    """As `setfacl -m u:OTHER:rwX`, which no package needs to bring; `default`: as `setfacl -d -m`, for a folder."""
    mode = path.stat().st_mode
    given = 6 | (stat.S_ISDIR(mode) or bool(mode & 0o111))
    group, nobody = mode >> 3 & 7, 0xFFFFFFFF
    entries = (
        *((1, mode >> 6 & 7, nobody), (2, given, OTHER), (4, group, nobody)),  # owner, named user, group
        *((0x10, given | group, nobody), (0x20, mode & 7, nobody)),  # mask, all others
    )
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    os.setxattr(path, f"system.posix_acl_{kind}", packed)


def acl_or_skip(path: Path) -> None:
    """As `set_acl`, where the disk has such things."""
    try:
        set_acl(path)
    except OSError as error:
        missing(f"a disk with ACLs ({error})")


def forked(user: int, deed: Callable[[], None], group: int = GROUP) -> int:
    """A process of this user; it ends with 0 unless the deed raises."""
    if process := os.fork():
        return process
    code = 1
    try:
        os.setgroups([group])
        os.setgid(group)
        os.setuid(user)
        deed()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
