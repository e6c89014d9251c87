"""Pictures are fetched from trusted hosts alone, without the key, and never without end."""

from __future__ import annotations

import asyncio

import pytest

from mynth_dagster.client.pictures import is_trusted_picture
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import ConfigError, NoAnswerError
from mynth_dagster.limits import PICTURE_MAX_BYTES
from tests.client.raw import CANARY, Visit, client_of, raw_server

SETTINGS = ClientSettings(base_url="http://127.0.0.1:8787")


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.mynth.io/img_1.webp",
        "https://CDN.mynth.io:443/a/b.png?x=1&y=(2)",
        "http://127.0.0.1:8787/cdn/img_1.webp",
    ],
)
def test_mynths_own_hosts_are_trusted(url):
    """The documented host by https, and the API's own origin as it was configured."""
    assert is_trusted_picture(url, SETTINGS)


@pytest.mark.parametrize(
    "url",
    [
        "http://cdn.mynth.io/img_1.webp",
        "https://cdn.mynth.io:8443/img_1.webp",
        "https://cdn.mynth.io.evil.example/img_1.webp",
        "https://evil.example/cdn.mynth.io/img_1.webp",
        "https://cdn.mynth.io@evil.example/img_1.webp",
        "https://user:pass@cdn.mynth.io/img_1.webp",
        "https://cdn.mynth.io\\@evil.example/img_1.webp",
        "https://cdn.mynth.io/a b.webp",
        "https://cdn.mynth.io/a\nHost: evil.example",
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:8788/cdn/img_1.webp",
        "http://[::1]:8787/cdn/img_1.webp",
        "http://2130706433:8787/cdn/img_1.webp",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "//cdn.mynth.io/img_1.webp",
        "https://",
        "",
    ],
)
def test_all_others_are_not(url):
    """A URL in an answer is data: other hosts, schemes, ports and disguises are left alone."""
    assert not is_trusted_picture(url, SETTINGS)


def test_hosts_of_ones_own_can_be_added():
    """Where a destination serves images, its host may be put on the list."""
    settings = ClientSettings(image_hosts=("img.shop.example",))

    assert is_trusted_picture("https://img.shop.example/a.webp", settings)
    assert not is_trusted_picture("https://cdn.mynth.io/a.webp", settings)


def _fetch(handler, path="/cdn/a.webp"):
    async def fetched():
        async with (
            raw_server(handler) as place,
            client_of(f"http://{place}") as client,
        ):
            return await client.get_picture(f"http://{place}{path}")

    return asyncio.run(fetched())


def test_key_is_not_sent():
    """The request for a picture carries no credentials at all."""
    heads = []

    async def handler(visit: Visit) -> None:
        heads.append(await visit.read_request())
        await visit.answer(b"bytes", status="200 OK")

    assert _fetch(handler) == b"bytes"
    assert CANARY.encode() not in heads[0]
    assert b"authorization" not in heads[0].lower()
    assert b"cookie" not in heads[0].lower()


def test_redirects_are_not_followed():
    """A trusted host cannot send us elsewhere."""
    asked = []

    async def handler(visit: Visit) -> None:
        asked.append(await visit.read_request())
        await visit.answer(b"", status="302 Found", headers="Location: /elsewhere\r\n")

    with pytest.raises(NoAnswerError, match="HTTP 302"):
        _fetch(handler)
    assert len(asked) == 1


def test_endless_pictures_are_cut():
    """No more than the allowed bytes are read."""

    async def handler(visit: Visit) -> None:
        await visit.read_request()
        await visit.answer(bytes(PICTURE_MAX_BYTES + 1), status="200 OK")

    with pytest.raises(NoAnswerError, match="longer than"):
        _fetch(handler)


def test_untrusted_host_is_never_asked():
    """Nothing leaves for a host that is not on the list."""

    async def fetched():
        async with client_of("http://127.0.0.1:1") as client:
            with pytest.raises(ConfigError, match="image_hosts"):
                await client.get_picture("https://evil.example/a.webp")
            return client.n_requests

    assert asyncio.run(fetched()) == 0
