"""
What others would write: the same POSTs without a ledger, a plan or a check.

Each peer sends `n` requests of about 300 bytes, so many at a time, and reads each answer's task id.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import httptools
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport, HttpxAiohttpClient

PATH = "/image/generate"
HEADERS = {"authorization": "Bearer mak_benchmark", "content-type": "application/json"}


def body_of(number: int) -> bytes:
    """The bytes of one request, as our own client would make them."""
    return json.dumps(
        {
            "prompt": f"a watercolour of lighthouse {number}, soft morning light, wide angle",
            "model": "m/benchmark",
            "size": "landscape",
            "count": 1,
            "output": {"format": "webp", "quality": 80},
            "access": {"pat": {"enabled": False}},
            "metadata": {"mynth_dagster": f"int_{number:026d}.0123456789ab.led_0123456789ab"},
        },
        separators=(",", ":"),
    ).encode()


Post = Callable[[bytes], Awaitable[Any]]


async def _keep_posting(post: Post, n: int, concurrency: int) -> None:
    numbers = iter(range(n))

    async def work() -> None:
        for number in numbers:
            assert (await post(body_of(number)))["data"]["task_id"]

    await asyncio.gather(*(work() for _ in range(concurrency)))


def plain_httpx(url: str, n: int, concurrency: int) -> None:
    """`httpx.AsyncClient` as installed."""

    async def run() -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as client:
            await _keep_posting(_by_client(client), n, concurrency)

    asyncio.run(run())


def httpx_aiohttp_client(url: str, n: int, concurrency: int) -> None:
    """`httpx-aiohttp` under httpx's own client."""

    async def run() -> None:
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with HttpxAiohttpClient(base_url=url, limits=limits, timeout=60) as client:
            await _keep_posting(_by_client(client), n, concurrency)

    asyncio.run(run())


def _by_client(client: httpx.AsyncClient) -> Post:
    async def post(content: bytes) -> Any:
        return (await client.post(PATH, content=content, headers=HEADERS)).json()

    return post


def bare_transport(url: str, n: int, concurrency: int) -> None:
    """`httpx-aiohttp`'s transport called directly, on asyncio's own loop."""
    asyncio.run(_bare_transport(url, n, concurrency))


async def _bare_transport(url: str, n: int, concurrency: int) -> None:
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    target = httpx.URL(url + PATH)
    async with AiohttpTransport(limits=limits) as transport:

        async def post(content: bytes) -> Any:
            request = httpx.Request("POST", target, headers=HEADERS, content=content)
            response = await transport.handle_async_request(request)
            raw = b"".join([chunk async for chunk in response.aiter_raw()])
            await response.aclose()
            return json.loads(raw)

        await _keep_posting(post, n, concurrency)


def bare_aiohttp(url: str, n: int, concurrency: int) -> None:
    """aiohttp's own client, on uvloop: what our client sends through."""
    uvloop.run(_bare_aiohttp(url, n, concurrency))


async def _bare_aiohttp(url: str, n: int, concurrency: int) -> None:
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def post(content: bytes) -> Any:
            async with session.post(url + PATH, data=content, headers=HEADERS) as response:
                return json.loads(await response.read())

        await _keep_posting(post, n, concurrency)


def protocol(url: str, n: int, concurrency: int) -> None:
    """asyncio's protocol, httptools and uvloop: what one core of Python can do at all."""
    uvloop.run(_protocol(url, n, concurrency))


async def _protocol(url: str, n: int, concurrency: int) -> None:
    loop = asyncio.get_running_loop()
    host, port = url.removeprefix("http://").split(":")
    numbers, open_ = iter(range(n)), [concurrency]
    done = loop.create_future()
    head = f"POST {PATH} HTTP/1.1\r\nhost: {host}\r\ncontent-length: ".encode()
    rest = b"\r\nauthorization: Bearer mak_benchmark\r\ncontent-type: application/json\r\n\r\n"

    class Peer(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.body = transport, b""
            self.parser = httptools.HttpResponseParser(self)
            self.send()

        def send(self) -> None:
            number = next(numbers, None)
            if number is None:
                open_[0] -= 1
                self.transport.close()
                if open_[0] == 0:
                    done.set_result(None)
                return
            body = body_of(number)
            self.transport.write(head + str(len(body)).encode() + rest + body)

        def data_received(self, data: bytes) -> None:
            self.parser.feed_data(data)

        def on_body(self, body: bytes) -> None:
            self.body += body

        def on_message_complete(self) -> None:
            assert json.loads(self.body)["data"]["task_id"]
            self.body, self.parser = b"", httptools.HttpResponseParser(self)
            self.send()

    for _ in range(concurrency):
        await loop.create_connection(Peer, host, int(port))
    await done
