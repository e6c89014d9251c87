"""
Connections by aiohttp, without anything of httpx in between: it would cost as much again.

They alone can prove that a failed request was not sent. Whether it may have left is never read off
an exception's class: a request may have left unless it was still waiting for its connection when
it failed, and never if it got one.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import aiohttp
import yarl

from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.limits import LARGE_ANSWER_BYTES

KEEPALIVE_S = 15.0
SEND_AT_ONCE_MAX_BYTES = 512 * 1024  # a longer body is sent in pieces, between which others run


MayLeave = Callable[[], Awaitable[bool]]


class Slot:
    """
    One answer's turn among the large ones: taken when it turns out to be long, let go when decoded.

    Whoever waits for a turn does not read on, so that the sender waits too.
    """

    __slots__ = ("_is_taken", "_turns")

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._is_taken = False

    async def take(self) -> None:
        """Wait for a turn; at once where this answer has it."""
        if not self._is_taken:
            await self._turns.acquire()
            self._is_taken = True

    def release(self) -> None:
        """Let the next one go on."""
        if self._is_taken:
            self._is_taken = False
            self._turns.release()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """
    A request as it is sent; an answer longer than `bytes_max` is none, a large one takes the slot.

    `may_leave` is asked when nothing is between it and the socket any more; where it says no, the
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
class Answer:
    """A complete answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Handover:
    """Whether a request may have been handed to a connection: it may, unless it is proved not."""

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
        The last look, with nothing between it and the bytes; none leaves while it lasts.

        Raises:
            WithheldError: They may not leave any more.
        """
        self.is_withheld = True
        if not await may_leave():
            raise WithheldError("it was held back")
        self.is_withheld = False

    def begin(self) -> None:
        """A connection is waited for; nothing can leave meanwhile."""
        self._is_waiting = True

    def complete(self) -> None:
        """A connection was handed over; it stays so, whatever comes."""
        self._happened = True


class WithheldError(Exception):
    """The bytes of a request were held back at the last moment."""


handover: ContextVar[Handover] = ContextVar("mynth_handover")
"""That of the request which the current task makes."""


class Connections:
    """A pool of connections; to be used and closed on one event loop."""

    def __init__(self, settings: ClientSettings, tls: ssl.SSLContext) -> None:
        self._settings = settings
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Outgoing) -> Answer:
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
            return Answer(response.status, headers_of(response.raw_headers), body)

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
    A body that is looked at before its first byte is written.

    The head is written with the body or before it: without a body it is no request.
    """

    may_leave: MayLeave

    async def write_with_length(self, writer: Any, content_length: int | None) -> None:
        await handover.get().require(self.may_leave)
        await super().write_with_length(writer, content_length)


class _Body(_Watched, aiohttp.payload.BytesPayload):
    """In one piece."""


class _LongBody(_Watched, aiohttp.payload.BytesIOPayload):
    """In pieces, between which others run."""


class _Connector(aiohttp.TCPConnector):
    """Tells the request when it waits for its connection, and when it has it."""

    async def connect(self, *args: Any, **kwargs: Any) -> aiohttp.connector.Connection:
        mine = handover.get()
        mine.begin()
        connection = await super().connect(*args, **kwargs)
        mine.complete()
        return connection


def headers_of(raw: Any) -> dict[str, str]:
    """Pairs of bytes as text, with names in lower case."""
    return {
        name.decode("latin-1").lower(): value.decode("latin-1", "replace") for name, value in raw
    }


async def read_whole(chunks: AsyncIterable[bytes], request: Outgoing) -> bytes:
    """
    The body of an answer; one without end is none.

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
    """Kept for the few that thousands of requests share: parsing one is not cheap."""
    return yarl.URL(text, encoded=True)
