"""deploy/redis/check_aof.sh: what keeps a Redis from starting is cut off, what it can read is left as it is."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.processes import running_redis, wait_until
from tests.tools import tool

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPT = DEPLOY / "redis/check_aof.sh"


@contextmanager
def server(folder: Path) -> Iterator[redis.Redis]:
    """Debian's, on a folder."""
    command = (tool("redis-server", "apt-get install redis-server"), "--port", "0", "--unixsocket", folder / "s")
    client = redis.Redis(unix_socket_path=str(folder / "s"), retry=Retry(NoBackoff(), 0))
    kept = ("--dir", folder, "--appendonly", "yes", "--save", "")
    with running_redis([*command, *kept], folder / "log", lambda: client):
        yield client


def starts(folder: Path) -> bool:
    try:
        with server(folder):
            return True
    except AssertionError as error:
        assert "Bad file format" in str(error)
        return False


def check(folder: Path) -> str:
    return subprocess.run(["sh", SCRIPT, folder], check=True, capture_output=True, text=True, timeout=20).stderr


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Keys a0 to a2 in the base, b0 to b2 in the file after it."""
    with server(tmp_path) as client:
        for name in ("a0", "a1", "a2"):
            client.set(name, "x")
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], seconds=10, what="the base")
        for name in ("b0", "b1", "b2"):
            client.set(name, "x")
    return tmp_path


def dig(file: Path) -> None:
    """A hole as a short write leaves it: of b1 the beginning, zeros, and what was written later, b1 again first."""
    content = file.read_bytes()
    begun = content.index(b"b1")
    whole = content.rindex(b"*3", 0, begun)
    file.write_bytes(content[:begun] + bytes(5000) + content[whole:])


def test_a_hole_is_cut_off(written: Path) -> None:
    """Before: nobody could start it again, without a word of what to do."""
    dig(written / "appendonlydir/appendonly.aof.2.incr.aof")
    (written / "temp-rewriteaof-bg-7.aof").write_bytes(bytes(1000))
    assert not starts(written)
    assert "cut off what cannot be read" in check(written)
    with server(written) as client:
        assert sorted(client.keys()) == [b"a0", b"a1", b"a2", b"b0"]
    assert not list(written.glob("temp-*"))


def test_a_hole_before_the_last_file(written: Path) -> None:
    """So it is where the next copy failed, too, for the disk was full."""
    folder = written / "appendonlydir"
    dig(folder / "appendonly.aof.2.incr.aof")
    (folder / "appendonly.aof.3.incr.aof").write_bytes(b"*3\r\n$3\r\nset\r\n$1\r\nc\r\n$1\r\nx\r\n")
    with (folder / "appendonly.aof.manifest").open("a") as manifest:
        manifest.write("file appendonly.aof.3.incr.aof seq 3 type i\n")
    assert not starts(written)
    assert "appendonly.aof.3.incr.aof follows one that is damaged" in check(written)
    with server(written) as client:
        assert client.dbsize() == 4


def test_what_is_sound_or_not_ours_to_mend_stays(written: Path) -> None:
    folder = written / "appendonlydir"
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert check(written) == "" and {file.name: file.read_bytes() for file in folder.iterdir()} == before
    base = folder / "appendonly.aof.2.base.rdb"
    base.write_bytes(b"REDIS9999" + base.read_bytes()[9:])  # of a Redis to come
    assert check(written) == "" and base.exists() and len(list(folder.iterdir())) == len(before)
    (written / "empty").mkdir()
    assert check(written / "empty") == ""


def test_every_hub_runs_it() -> None:
    config = next(iter(yaml.safe_load_all((DEPLOY / "kubernetes/redis.yaml").read_text())))
    assert config["data"]["check_aof.sh"] == SCRIPT.read_text()
    for name, line in (
        ("kubernetes/redis.yaml", "sh /acl/check_aof.sh /data || :\n"),
        ("../docker-compose.yml", "sh /check_aof.sh /data\n"),
        ("../docker-compose.yml", "./deploy/redis/check_aof.sh:/check_aof.sh:ro"),
        (
            "redis/ocrfleet-redis.service",
            "ExecStartPre=-/bin/sh /etc/ocrfleet-hub/check_aof.sh /etc/ocrfleet-hub/data\n",
        ),
        ("hub.sh", """sh '$folder/check_aof.sh' /data; exec valkey-server '$folder/redis.conf'"]\n"""),
    ):
        assert line in (DEPLOY / name).read_text()
