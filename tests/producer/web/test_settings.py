from __future__ import annotations

import pytest

from producer.web.settings import WebSettingsError, read_web_settings

TOKEN = {"OCRFLEET_WEB_TOKEN": "a-token-of-enough-characters"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_nobody_listens_to_others_without_a_token(host: str) -> None:
    with pytest.raises(WebSettingsError, match="OCRFLEET_WEB_TOKEN"):
        read_web_settings({}, host=host)
    assert read_web_settings(TOKEN, host=host).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.8.8"])
def test_this_machine_needs_none_but_a_right_host_header(host: str) -> None:
    settings = read_web_settings({}, host=host)
    assert "localhost" in settings.hosts and "evil.example" not in settings.hosts


def test_a_short_token_is_refused() -> None:
    with pytest.raises(WebSettingsError, match="fewer than 16"):
        read_web_settings({"OCRFLEET_WEB_TOKEN": "secret"})


@pytest.mark.parametrize(("name", "value"), [("PORT", "0"), ("PORT", "x"), ("MAX_FILES", "-1"), ("TRANSFER", "ftp")])
def test_unusable_values_name_their_variable(name: str, value: str) -> None:
    with pytest.raises(WebSettingsError, match=f"OCRFLEET_WEB_{name}"):
        read_web_settings({f"OCRFLEET_WEB_{name}": value})


def test_a_small_machine_takes_fewer_files() -> None:
    assert read_web_settings({}, low=True).max_files == 10
    assert read_web_settings({}).max_files == 50
