"""
Downloads of images from URLs that are not ours and may be hostile.

It uses aiohttp directly: the address of each connection has to be checked, and this happens below
httpx. No credentials, cookies or proxies; redirects by hand, each hop checked again; no
decompression; bounds on bytes, time and pace. A body is handed on as it comes.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from mynth_dagster.client.http import KEEPALIVE_S, USER_AGENT, tls_context
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import Clock
from mynth_dagster.errors import DownloadError, cut
from mynth_dagster.limits import (
    DOWNLOAD_CHUNK_BYTES,
    DOWNLOAD_IDLE_S,
    DOWNLOAD_PACE_AFTER_S,
    DOWNLOAD_PACE_MIN_BYTES_PER_S,
    DOWNLOAD_TIMEOUT_S,
    REDIRECTS_MAX,
)

# Which addresses a picture may be fetched from. Pure.
#
# A URL in an answer is data: the address it leads to decides, not its name, and what an address
# carries inside it (an IPv4 address in an IPv6 one) decides for it.


Address = IPv4Address | IPv6Address


class AddressScope(str, Enum):
    """
    How far a URL is trusted.

    `origin` is the API's own, which the operator named with its port. `named` is a host on the
    operator's list: it may be in a private network. `public` is any other host.
    """

    ORIGIN = "origin"
    NAMED = "named"
    PUBLIC = "public"


_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),
)
_NEVER = tuple(
    map(
        ip_network,
        (
            "100.64.0.0/10",  # carriers' own, and some clouds' metadata
            "192.0.0.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "240.0.0.0/4",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",  # Teredo among them
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
            "fd00:ec2::/32",  # a cloud's metadata
            "fec0::/10",
        ),
    )
)
"""Beside what `ipaddress` knows: its lists grew from one Python to the next."""

_NAT64 = ip_network("64:ff9b::/96")


def is_allowed(address: str, scope: AddressScope) -> bool:
    """Whether a connection may be made to this literal address; no address is never allowed."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if scope is AddressScope.ORIGIN:
        return True
    meant = _carried(parsed) or parsed
    if any(meant in network for network in _NEVER if network.version == meant.version):
        return False
    if scope is AddressScope.NAMED and any(
        meant in n for n in _PRIVATE if n.version == meant.version
    ):
        return True
    return meant.is_global and not meant.is_multicast and not meant.is_reserved


def _carried(address: Address) -> IPv4Address | None:
    """Return the IPv4 address at which a packet to this IPv6 address ends."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


# Which URLs of pictures are fetched at all: a result's URL is data, and may be hostile. Pure.


_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?"
    r"(?:[/?][!-\[\]-~]*)?",
    re.IGNORECASE,
)
"""No credentials, no backslash, no space: nothing that two parsers might read differently."""

_DEFAULT_PORT = {"http": "80", "https": "443"}


def is_trusted_picture(url: str, settings: ClientSettings) -> bool:
    """
    Whether an image may be fetched from this URL, as far as the URL shows.

    It is at the API's own origin, or by https at the default port of one of `image_hosts`, or
    anywhere if `any_public_host` is set; its address is checked at the connection.
    """
    return scope_of(url, settings) is not None


def scope_of(url: str, settings: ClientSettings) -> AddressScope | None:
    """Return how far this URL is trusted; None: not at all."""
    origin = _origin(url)
    if origin is None:
        return None
    scheme, host, port = origin
    if origin == _origin(settings.normalised_base_url):
        return AddressScope.ORIGIN
    if scheme == "https" and port == "443" and host in settings.image_hosts:
        return AddressScope.NAMED
    return AddressScope.PUBLIC if settings.any_public_host and _may_be_public(host) else None


def next_hop(url: str, location: str) -> str:
    """
    Return the URL that a redirect leads to.

    Raises:
        DownloadError: It leads from https to http, or to a URL that may not be fetched.
    """
    found = urljoin(url, location)
    origin = _origin(found)
    if origin is None:
        raise DownloadError("unsafe_url", "a redirect leads to what is no plain http URL")
    if url.lower().startswith("https:") and origin[0] == "http":
        raise DownloadError("unsafe_url", "a redirect leads from https to http")
    return found


def _may_be_public(host: str) -> bool:
    """Whether the host may be public; a literal address is checked, a name once resolved."""
    literal = host.strip("[]")
    try:
        ip_address(literal)
    except ValueError:
        return not _is_odd_literal(literal)
    return is_allowed(literal, AddressScope.PUBLIC)


def _is_odd_literal(host: str) -> bool:
    """Whether a resolver takes the name for an address, such as `2130706433` or `0x7f.1`."""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or last.startswith("0x")


def _origin(url: str) -> tuple[str, str, str] | None:
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    return scheme, found["host"].lower(), found["port"] or _DEFAULT_PORT[scheme]


Take = Callable[[bytes], Awaitable[None]]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GONE = frozenset({401, 403, 404, 410})
_PASSING = frozenset({408, 425, 429})
_HEADERS = {"accept": "image/*", "accept-encoding": "identity", "user-agent": USER_AGENT}


class PictureSession:
    """Downloads over pools of connections of their own, one for each scope; on one event loop."""

    def __init__(self, settings: ClientSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: dict[AddressScope, aiohttp.ClientSession] = {}
        self.n_requests = 0

    async def fetch(self, url: str, take: Take, *, bytes_max: int) -> int:
        """
        Hand the body at this URL to `take`, in chunks; return the number of bytes.

        Raises:
            DownloadError: It cannot be downloaded, or is not to be trusted; with `may_pass`
                another try may end otherwise. Discard the chunks taken so far.
        """
        try:
            return await asyncio.wait_for(self._follow(url, take, bytes_max), DOWNLOAD_TIMEOUT_S)
        except (aiohttp.ClientError, OSError, asyncio.TimeoutError) as error:
            failure = _in_our_words(error)
        raise failure

    async def aclose(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _follow(self, url: str, take: Take, bytes_max: int) -> int:
        for _ in range(REDIRECTS_MAX + 1):
            scope = scope_of(url, self._settings)
            if scope is None:
                raise DownloadError("unsafe_url", "its host or address is not to be trusted")
            self.n_requests += 1
            async with self._session(scope).get(url, allow_redirects=False) as answer:
                if answer.status not in _REDIRECTS:
                    return await self._read(answer, take, bytes_max)
                url = next_hop(url, answer.headers.get("location", ""))
        raise DownloadError("too_many_redirects", f"redirected more than {REDIRECTS_MAX} times")

    async def _read(self, answer: aiohttp.ClientResponse, take: Take, bytes_max: int) -> int:
        _require_body(answer, bytes_max)
        began_s, n_bytes, waiting = self._clock.elapsed_s(), 0, bytearray()
        async for chunk in answer.content.iter_any():
            n_bytes += len(chunk)
            if n_bytes > bytes_max:
                raise _too_large(bytes_max)
            _require_pace(n_bytes, self._clock.elapsed_s() - began_s)
            waiting += chunk
            if len(waiting) >= DOWNLOAD_CHUNK_BYTES:
                await take(bytes(waiting))
                waiting.clear()
        await take(bytes(waiting))
        return n_bytes

    def _session(self, scope: AddressScope) -> aiohttp.ClientSession:
        if scope not in self._sessions:
            self._sessions[scope] = _make_session(scope, self._settings)
        return self._sessions[scope]


def _in_our_words(error: Exception) -> DownloadError:
    """Describe the failure without the library's message, which may quote a signed URL."""
    if isinstance(error, aiohttp.ClientPayloadError):
        message = "the body ended before its announced length"
        return DownloadError("truncated", message, may_pass=True)
    if isinstance(error, asyncio.TimeoutError):
        return DownloadError("too_slow", "not there within the time allowed", may_pass=True)
    if isinstance(error, aiohttp.ClientResponseError):
        return DownloadError("download_failed", "its answer is no HTTP", may_pass=True)
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    message = (cause.strerror if isinstance(cause, OSError) else None) or type(error).__name__
    return DownloadError("download_failed", f"no complete answer ({cut(message)})", may_pass=True)


