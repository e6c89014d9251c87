"""Which URLs of pictures are fetched at all: a result's URL is data, and may be hostile. Pure."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urljoin

from mynth_dagster.client.addresses import Scope, is_allowed
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import DownloadError

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?"
    r"(?:[/?][!-\[\]-~]*)?",
    re.IGNORECASE,
)
"""No credentials, no backslash, no space: nothing that two parsers might read differently."""

_DEFAULT_PORT = {"http": "80", "https": "443"}


def is_trusted_picture(url: str, settings: ClientSettings) -> bool:
    """
    Whether a picture may be fetched from this URL, as far as the URL tells.

    It lies at the API's own origin, or by https at the default port of one of `image_hosts`, or
    anywhere where `any_public_host` is set; its address is looked at when it is connected to.
    """
    return scope_of(url, settings) is not None


def scope_of(url: str, settings: ClientSettings) -> Scope | None:
    """How far this URL is trusted; None: not at all."""
    origin = _origin(url)
    if origin is None:
        return None
    scheme, host, port = origin
    if origin == _origin(settings.normalised_base_url):
        return Scope.ORIGIN
    if scheme == "https" and port == "443" and host in settings.image_hosts:
        return Scope.NAMED
    return Scope.PUBLIC if settings.any_public_host and _may_be_public(host) else None


def next_hop(url: str, location: str) -> str:
    """
    Where a redirect leads.

    Raises:
        DownloadError: From https to http, or to what is no URL of ours.
    """
    found = urljoin(url, location)
    origin = _origin(found)
    if origin is None:
        raise DownloadError("unsafe_url", "a redirect leads to what is no plain http URL")
    if url.lower().startswith("https:") and origin[0] == "http":
        raise DownloadError("unsafe_url", "a redirect leads from https to http")
    return found


def _may_be_public(host: str) -> bool:
    """A literal address is looked at here already; a name when it is resolved."""
    literal = host.strip("[]")
    try:
        ip_address(literal)
    except ValueError:
        return not _is_odd_literal(literal)
    return is_allowed(literal, Scope.PUBLIC)


def _is_odd_literal(host: str) -> bool:
    """`2130706433`, `0x7f.1`: names by their letters, addresses to a resolver."""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")


def _origin(url: str) -> tuple[str, str, str] | None:
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    return scheme, found["host"].lower(), found["port"] or _DEFAULT_PORT[scheme]
