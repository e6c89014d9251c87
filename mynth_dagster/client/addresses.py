"""
Which addresses a picture may be fetched from. Pure.

A URL in an answer is data: the address it leads to decides, not its name, and what an address
carries inside it (an IPv4 address in an IPv6 one) decides for it.
"""

from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

Address = IPv4Address | IPv6Address


class Scope(str, Enum):
    """
    How far a URL is trusted.

    `origin` is the API's own, which the operator named with its port. `named` is a host on the
    operator's list: it may be in a private network. `public` is any other host.
    """

    ORIGIN = "origin"
    NAMED = "named"
    PUBLIC = "public"


_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")),
)
_NEVER = tuple(
    map(
        ip_network,
        (
            "100.64.0.0/10",  # carriers' own, and some clouds' metadata
            "192.0.0.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "240.0.0.0/4",
            "64:ff9b:1::/48",
            "100::/64",
            "2001::/23",  # Teredo among them
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
            "fd00:ec2::/32",  # a cloud's metadata
            "fec0::/10",
        ),
    )
)
"""Beside what `ipaddress` knows: its lists grew from one Python to the next."""

_NAT64 = ip_network("64:ff9b::/96")


def is_allowed(address: str, scope: Scope) -> bool:
    """Whether a connection may be made to this literal address; no address is never allowed."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if scope is Scope.ORIGIN:
        return True
    meant = _carried(parsed) or parsed
    if any(meant in network for network in _NEVER if network.version == meant.version):
        return False
    if scope is Scope.NAMED and any(meant in n for n in _PRIVATE if n.version == meant.version):
        return True
    return meant.is_global and not meant.is_multicast and not meant.is_reserved


def _carried(address: Address) -> IPv4Address | None:
    """The IPv4 address that a packet to this IPv6 address ends at."""
    if isinstance(address, IPv4Address):
        return None
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
