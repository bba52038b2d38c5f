"""An OUT that was shared before its user goes on, with `chmod -R g+rwX` or an ACL: nobody else is taken for him."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
import redis

from producer.job.output_folder import JobRequest, OutputFolder
from producer.local import server as server_module
from producer.local.server import EmbeddedServer, server_binary
from producer.no_links import OthersFolderError
from tests.producer.two_users import WAYS, Shared, set_acl, shared_folder


@pytest.fixture(params=WAYS)
def shared(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Shared]:
    with shared_folder(monkeypatch, request.param) as scene:
        program = scene.project.parent / "server"
        shutil.copy(server_binary(), program)
        program.chmod(0o755)
        monkeypatch.setattr(server_module, "server_binary", lambda: program)
        redis.Redis(unix_socket_path="/none")  # loads what it needs, now: the others cannot
        yield scene


def first_key(data: Path) -> bytes | None:
    """What a server of this folder has by the name, which it has from then on."""
    server = EmbeddedServer(data)
    server.start()
    try:
        with redis.Redis(unix_socket_path=str(server.socket)) as client:
            found = client.get("a")
            client.set("a", "\n$(touch PWNED)\n")
            client.bgrewriteaof()
        return found if found is None else bytes(found)
    finally:
        server.stop()


def test_valkey_writes_through_no_link_into_a_file_of_the_user(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before: the folder that Valkey makes stayed the group's, and it emptied and wrote a ~/.bashrc by a link in it."""
    bashrc = shared.project.parent / "home/.bashrc"
    stamp = server_module.stamp

    def stamped(data: Path) -> None:
        """After the last look, before Valkey starts."""
        shared.now()
        stamp(data)

    def other() -> None:
        for folder in (shared.out / ".ocrfleet").glob("server*/appendonlydir"):
            (folder / "appendonly.aof.manifest").write_text("file appendonly.aof.1.base.rdb seq 1 type b\n")
            for number in range(1, 9):
                link = folder / f"appendonly.aof.{number}.incr.aof"
                link.unlink(missing_ok=True)
                link.symlink_to(bashrc)

    def first() -> None:
        bashrc.write_text("mine")
        shared.begin()
        folder = OutputFolder(shared.out)
        with folder.locked():
            assert first_key(folder.server_data) is None
            # With the umask 002 its log and base file are 664, and nobody could reach them.
            assert first_key(folder.server_data)
        shared.share()
        monkeypatch.setattr(server_module, "stamp", stamped)
        with folder.locked(), caplog.at_level(logging.WARNING):
            assert folder.request().job == "j"
            assert first_key(folder.server_data) is None
            assert bashrc.read_text() == "mine"
            assert "others' to write: moved to" in caplog.text and "goes on from the results" in caplog.text
            caplog.clear()
            assert first_key(folder.server_data) and not caplog.text, "once"
        assert folder.results.stat().st_size

    shared.deed = other
    shared.play(first)


@pytest.mark.parametrize("shared", ["own group", "acl"], indirect=True)
def test_a_fresh_job_is_closed_and_goes_on_in_silence(shared: Shared, caplog: pytest.LogCaptureFixture) -> None:
    """With the umask 002 in a group of one's own, and ACLs on OUT that all in it inherits; where it was moved, too."""
    moved = shared.project / "moved"

    def first() -> None:
        shared.begin()
        shutil.rmtree(shared.out / ".ocrfleet")
        if shared.way == "acl":
            for kind in ("access", "default"):
                set_acl(shared.out, kind)
        with caplog.at_level(logging.WARNING):
            folder = OutputFolder(shared.out)
            folder.save_request(JobRequest(job="j", sources=["/in"]))
            with folder.locked():
                assert first_key(folder.server_data) is None
                shared.now()
            shared.out.rename(moved)
            folder = OutputFolder(moved)
            (folder.private / "request-by").unlink()  # of a version that made no stamp
            assert folder.request().sources == ["/in"]
            with folder.locked():
                assert first_key(folder.server_data)
            assert not caplog.text

    def other() -> None:
        for name in ("", "/request.json", "/server/appendonlydir/appendonly.aof.manifest"):
            with pytest.raises(PermissionError):
                os.close(os.open(f"{shared.out}/.ocrfleet{name}", os.O_RDWR if name else os.O_RDONLY))

    shared.project.chmod(0o2777)  # in which the other is nobody's group, too
    shared.deed = other
    shared.play(first)


@pytest.mark.parametrize("too_late", [False, True])
def test_rights_that_are_given_while_it_runs_are_taken_back(shared: Shared, too_late: bool) -> None:
    """By a nightly job over a project's folder, say."""

    def other() -> None:
        link = shared.out / ".ocrfleet/server/appendonlydir/appendonly.aof.2.incr.aof"
        with nullcontext() if too_late else pytest.raises(PermissionError):
            link.symlink_to(shared.album)

    def first() -> None:
        shared.begin()
        with OutputFolder(shared.out).held():
            server = EmbeddedServer(shared.out / ".ocrfleet/server")
            server.keep_from_others()
            server.start()
            try:
                server.keep_from_others()
                shared.share()
                if too_late:
                    shared.now()
                    with pytest.raises(OthersFolderError, match=r"appendonly\.aof\.2\.incr\.aof is a link"):
                        server.keep_from_others()
                else:
                    server.keep_from_others()
                    shared.now()
            finally:
                server.stop()

    shared.deed = other
    shared.play(first)


@pytest.mark.parametrize("changed", [True, False])
def test_a_request_that_another_wrote_into_is_not_obeyed(shared: Shared, changed: bool) -> None:
    """Before: its owner alone was looked at, and the group may write into the user's own file."""
    request = shared.out / ".ocrfleet/request.json"

    def first() -> None:
        shared.begin()
        shared.share()
        shared.now()
        folder = OutputFolder(shared.out)
        for _ in range(2):  # nor by the next command
            if changed:
                with pytest.raises(OthersFolderError, match=r"others can write to .*request\.json.*chmod go-w"):
                    folder.request()
                assert folder.picture_list()[1] is None
            else:
                assert folder.request().sources == ["/in"]
                folder.save_request(folder.request())
        request.chmod(0o644)  # he has looked at it
        assert folder.request().sources == (["/etc"] if changed else ["/in"])

    def other() -> None:
        with request.open("r+b") as file:
            said = JobRequest(job="j", sources=["/etc" if changed else "/in"])
            file.truncate(file.write(msgspec.json.encode(said)))

    shared.deed = other
    shared.play(first)
