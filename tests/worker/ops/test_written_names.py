"""What a role of users.acl may write as a key is ours and bounded, ends, or goes with the hub's cleanup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from tests.redis_users import ROLES, USERS, server_with_users
from worker.cli.cleanup import cleanup
from worker.ops.foreign_keys import most_bytes
from worker.ops.key_scan import MOST_NAME, as_text, key_names, long_names

ODD = [b"\x00", b"\n", b"\xff", "é".encode(), b"]", b" ", b"\x06\x16", b"Z", b"0", b"\x7f"]
_PIECE = re.compile(rb"\[(?P<not>\^?)(?P<of>[^]]+)\]|(?P<any>\?)|(?P<all>\*)|(?P<plain>[^?*[]+)")


def patterns() -> set[bytes]:
    """All that the users in users.acl may touch."""
    lines = (line for line in USERS.read_bytes().splitlines() if line.split()[1] != b"default")
    return {word[1:] for line in lines for word in line.split() if word.startswith(b"~")}


def matching(pattern: bytes) -> Iterator[bytes]:
    """Names that match it: short ones of odd bytes, and longer ones than a scan lists."""
    pieces = list(_PIECE.finditer(pattern))
    assert b"".join(piece[0] for piece in pieces) == pattern, "a test reads each pattern whole"
    for fill in ODD:
        of_jobs = (b"job:" + fill, b"job:j:" + fill, b"blob:j:" + fill, b"job:j:" + fill * MOST_NAME)
        for stars in (b"", fill, fill * 3, fill * (MOST_NAME + 1), *of_jobs):
            name = b""
            for piece in pieces:
                if piece["of"]:
                    inside = re.compile(b"[" + piece["of"] + b"]")
                    fits = [b for b in (*fill, *range(256)) if bool(inside.match(bytes([b]))) != bool(piece["not"])]
                    wanted = fill[len(name) % len(fill)]
                    name += bytes([wanted if wanted in fits else fits[len(name) % len(fits)]])
                elif piece["any"]:
                    name += bytes([fill[len(name) % len(fill)]])
                else:
                    name += stars if piece["all"] else piece["plain"]
            yield name


@pytest.mark.parametrize("valkey", [False, True])
def test_what_a_role_may_write_is_bounded_or_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, valkey: bool
) -> None:
    """Before: 25 commands filled Redis for good by `ocrfleet\\x01\\x013`, `a@.celery.pidboxZZ3` or a name of 5,000
    bytes; no cleanup removed them."""
    names = {name for pattern in patterns() for name in matching(pattern)}
    with server_with_users(tmp_path, valkey=valkey) as server:
        admin = server.client("admin")
        written: set[bytes] = set()
        for role in ROLES:
            pipe = server.client(role).pipeline(transaction=False)
            ordered = sorted(names)
            for name in ordered:
                pipe.set(name, b"x" * 100)
            replies = pipe.execute(raise_on_error=False)
            assert all(reply is True or isinstance(reply, redis.ResponseError) for reply in replies)
            written |= {name for name, reply in zip(ordered, replies, strict=True) if reply is True}
        assert written == names, "each is one that somebody may write"
        before = admin.dbsize()
        monkeypatch.setenv("OCRFLEET_REDIS_URL", server.url("hub"))
        monkeypatch.setenv("OCRFLEET_SPOOL_DIR", str(tmp_path / "spool"))
        assert CliRunner().invoke(cleanup, ["--dry-run"]).exit_code == 0
        assert admin.dbsize() == before, "who only asks removes nothing"
        told = CliRunner().invoke(cleanup)
        assert told.exit_code == 0, told.output
        left = {name for name in names if admin.exists(name) and admin.ttl(name) == -1}
        assert all(ours_and_bounded(name) for name in left), sorted(left)[:9]


def ours_and_bounded(name: bytes) -> bool:
    """One of the names that the fleet itself has; a lock, since of other types a string is gone."""
    return len(name) <= MOST_NAME and bool(most_bytes(as_text(name), "string"))


def test_names_of_megabytes_are_met_one_by_one(tmp_path: Path) -> None:
    """Before: a cleanup of 256 MB of them took Redis to 1 GB; of these 24 MB, 65 MB more (now 15 to 33)."""
    with server_with_users(tmp_path) as server:
        worker, hub = server.client("worker"), server.client("hub")
        # In a table of four places two or three of them lie in one, and are met at once, in one run of six.
        server.client("admin").mset({f"other:{number}": "x" for number in range(2000)})
        for number in range(4):
            worker.set(b"ocrfleet:%d" % number + b"A" * (6 << 20), b"x")
        status = Path(f"/proc/{worker.info('server')['process_id']}/status")
        before = most_held(status)
        assert len(list(key_names(hub))) == 2000
        assert sum(long_names(hub, remove=True)) == 4
        assert most_held(status) - before < 50 << 10


def most_held(status: Path) -> int:
    """The most memory of a process so far, KiB."""
    return int(status.read_text().partition("VmHWM:")[2].split()[0])
