"""Fetching a picture: without credentials, from allowed addresses alone, and never without end."""

from __future__ import annotations

import asyncio
import socket

import pytest

from mynth_dagster.client.download import AddressScope, make_socket
from mynth_dagster.errors import DownloadError
from mynth_dagster.limits import DOWNLOAD_PACE_AFTER_S, REDIRECTS_MAX
from tests.client.raw import CANARY, Visit, client_of, raw_server
from tests.factories import LeapingClock

OK = "200 OK"


def fetch(handler, url="http://{place}/cdn/a.webp", *, clock=None, bytes_max=1000, **settings):
    """What was taken, of a server that treats each connection so."""

    async def fetched():
        taken = []

        async def take(chunk: bytes) -> None:
            taken.append(chunk)

        async with (
            raw_server(handler) as place,
            client_of(f"http://{place}", clock=clock, **settings) as client,
        ):
            where = url.format(place=place, port=place.rpartition(":")[2])
            n_bytes = await client.pictures.fetch(where, take, bytes_max=bytes_max)
        assert n_bytes == sum(map(len, taken))
        return b"".join(taken)

    return asyncio.run(fetched())


def failing(handler, **options) -> DownloadError:
    """The same, where it is not to be had."""
    with pytest.raises(DownloadError) as caught:
        fetch(handler, **options)
    return caught.value


def answering(body=b"bytes", **options):
    """A server that gives this answer, and what it was asked."""
    heads: list[bytes] = []

    async def handler(visit: Visit) -> None:
        heads.append(await visit.read_request())
        await visit.answer(body, **{"status": OK, **options})

    handler.heads = heads
    return handler


def saying(*parts: bytes):
    """A server that writes these bytes and closes."""

    async def handler(visit: Visit) -> None:
        await visit.read_request()
        visit.writer.write(b"".join(parts))
        await visit.writer.drain()

    return handler


def test_no_credentials_are_sent():
    """The request for a picture carries neither key nor cookie, also after a redirect."""
    handler = answering()

    assert fetch(handler) == b"bytes"
    assert CANARY.encode() not in handler.heads[0]
    assert b"authorization" not in handler.heads[0].lower()
    assert b"cookie" not in handler.heads[0].lower()


