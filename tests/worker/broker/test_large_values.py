"""Large values are sent from their files, in pieces; and no error holds what a command would have written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from detector.memory import peak_rss_mb
from worker.broker import blobs, connect
from worker.broker.connection import is_full
from worker.broker.large_values import PIECE_BYTES, FromFile, SourceLostError, set_from_file
from worker.redis_keys import JobKeys, blob_key
from worker.settings import Settings

JOB = "large"
KEY = blob_key(JOB, 0)


@pytest.fixture
def ours(client: redis.Redis, settings: Settings) -> Iterator[redis.Redis]:
    """A connection as our programs make it."""
    connection = connect(settings)
    yield connection
    connection.close()


def value_of(path: Path, size: int) -> FromFile:
    with path.open("wb") as file:
        file.write(b"\xff\xd8\xff begins ")
        file.truncate(size)
    return FromFile(path.open("rb"), size)


def forget_the_peak() -> float:
    Path("/proc/self/clear_refs").write_text("5")
    return peak_rss_mb()


@pytest.mark.parametrize("size", [PIECE_BYTES, 3 * PIECE_BYTES + 17])
def test_the_value_that_arrives(ours: redis.Redis, tmp_path: Path, size: int) -> None:
    value = value_of(tmp_path / "page", size)
    (tmp_path / "page").unlink()
    for _ in range(2):  # as often as one likes
        set_from_file(ours, KEY, value, 60)
        found = ours.get(KEY)
        assert found is not None and len(found) == size and found.startswith(b"\xff\xd8\xff begins \0")
        assert 0 < ours.ttl(KEY) <= 60
    value.close()


def test_little_memory_for_much(ours: redis.Redis, tmp_path: Path) -> None:
    value = value_of(tmp_path / "page", 48 << 20)
    before = forget_the_peak()
    blobs.put(ours, JOB, {0: value}, 60)
    assert peak_rss_mb() - before < 6
    assert blobs.waiting_bytes(ours, [JOB]) == ours.strlen(KEY) == 48 << 20
    value.close()


def test_a_connection_that_was_lost_is_made_again(ours: redis.Redis, client: redis.Redis, tmp_path: Path) -> None:
    value = value_of(tmp_path / "page", 2 * PIECE_BYTES)
    client.client_kill_filter(_id=ours.client_id())
    set_from_file(ours, KEY, value, 60)
    assert client.strlen(KEY) == 2 * PIECE_BYTES
    value.close()


def test_a_file_that_is_cut_meanwhile_leaves_nothing(ours: redis.Redis, tmp_path: Path) -> None:
    value = value_of(tmp_path / "page", 3 * PIECE_BYTES)
    os.truncate(tmp_path / "page", PIECE_BYTES)
    with pytest.raises(SourceLostError, match=r"2,097,152 bytes shorter"):
        set_from_file(ours, KEY, value, 60)
    lost = blobs.put(ours, JOB, {0: value, 1: b"small", 2: value_of(tmp_path / "other", 2 * PIECE_BYTES)}, 60)
    assert list(lost) == [0] and "shorter" in lost[0]
    assert [ours.strlen(blob_key(JOB, index)) for index in range(3)] == [0, 5, 2 * PIECE_BYTES]
    assert ours.hkeys(JobKeys.of(JOB).blobs) == [b"1", b"2"]
    value.close()


@pytest.mark.parametrize("in_file", [True, False])
def test_a_full_broker_is_told_of_in_a_line_without_the_picture(
    ours: redis.Redis, client: redis.Redis, set_full: Callable[[bool], None], tmp_path: Path, in_file: bool
) -> None:
    """Before: 60 MB of the picture were in the message, and in the page's log; 300 MB were its making."""
    value = value_of(tmp_path / "page", 24 << 20)
    data = value if in_file else b"".join(value.pieces())
    client.config_set("maxmemory", client.info("memory")["used_memory"] + (4 << 20))
    before = forget_the_peak()
    with pytest.raises(redis.ResponseError) as refused:
        blobs.put(ours, JOB, {0: data}, 60)
    said = str(refused.value)
    assert peak_rss_mb() - before < 6
    assert is_full(refused.value) and len(said) < 400 and "begins" not in said and "\0" not in said
    set_full(False)
    assert ours.exists(KEY, JobKeys.of(JOB).blobs) == 0
    value.close()


def test_errors_of_a_pipeline_name_the_command_and_its_key(ours: redis.Redis) -> None:
    ours.set(KEY, "x")
    pipe = ours.pipeline(transaction=False)
    pipe.set("first", "y")
    pipe.hset(KEY, "field", b"z" * 5000)
    with pytest.raises(
        redis.ResponseError, match=rf"^Command # 2 \(HSET {KEY}\) of pipeline caused error: "
    ) as refused:
        pipe.execute()
    assert len(str(refused.value)) < 300 and "WRONGTYPE" in str(refused.value)
