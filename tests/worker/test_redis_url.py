"""No password of a Redis URL ever reaches a message."""

from __future__ import annotations

import pytest

from worker.redis_url import is_local, redacted

SECRETS = ("Ab/c+x", "s3cret", "p@ss", "a?b", "a#b", "x:y")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:s3cret@10.0.0.1:6379/0", "redis://:***@10.0.0.1:6379/0"),
        (
            "rediss://worker:s3cret@hub:6380/1?ssl_ca_certs=/etc/ca.pem",
            "rediss://worker:***@hub:6380/1?ssl_ca_certs=/etc/ca.pem",
        ),
        ("redis://:Ab/c+x@hub:6379/0", "redis://:***@hub:6379/0"),
        ("redis://:p@ss@hub", "redis://:***@hub"),
        ("redis://:a?b@hub:6379", "redis://:***@hub:6379"),
        ("redis://:a#b@hub:6379", "redis://:***@hub:6379"),
        ("redis://u:x:y@hub", "redis://u:***@hub"),
        ("redis://hub:6379/0?password=s3cret", "redis://hub:6379/0?password=***"),
        ("redis://hub:6379/0?db=1&PassWord=s3cret&x=1", "redis://hub:6379/0?db=1&PassWord=***&x=1"),
        ("redis://hub/0?pass%77ord=s3cret", "redis://hub/0?pass%77ord=***"),
        ("redis://hub/0?password=p@ss", "redis://hub/0?password=***"),
        ("unix:///run/redis.sock?password=s3cret", "unix:///run/redis.sock?password=***"),
        ("unix://worker:s3cret@/run/redis.sock", "unix://worker:***@/run/redis.sock"),
        ("redis://s3cret@hub", "redis://:***@hub"),
        ("s3cret", "***"),
        ("", "***"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert not any(secret in shown for secret in SECRETS)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("redis://127.0.0.1:6379/0", True),
        ("redis://:pass@localhost/0", True),
        ("rediss://[::1]:6380", True),
        ("redis:///0", True),
        ("unix:///run/redis.sock", True),
        ("redis://10.0.0.1:6379/0", False),
        ("redis://hub:6379", False),
        ("redis://:Ab/c+x@10.0.0.1:6379", False),
        ("redis://localhost.example.org", False),
    ],
)
def test_is_local(url: str, local: bool) -> None:
    assert is_local(url) is local