def test_proxies_of_the_environment_are_not_trusted(monkeypatch):
    """A proxy would connect in our place, past every look at the address."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    assert fetch(answering()) == b"bytes"


@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:{port}0/elsewhere",
        "http://localhost:{port}/cdn/a.webp",
        "http://[::ffff:127.0.0.1]:{port}/cdn/a.webp",
        "http://2130706433:{port}/cdn/a.webp",
        "http://0x7f.1:{port}/cdn/a.webp",
        "file:///etc/passwd",
        "",
    ],
)
@pytest.mark.parametrize("any_public_host", [False, True])
def test_a_redirect_is_judged_as_a_url_of_its_own(location, any_public_host):
    """A trusted host cannot send us elsewhere."""
    asked = []

    async def handler(visit: Visit) -> None:
        asked.append(await visit.read_request())
        host = asked[0].partition(b"Host: ")[2].partition(b"\r\n")[0].decode()
        where = location.format(port=host.rpartition(":")[2])
        headers = f"Location: {where}\r\n" if where else ""
        await visit.answer(b"", status="302 Found", headers=headers)

    error = failing(handler, any_public_host=any_public_host)

    assert error.code in ("unsafe_url", "too_many_redirects")
    assert len(asked) == (1 if location else 1 + REDIRECTS_MAX)


def test_a_few_redirects_are_followed():
    """Within the same origin, without credentials, and no more than allowed."""
    heads = []

    async def handler(visit: Visit) -> None:
        while True:
            heads.append(await visit.read_request())
            if len(heads) <= REDIRECTS_MAX:
                await visit.answer(b"", status="307 Moved", headers=f"Location: /{len(heads)}\r\n")
            else:
                await visit.answer(b"bytes", status=OK)

    assert fetch(handler) == b"bytes"
    assert not [head for head in heads if b"authorization" in head.lower()]


def test_redirects_in_a_circle_end():
    """After three it is enough."""
    handler = answering(b"", status="302 Found", headers="Location: /a\r\n")

    assert failing(handler).code == "too_many_redirects"
    assert len(handler.heads) == 1 + REDIRECTS_MAX


def test_a_name_that_resolves_inside_is_not_connected_to():
    """Whatever the name looks like, the address behind it decides."""
    handler = answering()

    error = failing(handler, url="http://localhost:{port}/a.webp", any_public_host=True)

    assert error.code == "unsafe_url"
    assert handler.heads == []


def test_a_name_that_changes_its_mind_is_connected_to_where_it_was_looked_at(monkeypatch):
    """There is one resolution: its allowed addresses are those that are connected to."""
    handler, looked_up, real = answering(), [], socket.getaddrinfo

    def rebinding(host, port, *args, **options):
        if host != "rebind.example":
            return real(host, port, *args, **options)
        looked_up.append(host)
        address = "192.0.2.1" if len(looked_up) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    failing(handler, url="http://rebind.example:{port}/", any_public_host=True)

    assert looked_up == ["rebind.example"]
    assert handler.heads == []


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "10.0.0.1"])
def test_the_last_look_is_at_the_address_itself(address):
    """Below every name and every resolver: no socket is made for what is not allowed."""
    found = (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80))

    with pytest.raises(PermissionError):
        make_socket(found, AddressScope.PUBLIC)
    make_socket(found, AddressScope.ORIGIN).close()


def test_a_host_that_is_not_on_the_list_is_never_asked():
    """Nothing leaves for it."""

    async def asked():
        async with client_of("http://127.0.0.1:1") as client:
            with pytest.raises(DownloadError, match="unsafe_url"):
                await client.get_picture("https://evil.example/a.webp")
            return client.n_requests

    assert asyncio.run(asked()) == 0


def test_endless_bodies_are_cut():
    """Announced or not, no more than the allowed bytes are read."""
    announced = answering(bytes(1001))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = saying(head, b"400\r\n" + bytes(1024) + b"\r\n")

    assert failing(announced).code == "too_large"
    assert failing(endless).code == "too_large"
    assert fetch(answering(bytes(1000))) == bytes(1000)


def test_a_body_that_ends_too_early_is_not_taken_for_whole():
    """Less than was announced may be tried again."""
    error = failing(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"only this"))

    assert (error.code, error.may_pass) == ("truncated", True)


def test_more_than_was_announced_is_not_taken_for_a_body():
    """Whoever cannot count its own bytes may have meant others."""
    surplus = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"bodyand a good deal more")

    error = failing(surplus)

    assert (error.code, error.may_pass) == ("download_failed", True)


def test_a_body_without_a_length_ends_with_its_connection():
    """Whether it was all of it, the picture itself has to tell."""
    assert fetch(saying(b"HTTP/1.1 200 OK\r\n\r\n", b"body")) == b"body"


def test_a_trickle_is_given_up():
    """A byte now and then would hold a slot for days."""
    clock = LeapingClock()

    async def handler(visit: Visit) -> None:
        await visit.read_request()
        visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        for _ in range(900):
            visit.writer.write(b"x")
            await visit.writer.drain()
            clock.advance(DOWNLOAD_PACE_AFTER_S / 4)
            await asyncio.sleep(0)

    error = failing(handler, clock=clock)

    assert (error.code, error.may_pass) == ("too_slow", True)


def test_compressed_bodies_are_refused():
    """A small body may be a large one in disguise; nobody asked for it."""
    error = failing(answering(b"\x1f\x8b", headers="Content-Encoding: gzip\r\n"))

    assert (error.code, error.may_pass) == ("wrong_type", False)


@pytest.mark.parametrize(
    ("status", "code", "may_pass"),
    [
        (401, "url_expired", False),
        (403, "url_expired", False),
        (404, "url_expired", False),
        (410, "url_expired", False),
        (429, "download_failed", True),
        (500, "download_failed", True),
        (503, "download_failed", True),
        (400, "download_failed", False),
        (204, "download_failed", False),
    ],
)
def test_each_status_is_reported_with_what_may_come_of_it(status, code, may_pass):
    """Dead, passing, or neither."""
    error = failing(answering(b"", status=f"{status} Said"))

    assert (error.code, error.may_pass, error.http_status) == (code, may_pass, status)


@pytest.mark.parametrize(
    "handler",
    [
        saying(b"not http at all\r\n\r\n"),
        saying(b""),
        saying(b"HTTP/1.1 200 OK\r\nX: \x00\r\n\r\n"),
    ],
)
def test_no_error_quotes_the_url(handler):
    """It may be signed, and errors are written into tables."""
    error = failing(handler, url="http://{place}/cdn/a.webp?signature=s3cr3t")

    assert error.may_pass
    assert "s3cr3t" not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r}"
