"""
The one module that knows httpx, whose types are the seam for transports of other people's making.

httpx's own client costs as much as the request, and its pool collapses above eight connections:
without a transport of the user's choice, requests go to `connections` directly. No redirects, one
total deadline, and no POST that a library repeats (a GET cut early on a reused connection it does,
once).

A transport can prove nothing about a failed request, so its failures are "no answer".
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from urllib.parse import urlencode

import httpx

from mynth_dagster.client.connections import (
    Answer,
    Connections,
    Handover,
    MayLeave,
    Outgoing,
    Slot,
    handover,
    headers_of,
    read_whole,
)
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import NoAnswerError, NotSentError, WithheldRequestError, cut
from mynth_dagster.limits import ANSWER_MAX_BYTES, LARGE_ANSWERS_MAX

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
        operation: Names it in errors.
        path: Below the base URL.
        token: Replaces the key.
        files: Sent as a form instead of `content`: (field, (name, content, media type)).
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
    bytes_max: int = ANSWER_MAX_BYTES


class HttpSession:
    """
    Requests over one pool of connections; to be used and closed on one event loop.

    Args:
        transport: Any httpx transport, for tests and proxies; by default our own connections,
            the only ones whose failures can be proved "not sent".

    `server_date` is the `Date` of the newest answer that had one.
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
        """For one exchange: a large answer keeps its turn until its owner releases it."""
        return Slot(self._turns)

    async def exchange(
        self,
        call: Call,
        *,
        timeout_s: float | None = None,
        may_leave: MayLeave | None = None,
        slot: Slot | None = None,
    ) -> Answer:
        """
        Send one request and read the whole answer, whatever its status.

        Args:
            timeout_s: In all; None: as the settings say of any request.
            may_leave: Asked last, before the bytes leave; a request that may not is not sent.
            slot: Held by a large answer when this returns; None: no longer than until then.

        Raises:
            NotSentError: Provably no connection was handed over.
            NoAnswerError: The request may have arrived; no complete answer came.
        """
        mine, turn = Handover(), slot or self.slot()
        reset = handover.set(mine)
        self.n_requests += 1
        try:
            async with deadline(timeout_s or self._settings.request_timeout_s):
                return await self._send(call, may_leave, turn)
        except Exception as error:  # noqa: BLE001 - whatever went wrong, only one thing counts
            said = _in_words(error)
        finally:
            handover.reset(reset)
            if slot is None:
                turn.release()
        # Raised outside the handler: the library's own errors carry the request's headers,
        # and with them the key, into whatever shows a chain of causes.
        if mine.is_withheld:
            raise WithheldRequestError(call.operation, "it was held back before it left")
        raise (NoAnswerError if mine.is_possible else NotSentError)(call.operation, said)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._wire.aclose()

    async def _send(self, call: Call, may_leave: MayLeave | None, slot: Slot) -> Answer:
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

    async def send(self, request: Outgoing) -> Answer:
        """Send one request and read its answer; raises whatever the transport raises."""
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
        return Answer(response.status_code, headers_of(response.headers.raw), body)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def _form(files: Sequence[FormFile]) -> tuple[bytes, str]:
    """The bytes of a form with these files, and its content type."""
    form = httpx.Request("POST", "http://form", files=files)
    return form.read(), form.headers["content-type"]


def _redacted(answer: Answer, secret: str) -> Answer:
    """Answers are quoted in tables and errors: a server that echoes the key must not leak it."""
    echo = secret.encode("ascii")
    if echo not in answer.body:
        return answer
    return replace(answer, body=answer.body.replace(echo, b"[redacted]"))


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """One for all sessions: reading the certificate authorities costs as much as fifty requests."""
    return httpx.create_ssl_context()


def _in_words(error: Exception) -> str:
    """The failure without the library's class names where it says something itself."""
    if isinstance(error, asyncio.TimeoutError):  # not the built-in before 3.11
        return "no complete answer within the time allowed"
    return cut(str(error) or type(error).__name__)
