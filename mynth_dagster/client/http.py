"""
The one module that knows the HTTP library.

It speaks httpx's types and calls a transport directly: httpx's own client costs as much as the
request, and its own pool collapses above eight connections. No redirects, no library retries,
one total deadline.

Whether a failed request may have left is never read off an exception's class. The transport's
trace hooks set a flag as soon as a connection is handed over; only an unset flag proves
"not sent". A transport without such hooks can prove nothing, so its failures are "no answer".
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
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
    """One request; `operation` names it in errors, `token` replaces the key."""

    operation: str
    method: str
    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    content: bytes | None = None
    content_type: str = "application/json"
    token: str | None = field(default=None, repr=False)
    anonymous: bool = False


_handover: ContextVar[_Handover] = ContextVar("mynth_handover")


class HttpSession:
    """
    Requests over one pool of connections; to be used and closed on one event loop.

    Args:
        transport: Any httpx transport, for tests and proxies; by default aiohttp's,
            the only one whose failures can be proved "not sent".
    """

    def __init__(self, settings: ClientSettings, transport: Transport | None = None) -> None:
        self._settings = settings
        self._base = httpx.URL(settings.normalised_base_url)
        self._can_prove = transport is None
        self.n_requests = 0
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
                return await self._send(self._request(call))
        except Exception as error:  # whatever went wrong, the question is only: was it sent?
            kind = NoAnswerError if handover.happened else NotSentError
            raise kind(call.operation, _in_words(error)) from error
        finally:
            _handover.reset(reset)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    def _request(self, call: Call) -> httpx.Request:
        headers = {"accept": "application/json", "user-agent": USER_AGENT}
        headers["accept-encoding"] = "identity"
        secret = None if call.anonymous else call.token or self._settings.api_key
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        if call.content is not None:
            headers["content-type"] = call.content_type
        url = self._base.copy_with(path=self._base.path.rstrip("/") + call.path)
        return httpx.Request(
            call.method,
            url.copy_merge_params(call.params) if call.params else url,
            headers=headers,
            content=call.content,
            extensions={"timeout": {"connect": self._settings.connect_timeout_s}},
        )

    async def _send(self, request: httpx.Request) -> Answer:
        response = await self._transport.handle_async_request(request)
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > ANSWER_MAX_BYTES:
                    raise ValueError(f"the answer is longer than {ANSWER_MAX_BYTES} bytes")
        finally:
            await response.aclose()
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, headers, bytes(body))


def _aiohttp_transport(settings: ClientSettings) -> Transport:
    transport = AiohttpTransport()

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
    if isinstance(error, TimeoutError):
        return "no complete answer within the time allowed"
    return cut(str(error) or type(error).__name__)
