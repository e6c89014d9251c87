"""Which URLs of pictures are trusted at all, before anything is asked."""

from __future__ import annotations

import pytest

from mynth_dagster.client.download import is_trusted_picture, next_hop
from mynth_dagster.client.settings import ClientSettings
from mynth_dagster.errors import DownloadError

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


@pytest.mark.parametrize(
    "url",
    [
        "http://img.shop.example/a.webp",
        "https://img.shop.example:8443/a.webp",
        "https://8.8.8.8/a.webp",
        "http://[2606:4700::1111]/a.webp",
    ],
)
def test_any_public_host_can_be_allowed(url):
    """Where destinations serve images under many hosts; the address is still to be looked at."""
    assert is_trusted_picture(url, ClientSettings(any_public_host=True))
    assert not is_trusted_picture(url, SETTINGS)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "[::1]",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::7f00:1]",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
    ],
)
def test_addresses_in_a_url_are_looked_at_at_once(host):
    """Also where any public host is allowed, and however the address is spelled."""
    assert not is_trusted_picture(f"http://{host}/a.webp", ClientSettings(any_public_host=True))


def test_redirects_stay_where_they_began_or_get_safer():
    """A path, the same scheme, or up to https; never down to http, nor to another scheme."""
    here = "https://cdn.mynth.io/a/b.webp"

    assert next_hop(here, "c.webp") == "https://cdn.mynth.io/a/c.webp"
    assert next_hop(here, "//img.shop.example/c") == "https://img.shop.example/c"
    assert next_hop("http://a.example/b", "https://a.example/c") == "https://a.example/c"
    for location in ("http://cdn.mynth.io/b.webp", "file:///etc/passwd", "https://a@b.example/"):
        with pytest.raises(DownloadError, match="unsafe_url"):
            next_hop(here, location)
