"""
HTTP: connections, requests and responses; the one module that imports httpx.

httpx's types are the seam for transports that users bring. Its own client costs as much as the
request, and its pool slows down above eight connections: without a transport of the user's choice,
requests go to `Connections` directly, on aiohttp. No redirects, one total deadline, and no POST
that a library repeats (a GET that was cut early on a reused connection, aiohttp repeats once).

A transport can prove nothing about a failed request, so its failures are "no answer".
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import aiohttp
import httpx
import yarl

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import NoAnswerError, NotSentError, WithheldRequestError, cut
from mynth_dagster.limits import ANSWER_MAX_BYTES, LARGE_ANSWER_BYTES, LARGE_ANSWERS_MAX

# Connections by aiohttp, without anything of httpx in between: it would cost as much again.
#
# They alone can prove that a failed request was not sent. Whether it may have left is never read
# off an exception's class: a request may have left unless it was still waiting for its connection
# when it failed, and never if it got one.


KEEPALIVE_S = 15.0
SEND_AT_ONCE_MAX_BYTES = 512 * 1024  # a longer body is sent in pieces, between which others run


MayLeave = Callable[[], Awaitable[bool]]


class Slot:
    """
    A turn among the large responses: taken when one turns out to be long, released when decoded.

    A response that waits for a turn is not read on, so that the sender waits too.
    """

    __slots__ = ("_is_taken", "_turns")

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._is_taken = False

    async def take(self) -> None:
        """Wait for a turn; return at once if this response has it."""
        if not self._is_taken:
            await self._turns.acquire()
            self._is_taken = True

    def release(self) -> None:
        """Let the next response go on."""
        if self._is_taken:
            self._is_taken = False
            self._turns.release()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """
    A request as it is sent; a response beyond `bytes_max` is none, a large one takes the slot.

    `may_leave` is called when nothing is left between it and the socket; if it returns False, the
    request provably stays here.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None
    bytes_max: int
    slot: Slot
    may_leave: MayLeave | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Handover:
    """The record whether a request was handed to a connection: assumed, unless disproved."""

    __slots__ = ("_happened", "_is_waiting", "is_withheld")

    def __init__(self) -> None:
        self._is_waiting = False
        self._happened = False
        self.is_withheld = False

    @property
    def is_possible(self) -> bool:
        return not self.is_withheld and (self._happened or not self._is_waiting)

    async def require(self, may_leave: MayLeave) -> None:
        """
        Check one last time that the bytes may leave; none leaves during the check.

        Raises:
            WithheldError: They may not leave any more.
        """
        self.is_withheld = True
        if not await may_leave():
            raise WithheldError("it was held back")
        self.is_withheld = False

    def begin(self) -> None:
        """Note that the request waits for a connection; nothing can leave meanwhile."""
        self._is_waiting = True

    def complete(self) -> None:
        """Note that a connection was handed over; this is never undone."""
        self._happened = True


class WithheldError(Exception):
    """The bytes of a request were withheld by the last check."""


handover: ContextVar[Handover] = ContextVar("mynth_handover")
"""The handover of the request which the current asyncio task makes."""


class Connections:
    """A pool of connections; to be used and closed on one event loop."""

    def __init__(self, settings: ClientSettings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Outgoing) -> Response:
        """Send one request and read its answer; raises whatever aiohttp raises."""
        session = self._session or self._open()
        content: Any = request.content
        is_long = content is not None and len(content) > SEND_AT_ONCE_MAX_BYTES
        if content is not None and request.may_leave is not None:
            content = _LongBody(BytesIO(content)) if is_long else _Body(content)
            content.may_leave = request.may_leave
        elif is_long:
            content = BytesIO(content)
        exchange = session.request(
            request.method,
            _url(request.url),
            headers=request.headers,
            data=content,
            allow_redirects=False,
        )
        async with exchange as response:
            body = await read_whole(response.content.iter_any(), request)
            return Response(response.status, headers_of(response.raw_headers), body)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        connector = _Connector(
            limit=self._settings.concurrency + 1, ssl=self._tls, keepalive_timeout=KEEPALIVE_S
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(sock_connect=self._settings.connect_timeout_s),
            auto_decompress=False,
        )
        return self._session


class _Watched(aiohttp.payload.Payload):
    """
    A body with a check before its first byte is written.

    The head is written with the body or before it: without a body it is no request.
    """

    may_leave: MayLeave

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await handover.get().require(self.may_leave)
        await super().write_with_length(writer, content_length)


class _Body(_Watched, aiohttp.payload.BytesPayload):
    """A body that is sent in one piece."""


class _LongBody(_Watched, aiohttp.payload.BytesIOPayload):
    """A body that is sent in pieces, between which other tasks run."""


class _Connector(aiohttp.TCPConnector):
    """A connector that notes when a request waits for its connection, and when it gets it."""

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        mine = handover.get()
        mine.begin()
        connection = await super().connect(*args, **kwargs)
        mine.complete()
        return connection


