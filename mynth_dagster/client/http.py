"""
The one module that knows the HTTP library.

It speaks httpx's types and calls a transport directly: httpx's own client costs as much as the
request, and its own pool collapses above eight connections. No redirects, one total deadline,
and no POST that the library repeats (a GET cut early on a reused connection it does, once).

Whether a failed request may have left is never read off an exception's class. The transport's
trace hooks set a flag as soon as a connection is handed over; only an unset flag proves
"not sent". A transport without such hooks can prove nothing, so its failures are "no answer".
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import NoAnswerError, NotSentError, cut

if sys.version_info >= (3, 11):
    from asyncio import timeout as deadline
else:
    from async_timeout import timeout as deadline

ANSWER_MAX_BYTES = 16 * 1024 * 1024
KEEPALIVE_S = 15.0
USER_AGENT = f"mynth-dagster/{version('mynth-dagster')}"

Transport = httpx.AsyncBaseTransport
FormFile = tuple[str, tuple[str, bytes, str]]


@dataclass(frozen=True)
class Answer:
    """A complete answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class _Handover:
    """Whether a connection was handed to the request that is being made."""

    happened: bool = False


@dataclass(frozen=True)
class Call:
    """
    One request.

    Args:
        operation: Names it in errors.
        path: Below the base URL.
        token: Replaces the key.
        files: Sent as a form instead of `content`: (field, (name, content, media type)).
        url: Elsewhere, instead of `path`; no key is sent there.
        bytes_max: A longer answer is none.
    """

    operation: str
    method: str
    path: str = ""
    params: Mapping[str, str | int] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = "application/json"
    files: Sequence[FormFile] = ()
    token: str | None = field(default=None, repr=False)
    anonymous: bool = False
    url: str | None = None
    accept: str = "application/json"
    bytes_max: int = ANSWER_MAX_BYTES


_handover: ContextVar[_Handover] = ContextVar("mynth_handover")


class HttpSession:
    """
    Requests over one pool of connections; to be used and closed on one event loop.

    Args:
        transport: Any httpx transport, for tests and proxies; by default aiohttp's,
            the only one whose failures can be proved "not sent".

    `server_date` is the `Date` of the newest answer that had one.
    """

    def __init__(self, settings: ClientSettings, transport: Transport | None = None) -> None:
        self._settings = settings
        self._base = httpx.URL(settings.normalised_base_url)
        self._can_prove = transport is None
        self.n_requests = 0
        self.server_date = ""
        self._transport = transport or _aiohttp_transport(settings)

    async def exchange(self, call: Call) -> Answer:
        """
        Send one request and read the whole answer, whatever its status.

        Raises:
            NotSentError: Provably no connection was handed over.
            NoAnswerError: The request may have arrived; no complete answer came.
        """
        handover = _Handover(happened=not self._can_prove)
        reset = _handover.set(handover)
        self.n_requests += 1
        try:
            async with deadline(self._settings.request_timeout_s):
                return await self._send(call)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, only one thing counts
            said = _in_words(error)
        finally:
            _handover.reset(reset)
        # Raised outside the handler: the library's own errors carry the request's headers,
        # and with them the key, into whatever shows a chain of causes.
        raise (NoAnswerError if handover.happened else NotSentError)(call.operation, said)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def _request(self, call: Call) -> httpx.Request:
        headers = {"accept": call.accept, "user-agent": USER_AGENT}
        headers["accept-encoding"] = "identity"
        secret = self._secret(call)
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        if call.content is not None:
            headers["content-type"] = call.content_type
        url = httpx.URL(call.url) if call.url else _join(self._base, call.path)
        return httpx.Request(
            call.method,
            url.copy_merge_params(call.params) if call.params else url,
            headers=headers,
            content=call.content,
            files=call.files or None,
            extensions={"timeout": {"connect": self._settings.connect_timeout_s}},
        )

    def _secret(self, call: Call) -> str | None:
        if call.anonymous or call.url:
            return None
        return call.token or self._settings.api_key

    async def _send(self, call: Call) -> Answer:
        response = await self._transport.handle_async_request(self._request(call))
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > call.bytes_max:
                    raise ValueError(f"the answer is longer than {call.bytes_max} bytes")
        finally:
            await response.aclose()
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in response.headers.raw
        }
        self.server_date = headers.get("date", self.server_date)
        return Answer(response.status_code, headers, _redacted(bytes(body), self._secret(call)))


@lru_cache(maxsize=16)
def _join(base: httpx.URL, path: str) -> httpx.URL:
    """Kept for the few paths that thousands of requests share: parsing one is not cheap."""
    return base.copy_with(path=base.path.rstrip("/") + path)


def _redacted(body: bytes, secret: str | None) -> bytes:
    """Answers are quoted in tables and errors: a server that echoes the key must not leak it."""
    return body.replace(secret.encode("ascii"), b"[redacted]") if secret else body


@lru_cache(maxsize=1)
def _tls_context() -> ssl.SSLContext:
    """One for all sessions: reading the certificate authorities costs as much as fifty requests."""
    return httpx.create_ssl_context()


def _aiohttp_transport(settings: ClientSettings) -> Transport:
    transport = AiohttpTransport(verify=_tls_context())

    def make_session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=settings.concurrency + 1,
            ssl=transport.ssl_context,
            keepalive_timeout=KEEPALIVE_S,
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[_handover_trace()],
        )

    transport.client = make_session
    return transport


def _handover_trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_note_handover)
    trace.on_connection_reuseconn.append(_note_handover)
    trace.on_request_headers_sent.append(_note_handover)
    return trace


async def _note_handover(_: aiohttp.ClientSession, __: SimpleNamespace, ___: Any) -> None:
    handover = _handover.get(None)
    if handover is not None:
        handover.happened = True


def _in_words(error: Exception) -> str:
    """The failure without the library's class names where it says something itself."""
    if isinstance(error, asyncio.TimeoutError):  # not the built-in before 3.11
        return "no complete answer within the time allowed"
    return cut(str(error) or type(error).__name__)
