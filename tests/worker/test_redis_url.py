"""No password of a Redis URL ever reaches a message."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.redis_url import is_local, redacted
from worker.settings import SettingsError, read_settings

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
        ("redis://hub:6379/0?db=1&PassWord=s3cret&x=1", "redis://hub:6379/0?db=1&PassWord=***"),
        ("redis://hub/0?pass%77ord=s3cret", "redis://hub/0?pass%77ord=***"),
        ("redis://hub/0?password=p@ss", "redis://hub/0?password=***"),
        ("unix:///run/redis.sock?password=s3cret", "unix:///run/redis.sock?password=***"),
        ("unix://worker:s3cret@/run/redis.sock", "unix://worker:***@/run/redis.sock"),
        ("redis://s3cret@hub", "redis://:***@hub"),
        ("s3cret", "***"),
        ("s3cret://Ab/c+x", "***"),
        ("", "***"),
        # Before: the password behind its first & or ?, or all of it.
        ("redis://hub/0?password=s3&cret", "redis://hub/0?password=***"),
        ("redis://:s3?c=ret@hub/0", "redis://:***@hub/0"),
        ("redis://:s3@c?r=et@hub/0", "redis://:***@hub/0"),
        ("redis://:s3?db=ret@hub/0", "redis://***"),
        ("redis://hub/0?p%61ssword=s3cret", "redis://***"),
        ("redis://hub/0?unknown=s3cret", "redis://***"),
    ],
)
def test_redacted(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert not any(secret in shown for secret in SECRETS)


PIECES = st.text("abXY09/+@:?#&=%[]!$'()*,;~-._ ", min_size=2, max_size=12)


@pytest.mark.slow
@given(
    PIECES,
    st.sampled_from(
        (
            "redis://:{}@hub:6379/0",
            "rediss://me:{}@hub/0?ssl_cert_reqs=none",
            "redis://hub/0?db=1&password={}&protocol=3",
            "unix:///run/r.sock?password={}",
            "unix://me:{}@/run/r.sock",
            "{}",
        )
    ),
)
@settings(max_examples=1000)
def test_no_piece_of_a_password_is_shown(middle: str, form: str) -> None:
    """Before: one password in nine, of those with such characters in them."""
    shown = redacted(form.format(f"Qq{middle}Zz"))
    assert "Qq" not in shown and "Zz" not in shown


@pytest.mark.parametrize(
    "url", ["redis://:Qq/Zz@hub:6379", "redis://Qq/Zz@127.0.0.1:1", "redis://:Qq?Zz@hub:1", "redis://Qq?Zz@hub"]
)
def test_nor_by_an_error_of_the_library(url: str) -> None:
    """Before: Port could not be cast to integer value as 'Qq', by our commands and by `celery -A worker.app`."""
    with pytest.raises(SettingsError) as refused:
        read_settings({"OCRFLEET_REDIS_URL": url})
    assert "Qq" not in str(refused.value) and "Zz" not in str(refused.value) and "%2F" in str(refused.value)


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
