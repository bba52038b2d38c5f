"""Whoever has a worker's password may put what is no blob where one was: the page waits for `retry`, as without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from detector.errors import NotFound, UnsupportedFormat
from worker.broker import blobs
from worker.redis_keys import blob_key


@pytest.mark.parametrize(
    ("command", "values"),
    [("LPUSH", ["x"]), ("HSET", ["a", "b"]), ("SADD", ["x"]), ("ZADD", ["1", "x"]), ("XADD", ["*", "a", "b"])],
)
def test_it_is_not_found_and_sent_again(client: redis.Redis, tmp_path: Path, command: str, values: list[str]) -> None:
    """Before: `Internal: ResponseError: WRONGTYPE`, and no word of what to do."""
    client.execute_command(command, blob_key("job", 7), *values)
    uri = blobs.blob_uri("job", 7)
    with pytest.raises(NotFound, match="`ocr-producer retry job` sends them again"):
        blobs.fetch(client, uri, tmp_path / "page")
    blobs.put(client, "job", {7: b"bytes"}, ttl_s=60)
    blobs.fetch(client, uri, tmp_path / "page")
    assert (tmp_path / "page").read_bytes() == b"bytes"


def test_other_refusals_are_the_brokers(client: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise redis.ResponseError("LOADING Redis is loading the dataset in memory")

    monkeypatch.setattr(client, "getrange", refuse)
    with pytest.raises(redis.ResponseError):
        blobs.fetch(client, blobs.blob_uri("job", 7), tmp_path / "page")


@pytest.mark.parametrize("index", ["", "x", "-1", "99999999999", "9" * 5000], ids=len)
def test_no_page_of_a_job(client: redis.Redis, tmp_path: Path, index: str) -> None:
    with pytest.raises(UnsupportedFormat):
        blobs.fetch(client, f"{blobs.SCHEME}://job/{index}", tmp_path / "page")
