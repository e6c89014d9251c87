"""Raw servers that misbehave on purpose, and clients for them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from mynth_dagster.client.client import MynthClient
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.clock import Clock
from mynth_dagster.wire import PROFILES
from tests.factories import LeapingClock

CANARY = "mak_canary_7f3a"
CREATED = b'{"data":{"taskId":"tsk_A","estimatedCost":"0.03"}}'

Handler = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One connection to a raw server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read_request(self) -> bytes:
        """One whole request, headers and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ]
        return head + await self.reader.readexactly(sum(lengths))

    async def answer(self, body: bytes, *, status: str = "201 Created", headers: str = "") -> None:
        """A whole answer."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    def reset(self) -> None:
        """Cut the connection with a TCP RST."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


@asynccontextmanager
async def raw_server(handler: Handler) -> AsyncIterator[str]:
    """A server on a free port that treats each connection as `handler` does; its host and port."""
    open_: set[asyncio.Task[None]] = set()

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        try:
            await handler(Visit(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the server ends with the test, not with an error
        finally:
            open_.discard(task)
            writer.close()

    server = await asyncio.start_server(visit, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname())
    finally:
        server.close()
        for task in list(open_):
            task.cancel()
        await asyncio.gather(*open_, return_exceptions=True)


@asynccontextmanager
async def client_of(
    base_url: str, *, revision: str = "2026-10", clock: Clock | None = None, **settings: Any
) -> AsyncIterator[MynthClient]:
    """A client of this server."""
    chosen = {"api_key": CANARY, "connect_timeout_s": 2.0, "request_timeout_s": 5.0, **settings}
    client = MynthClient(
        ClientSettings(base_url=base_url, **chosen), PROFILES[revision], clock or LeapingClock()
    )
    try:
        yield client
    finally:
        await client.aclose()
