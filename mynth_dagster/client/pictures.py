"""Which URLs of pictures are fetched at all: a result's URL is data, and may be hostile. Pure."""

from __future__ import annotations

import re

from mynth_dagster.client.settings import ClientSettings

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?"
    r"(?:[/?][!-\[\]-~]*)?",
    re.IGNORECASE,
)
"""No credentials, no backslash, no space: nothing that two parsers might read differently."""

_DEFAULT_PORT = {"http": "80", "https": "443"}


def is_trusted_picture(url: str, settings: ClientSettings) -> bool:
    """
    Whether a picture may be fetched from this URL.

    It lies at the API's own origin, or by https at the default port of one of `image_hosts`.
    """
    origin = _origin(url)
    if origin is None:
        return False
    scheme, host, port = origin
    trusted = scheme == "https" and port == "443" and host in settings.image_hosts
    return trusted or origin == _origin(settings.normalised_base_url)


def _origin(url: str) -> tuple[str, str, str] | None:
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    return scheme, found["host"].lower(), found["port"] or _DEFAULT_PORT[scheme]
