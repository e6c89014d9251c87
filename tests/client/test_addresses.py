"""Where a picture may come from is decided by the address, however it is written or wrapped."""

from __future__ import annotations

import pytest

from mynth_dagster.client.download import AddressScope, is_allowed

INSIDE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "2001:0:7f00:1::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "2002:7f00:1::1",
    "2002:a9fe:a9fe::1",
]
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::1",
]
NO_ADDRESS = ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "", "::g"]


@pytest.mark.parametrize("address", [*INSIDE, *NO_ADDRESS])
def test_what_is_not_public_is_not_connected_to(address):
    """Loopback, private, link-local, carriers', reserved, multicast, and all of them wrapped."""
    assert not is_allowed(address, AddressScope.PUBLIC)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are(address):
    """Also as an IPv6-only network sees them."""
    assert is_allowed(address, AddressScope.PUBLIC)


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "fc00::1", "8.8.8.8"])
def test_a_host_that_was_named_may_be_private(address):
    """An operator's own store may stand in the operator's own network."""
    assert is_allowed(address, AddressScope.NAMED)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "100.64.0.1", "fd00:ec2::254", "0.0.0.0"]
)
def test_a_host_that_was_named_is_never_this_machine_nor_its_metadata(address):
    """A name on the list may resolve to what nobody meant by it."""
    assert not is_allowed(address, AddressScope.NAMED)


def test_the_apis_own_origin_may_be_anywhere():
    """A simulator listens on loopback, and the operator named its port."""
    assert is_allowed("127.0.0.1", AddressScope.ORIGIN)
    assert not is_allowed("nowhere", AddressScope.ORIGIN)
