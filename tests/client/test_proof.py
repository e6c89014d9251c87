"""
The contract of the paid call: *not sent* only by proof, *unknown* for everything else.

Each case is a real server on a socket that does one thing wrong.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from collections.abc import Awaitable, Callable, Iterator

import pytest

from mynth_dagster.client.client import MynthClient
from mynth_dagster.client.http import Handover, Outgoing, handover
from mynth_dagster.client.outcome import Accepted, NotSent, Refused, Unknown
from mynth_dagster.errors import WithheldRequestError
from tests.client.raw import CANARY, CREATED, Handler, Visit, client_of, raw_server

BODY = b'{"prompt":"a"}'


def answering(value: bool) -> Callable[[], Awaitable[bool]]:
    async def may_leave() -> bool:
        return value

    return may_leave


async def close_after_reading(visit: Visit) -> None:
    await visit.read_request()


async def close_after_headers(visit: Visit) -> None:
    await visit.reader.readuntil(b"\r\n\r\n")


async def close_at_once(visit: Visit) -> None:
    visit.writer.close()


async def reset_after_reading(visit: Visit) -> None:
    await visit.read_request()
    visit.reset()


async def reset_within_answer(visit: Visit) -> None:
    await visit.read_request()
    visit.writer.write(b"HTTP/1.1 201 Created\r\nContent-Le")
    await visit.writer.drain()
    visit.reset()


async def truncate(visit: Visit) -> None:
    await visit.read_request()
    visit.writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n" + CREATED)
    await visit.writer.drain()


async def truncate_chunks(visit: Visit) -> None:
    await visit.read_request()
    visit.writer.write(
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n" + CREATED
    )
    await visit.writer.drain()


async def speak_nonsense(visit: Visit) -> None:
    await visit.read_request()
    visit.writer.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    await visit.writer.drain()


async def answer_garbage(visit: Visit) -> None:
    await visit.read_request()
    await visit.answer(b"<html>created, honestly</html>")


async def answer_nothing(visit: Visit) -> None:
    await visit.read_request()
    await visit.answer(b"", status="204 No Content")


async def never_answer(visit: Visit) -> None:
    await visit.read_request()
    await asyncio.Event().wait()


async def answer_for_ever(visit: Visit) -> None:
    await visit.read_request()
    visit.writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{")
    await asyncio.Event().wait()


async def greet_with_no_tls(visit: Visit) -> None:
    await visit.reader.read(1)
    visit.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


async def hang(visit: Visit) -> None:
    await asyncio.Event().wait()


UNKNOWN: list[Handler] = [
    *(close_after_reading, close_after_headers, close_at_once),
    *(reset_after_reading, reset_within_answer, truncate, truncate_chunks),
    *(speak_nonsense, answer_garbage, answer_nothing),
]


@pytest.mark.parametrize("handler", UNKNOWN, ids=lambda handler: handler.__name__)
def test_once_a_connection_was_handed_over_the_outcome_is_unknown(handler):
    """Whatever the server does with the connection, it may have taken the request."""

    async def scenario() -> object:
        async with raw_server(handler) as host, client_of(f"http://{host}") as client:
            return await client.create_task(BODY)

    assert isinstance(asyncio.run(scenario()), Unknown)


@pytest.mark.parametrize("handler", [never_answer, answer_for_ever, hang])
def test_past_the_total_deadline_the_outcome_is_unknown(handler):
    """One deadline covers the whole exchange, however slowly bytes drip in."""

    async def scenario() -> object:
        async with (
            raw_server(handler) as host,
            client_of(f"http://{host}", request_timeout_s=0.2) as client,
        ):
            return await client.create_task(BODY)

    outcome = asyncio.run(scenario())

    assert isinstance(outcome, Unknown)
    assert "time allowed" in str(outcome.error)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    "base_url",
    [f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid"],
    ids=["refused", "no such host"],
)
def test_without_a_connection_nothing_was_sent(base_url):
    """Refused, and no such name: proved by the connection that was never handed over."""

    async def scenario() -> object:
        async with client_of(base_url) as client:
            return await client.create_task(BODY)

    assert isinstance(asyncio.run(scenario()), NotSent)


@pytest.mark.parametrize("handler", [greet_with_no_tls, close_at_once, hang])
def test_a_failed_handshake_sends_nothing(handler):
    """Before TLS stands no byte of the request leaves, and there is no downgrade."""

    async def scenario() -> object:
        async with (
            raw_server(handler) as host,
            client_of(f"https://{host}", connect_timeout_s=0.3) as client,
        ):
            return await client.create_task(BODY)

    assert isinstance(asyncio.run(scenario()), NotSent)


async def hog(client: MynthClient, url: str) -> None:
    """Take a connection and keep it, without a deadline."""
    handover.set(Handover())
    await client._http._wire.send(Outgoing("GET", url, {}, None, 1, client._http.slot()))


def test_a_request_that_waits_for_a_connection_in_vain_was_not_sent():
    """With the pool used up until the deadline, the request never left."""

    async def scenario() -> object:
        arrived: asyncio.Queue[None] = asyncio.Queue()

        async def occupy(visit: Visit) -> None:
            await visit.read_request()
            await arrived.put(None)
            await asyncio.Event().wait()

        async with (
            raw_server(occupy) as host,
            client_of(f"http://{host}", concurrency=1, request_timeout_s=0.3) as client,
        ):
            hogs = [asyncio.create_task(hog(client, f"http://{host}/hog")) for _ in range(2)]
            for _ in hogs:
                await arrived.get()
            try:
                return await client.create_task(BODY)
            finally:
                for each in hogs:
                    each.cancel()
                await asyncio.gather(*hogs, return_exceptions=True)

    assert isinstance(asyncio.run(scenario()), NotSent)


@pytest.mark.parametrize("n_bytes", [100, 600_000])
def test_a_request_that_may_not_leave_any_more_is_no_request_to_the_server(n_bytes):
    """It is asked about last, with a connection in hand: the server never gets the body."""
    requests: list[bytes] = []

    async def serve(visit: Visit) -> None:
        requests.append(await visit.read_request())
        await visit.answer(CREATED)

    async def scenario() -> list[object]:
        body = BODY.ljust(n_bytes)
        async with raw_server(serve) as host, client_of(f"http://{host}") as client:
            held = await client.create_task(body, may_leave=answering(False))
            sent = await client.create_task(body, may_leave=answering(True))
            return [held, sent]

    held, sent = asyncio.run(scenario())

    assert isinstance(held, NotSent)
    assert isinstance(held.error, WithheldRequestError)
    assert isinstance(sent, Accepted)
    assert len(requests) == 1


def test_a_stale_connection_that_closes_under_the_post_is_unknown_and_not_sent_again():
    """A reused connection cut as the POST arrives: no blind second POST, by us or the library."""
    n_connections = 0

    async def answer_once(visit: Visit) -> None:
        nonlocal n_connections
        n_connections += 1
        await visit.read_request()
        await visit.answer(CREATED)
        await visit.reader.read(1)
        visit.reset()

    async def scenario() -> list[object]:
        async with raw_server(answer_once) as host, client_of(f"http://{host}") as client:
            return [await client.create_task(BODY), await client.create_task(BODY)]

    first, second = asyncio.run(scenario())

    assert isinstance(first, Accepted)
    assert isinstance(second, Unknown)
    assert n_connections == 1


def test_a_connection_that_was_closed_while_idle_is_replaced():
    """A server may close idle connections: the next POST opens a new one and goes out once."""
    requests: list[bytes] = []

    async def answer_and_close(visit: Visit) -> None:
        requests.append(await visit.read_request())
        await visit.answer(CREATED, headers="Connection: close\r\n")

    async def scenario() -> list[object]:
        async with raw_server(answer_and_close) as host, client_of(f"http://{host}") as client:
            return [await client.create_task(BODY) for _ in range(3)]

    outcomes = asyncio.run(scenario())

    assert [type(outcome) for outcome in outcomes] == [Accepted] * 3
    assert len(requests) == 3


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_never_followed(status):
    """Neither the key nor the request goes to another host."""
    elsewhere: list[bytes] = []

    async def receive(visit: Visit) -> None:
        elsewhere.append(await visit.read_request())

    async def scenario() -> object:
        async with raw_server(receive) as other:

            async def redirect(visit: Visit) -> None:
                await visit.read_request()
                await visit.answer(b"", status=status, headers=f"Location: http://{other}/\r\n")

            async with raw_server(redirect) as host, client_of(f"http://{host}") as client:
                return await client.create_task(BODY)

    outcome = asyncio.run(scenario())

    assert isinstance(outcome, Unknown)
    assert elsewhere == []


def test_what_goes_out_is_one_plain_request():
    """The key as a bearer, no compression, no cookies, the bytes as encoded."""
    seen: list[bytes] = []

    async def keep(visit: Visit) -> None:
        seen.append(await visit.read_request())
        await visit.answer(CREATED, headers="Set-Cookie: a=b\r\n")
        seen.append(await visit.read_request())
        await visit.answer(CREATED)

    async def scenario() -> None:
        async with raw_server(keep) as host, client_of(f"http://{host}/base/") as client:
            await client.create_task(BODY)
            await client.create_task(BODY)

    asyncio.run(scenario())

    for raw in seen:
        head, _, body = raw.partition(b"\r\n\r\n")
        headers = {
            name.lower(): value
            for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:])
        }
        assert head.startswith(b"POST /base/image/generate HTTP/1.1")
        assert headers[b"authorization"] == f"Bearer {CANARY}".encode()
        assert headers[b"accept-encoding"] == b"identity"
        assert headers[b"content-type"] == b"application/json"
        assert b"cookie" not in headers
        assert body == BODY


def test_an_id_cannot_leave_its_place_in_the_path():
    """A task id from an answer is one path segment, whatever is in it."""
    seen: list[bytes] = []

    async def keep(visit: Visit) -> None:
        seen.append(await visit.read_request())
        await visit.answer(b'{"data":{"status":"pending"}}', status="200 OK")

    async def scenario() -> None:
        async with raw_server(keep) as host, client_of(f"http://{host}") as client:
            await client.get_status("../balance?x=1#é/")

    asyncio.run(scenario())

    assert seen[0].startswith(b"GET /tasks/..%2Fbalance%3Fx%3D1%23%C3%A9%2F/status HTTP/1.1")


async def echo_the_key(visit: Visit) -> None:
    await visit.read_request()
    body = f'{{"error":{{"code":"unauthorized","message":"bad key {CANARY}"}}}}'
    await visit.answer(body.encode(), status="401 Unauthorized")


async def echo_the_key_as_text(visit: Visit) -> None:
    await visit.read_request()
    await visit.answer(f"<p>Authorization: Bearer {CANARY}</p>".encode(), status="502 Bad Gateway")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it was raised from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    "handler",
    [*UNKNOWN, never_answer, echo_the_key, echo_the_key_as_text],
    ids=lambda handler: handler.__name__,
)
def test_the_key_is_in_no_log_and_no_error(handler, caplog):
    """Not in messages, reprs, tracebacks or causes, nor in logs at DEBUG level."""
    caplog.set_level(logging.DEBUG)

    async def scenario() -> object:
        async with (
            raw_server(handler) as host,
            client_of(f"http://{host}", request_timeout_s=0.5) as client,
        ):
            return await client.create_task(BODY), repr(client.settings)

    outcome, settings = asyncio.run(scenario())

    assert isinstance(outcome, Unknown | Refused)
    shown = [caplog.text, settings, repr(outcome), repr(getattr(outcome.error, "body", None))]
    for error in chain(outcome.error):
        shown += [str(error), repr(error), repr(error.args)]
    shown += traceback.format_exception(outcome.error)
    assert not any(CANARY in text for text in shown)