def headers_of(raw: Any) -> dict[str, str]:
    """Decode pairs of bytes, with names in lower case."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1", "replace") for name, value in raw
    }


async def read_whole(chunks: AsyncIterable[bytes], request: Outgoing) -> bytes:
    """
    Read the body of a response, up to the bound of the request.

    Raises:
        ValueError: It is longer than the request allows.
    """
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > request.bytes_max:
            raise ValueError(f"the answer is longer than {request.bytes_max} bytes")
        if len(body) > LARGE_ANSWER_BYTES:
            await request.slot.take()
    return bytes(body)


@lru_cache(maxsize=16)
def _url(text: str) -> yarl.URL:
    """Parse a URL; cached, since thousands of requests share a few and parsing is not cheap."""
    return yarl.URL(text, encoded=True)


if sys.version_info >= (3, 11):
    from asyncio import timeout as deadline
else:
    from async_timeout import timeout as deadline

USER_AGENT = f"mynth-dagster/{version('mynth-dagster')}"
_HEADERS = {
    "accept": "application/json",
    "user-agent": USER_AGENT,
    "accept-encoding": "identity",
}

Transport = httpx.AsyncBaseTransport
FormFile = tuple[str, tuple[str, bytes, str]]


@dataclass(frozen=True)
class Call:
    """
    One request.

    Args:
        operation: Its name in errors.
        path: Below the base URL.
        token: Replaces the key.
        files: Sent as a form instead of `content`: (field, (name, content, media type)).
        bytes_max: A longer response counts as none.
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
    bytes_max: int = ANSWER_MAX_BYTES


class HttpSession:
    """
    Requests over one pool of connections; to be used and closed on one event loop.

    Args:
        transport: Any httpx transport, for tests and proxies; by default our own connections,
            the only ones whose failures can be proved "not sent".

    `server_date` is the `Date` of the newest response that had one.
    """

    def __init__(self, settings: ClientSettings, transport: Transport | None = None) -> None:
        self._settings = settings
        self._base = str(httpx.URL(settings.normalised_base_url)).rstrip("/")
        self.n_requests = 0
        self.server_date = ""
        self._turns = asyncio.Semaphore(LARGE_ANSWERS_MAX)
        self._wire: Connections | _ByTransport = (
            Connections(settings, tls_context())
            if transport is None
            else _ByTransport(transport, settings)
        )

    def slot(self) -> Slot:
        """Make a slot for one exchange: a large response keeps its turn until it is released."""
        return Slot(self._turns)

    async def exchange(
        self,
        call: Call,
        *,
        timeout_s: float | None = None,
        may_leave: MayLeave | None = None,
        slot: Slot | None = None,
    ) -> Response:
        """
        Send one request and read the whole response, whatever its status.

        Args:
            timeout_s: In all; None: as the settings have it for any request.
            may_leave: Called last, before the bytes leave; a request that may not is not sent.
            slot: Held by a large response when this returns; None: no longer than until then.

        Raises:
            NotSentError: Provably no connection was handed over.
            NoAnswerError: The request may have arrived; no complete response came.
        """
        mine, turn = Handover(), slot or self.slot()
        reset = handover.set(mine)
        self.n_requests += 1
        try:
            async with deadline(timeout_s or self._settings.request_timeout_s):
                return await self._send(call, may_leave, turn)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, only one thing counts
            message = _in_words(error)
        finally:
            handover.reset(reset)
            if slot is None:
                turn.release()
        # Raised outside the handler: the library's own errors carry the request's headers,
        # and with them the key, into whatever shows a chain of causes.
        if mine.is_withheld:
            raise WithheldRequestError(call.operation, "it was held back before it left")
        raise (NoAnswerError if mine.is_possible else NotSentError)(call.operation, message)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._wire.aclose()

    async def _send(self, call: Call, may_leave: MayLeave | None, slot: Slot) -> Response:
        secret = self._secret(call)
        content, content_type = _form(call.files) if call.files else (call.content, "")
        headers = dict(_HEADERS)
        if secret:
            headers["authorization"] = f"Bearer {secret}"
        if content is not None:
            headers["content-type"] = content_type or call.content_type
        url = f"{self._base}{call.path}"
        if call.params:
            url = f"{url}?{urlencode(call.params)}"
        request = Outgoing(call.method, url, headers, content, call.bytes_max, slot, may_leave)
        answer = await self._wire.send(request)
        self.server_date = answer.headers.get("date", self.server_date)
        return _redacted(answer, secret) if secret else answer

    def _secret(self, call: Call) -> str | None:
        return None if call.anonymous else call.token or self._settings.api_key


class _ByTransport:
    """Requests through an httpx transport."""

    def __init__(self, transport: Transport, settings: ClientSettings) -> None:
        self._transport = transport
        self._extensions = {"timeout": {"connect": settings.connect_timeout_s}}

    async def send(self, request: Outgoing) -> Response:
        """Send one request and read its response; raises whatever the transport raises."""
        asked = httpx.Request(
            request.method,
            request.url,
            headers=request.headers,
            content=request.content,
            extensions=self._extensions,
        )
        if request.may_leave is not None:
            await handover.get().require(request.may_leave)
        response = await self._transport.handle_async_request(asked)
        try:
            body = await read_whole(response.aiter_raw(), request)
        finally:
            await response.aclose()
        return Response(response.status_code, headers_of(response.headers.raw), body)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def _form(files: Sequence[FormFile]) -> tuple[bytes, str]:
    """Encode a form with these files; return its bytes and its content type."""
    form = httpx.Request("POST", "http://form", files=files)
    return form.read(), form.headers["content-type"]


def _redacted(answer: Response, secret: str) -> Response:
    """Remove the key from a response that echoes it: tables and errors quote responses."""
    echo = secret.encode("ascii")
    if echo not in answer.body:
        return answer
    return replace(answer, body=answer.body.replace(echo, b"[redacted]"))


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Return one context for all sessions: reading the authorities costs as much as 50 requests."""
    return httpx.create_ssl_context()


def _in_words(error: Exception) -> str:
    """Describe the failure, without the library's class names if it has a message."""
    if isinstance(error, asyncio.TimeoutError):  # not the built-in before 3.11
        return "no complete answer within the time allowed"
    return cut(str(error) or type(error).__name__)
