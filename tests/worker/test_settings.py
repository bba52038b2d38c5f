"""Settings: read from the environment, refused with the variable's name, turned into Celery's spelling."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.app import configuration
from worker.redis_url import broker_url, redacted
from worker.settings import SettingsError, read_settings


def test_defaults_hold_together() -> None:
    settings = read_settings({})
    assert settings.task_timeout_s < settings.hard_timeout_s < settings.visibility_timeout_s < 3600
    config = configuration(settings)
    assert config["worker_concurrency"] == config["worker_prefetch_multiplier"] == 1
    assert config["worker_disable_prefetch"] and config["task_acks_late"] and config["task_reject_on_worker_lost"]
    assert config["accept_content"] == ["json"]
    timeouts = {
        config["visibility_timeout"],
        config["broker_transport_options"]["visibility_timeout"],
        config["result_backend_transport_options"]["visibility_timeout"],
    }
    assert timeouts == {settings.visibility_timeout_s}


def test_the_environment_wins_over_the_profile(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    settings = read_settings(
        {
            "OCRFLEET_PROFILE": "low",
            "OCRFLEET_LIMIT_SIDE": "736",
            "OCRFLEET_ROOTS": f"{tmp_path}/link:s3://bucket/in:/srv/scans",
            "OCRFLEET_TEMP_TTL_H": "0.5",
        }
    )
    assert settings.profile.name == "low"
    assert settings.limit_side == 736
    assert settings.roots == (tmp_path.resolve(), Path("/srv/scans"))
    assert settings.named_roots == (tmp_path / "link", Path("/srv/scans")) and settings.url_roots == ("s3://bucket/in",)
    assert settings.temp_ttl_h == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROFILE", "turbo"),
        ("RUNTIME", "tensorrt"),
        ("LIMIT_SIDE", "big"),
        ("LIMIT_SIDE", "8"),
        ("MAX_ATTEMPTS", "0"),
        ("CLEANUP_CRON", "every night"),
        ("CLEANUP_CRON", "99 3 * * *"),
        ("CLEANUP_CRON", "1,,2 3 * * *"),
        ("CLEANUP_CRON", "*/0 3 * * *"),
        ("NICE", "-5"),
    ],
)
def test_bad_values_name_their_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"OCRFLEET_{name}"):
        read_settings({f"OCRFLEET_{name}": value})


@pytest.mark.parametrize(
    ("redis_url", "celery_url"),
    [
        ("redis://:pw@host:6379/2", "redis://:pw@host:6379/2"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock?virtual_host=0"),
        ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3"),
        ("rediss://host/0", "rediss://host/0?ssl_cert_reqs=required"),
    ],
)
def test_broker_urls(redis_url: str, celery_url: str) -> None:
    assert broker_url(redis_url) == celery_url


def test_passwords_do_not_reach_messages() -> None:
    assert "hunter2" not in redacted("redis://user:hunter2@host:6379/0")
    assert "host:6379" in redacted("redis://user:hunter2@host:6379/0")


@pytest.mark.parametrize(
    ("url", "roots", "expected"),
    [
        ("redis://127.0.0.1:6379/0", "", True),
        ("redis://10.0.0.1:6379/0", "", False),
        ("redis://127.0.0.1:6379/0", "/srv", False),
    ],
)
def test_a_network_brokers_worker_opens_no_files_without_roots(url: str, roots: str, expected: bool) -> None:
    """Before: whoever had the Redis password could have any file of the machine opened."""
    assert read_settings({"OCRFLEET_REDIS_URL": url, "OCRFLEET_ROOTS": roots}).opens_anything is expected
