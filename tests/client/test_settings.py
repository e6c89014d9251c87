"""Connection settings: what is refused, and how a base URL is normalised."""

from __future__ import annotations

import pytest

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "normalised"),
    [
        ("https://api.mynth.io", "https://api.mynth.io"),
        ("https://API.Mynth.io:443/", "https://api.mynth.io"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:8787/base/", "http://localhost:8787/base"),
        ("http://[::1]:8787", "http://[::1]:8787"),
    ],
)
def test_equal_servers_have_equal_base_urls(given, normalised):
    """The base URL is part of an account's identity: its spelling must not matter."""
    assert ClientSettings(base_url=given).normalised_base_url == normalised


@pytest.mark.parametrize(
    "fields",
    [
        *(
            {"base_url": url}
            for url in ("", "api.mynth.io", "ftp://x", "http://", "http://x:99999")
        ),
        *({"base_url": url} for url in ("http://u:p@x", "https://x?key=1", "http://x:port")),
        *({"api_key": key} for key in ("", "mak a", "mak\n", "mäk", "mak\r\nX: y")),
        *({"concurrency": number} for number in (0, -1, 2001)),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_sent(fields):
    """Settings are checked when they are made, and the setting at fault is named."""
    with pytest.raises(ConfigError) as caught:
        ClientSettings(**fields)

    assert caught.value.setting in fields


def test_no_wrong_key_is_quoted():
    """A key with a stray newline is still a secret."""
    with pytest.raises(ConfigError) as caught:
        ClientSettings(api_key="mak_secret\n")

    assert "mak_secret" not in str(caught.value)
