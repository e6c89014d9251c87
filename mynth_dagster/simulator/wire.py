"""
The last step to the socket: sending an answer over ASGI, or cutting the connection.

Cutting needs the transport, which `protocol` puts into the scope. Without it (an app called in
process) a cut is raised as `ConnectionResetError`.
"""

from __future__ import annotations

import socket
import struct
from asyncio import Transport

from starlette.types import Receive, Scope, Send

from mynth_dagster.simulator.answers import Answer

TRANSPORT = "mynth_dagster.transport"
_LINGER_NOT = struct.pack("ii", 1, 0)


class BodyTooLargeError(Exception):
    """A request body beyond what the server reads."""


async def read_body(receive: Receive, max_bytes: int) -> bytes:
    """
    The whole request body.

    Raises:
        BodyTooLargeError: It is longer than ``max_bytes``.
        ConnectionResetError: The client went away.
    """
    message = await receive()
    body = message.get("body", b"")
    if not message.get("more_body") and message["type"] == "http.request":
        return _bounded(body, max_bytes)
    chunks = [body]
    n_bytes = len(body)
    while message.get("more_body") or message["type"] == "http.disconnect":
        if message["type"] == "http.disconnect":
            raise ConnectionResetError("the client went away")
        message = await receive()
        chunks.append(message.get("body", b""))
        n_bytes += len(chunks[-1])
        if n_bytes > max_bytes:
            raise BodyTooLargeError
    return b"".join(chunks)


async def send_answer(send: Send, answer: Answer, *, is_head: bool = False) -> None:
    """Send a whole answer; for HEAD its headers only."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": answer.all_headers(),
        }
    )
    await send({"type": "http.response.body", "body": b"" if is_head else answer.body})


async def send_truncated(scope: Scope, receive: Receive, send: Send, answer: Answer) -> None:
    """Send less than was announced, then close."""
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": answer.all_headers(),
        }
    )
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    await cut(scope, receive, with_reset=False)


async def cut(scope: Scope, receive: Receive, *, with_reset: bool) -> None:
    """Close the connection, by FIN after what was written, or by RST at once."""
    transport: Transport | None = scope.get("extensions", {}).get(TRANSPORT)
    if transport is None:
        raise ConnectionResetError("the simulator cut the connection")
    if with_reset:
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        transport.abort()
    else:
        transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass


def _bounded(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise BodyTooLargeError
    return body