def _require_body(answer: aiohttp.ClientResponse, bytes_max: int) -> None:
    """Require a response that may be an image, by its status and headers."""
    status = answer.status
    if status in _GONE:
        raise DownloadError("url_expired", f"its URL answers HTTP {status}", http_status=status)
    if status != 200:
        may_pass = status >= 500 or status in _PASSING
        raise DownloadError(
            "download_failed", f"HTTP {status}", http_status=status, may_pass=may_pass
        )
    encoding = answer.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise DownloadError(
            "wrong_type", f"compressed as {cut(encoding, 40)}, which was not requested"
        )
    if (answer.content_length or 0) > bytes_max:
        raise _too_large(bytes_max)


def _too_large(bytes_max: int) -> DownloadError:
    return DownloadError("too_large", f"longer than {bytes_max} bytes")


def _require_pace(n_bytes: int, passed_s: float) -> None:
    if passed_s > DOWNLOAD_PACE_AFTER_S and n_bytes / passed_s < DOWNLOAD_PACE_MIN_BYTES_PER_S:
        message = f"{n_bytes} bytes in {passed_s:.0f} s"
        raise DownloadError("too_slow", message, may_pass=True)


def _make_session(scope: AddressScope, settings: ClientSettings) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=settings.concurrency,
        ssl=tls_context(),
        keepalive_timeout=KEEPALIVE_S,
        use_dns_cache=False,
        resolver=ScopedResolver(scope),
        socket_factory=lambda found: make_socket(found, scope),
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=_HEADERS,
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_s, sock_read=DOWNLOAD_IDLE_S
        ),
    )


class ScopedResolver(AbstractResolver):
    """Resolves a name to the addresses that may be connected to, and to no others."""

    def __init__(self, scope: AddressScope) -> None:
        self._scope = scope
        self._resolver = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = [result for result in found if is_allowed(result["host"], self._scope)]
        if not allowed:
            raise DownloadError("unsafe_url", "its host's address is not a public one")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()


def make_socket(found: tuple[Any, ...], scope: AddressScope) -> socket.socket:
    """
    The socket of a connection about to be made, as `getaddrinfo` describes it.

    The last look, at the very address that is connected to, however it was come by.

    Raises:
        PermissionError: This address is not allowed.
    """
    family, kind, protocol, _, address = found
    if not is_allowed(str(address[0]), scope):
        raise PermissionError("this address must not be connected to")
    return socket.socket(family, kind, protocol)
