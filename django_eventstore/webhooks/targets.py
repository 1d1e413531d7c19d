"""Where webhooks may go: which URLs, and which addresses behind their names.

Whoever registers an endpoint chooses where this server connects to, and would choose its own network, or the service that
hands out the credentials of the machine, if that were allowed. So the name is resolved here, each address that it has is
looked at, and the connection is made to one of those: a name that is resolved once more may have moved meanwhile.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

__all__ = ["Address", "AddressRefused", "Rules", "Target", "addresses_of", "parse_url"]

DEFAULT_PORTS = {"http": 80, "https": 443}
LONGEST_URL = 2_000
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?|[0-9a-f:.]*:[0-9a-f:.]*")
# What an IPv6 address may carry in it: an IPv4 address in its last 32 bits. In the rest of 64:ff9b:1::/48 it may stand
# elsewhere (RFC 6052), with anything behind it.
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/96"))
_NAT64_ELSEWHERE = IPv6Network("64:ff9b:1::/48")
_COMPATIBLE = IPv6Network("::/96")
_GLOBAL_UNICAST = IPv6Network("2000::/3")
# Where clouds hand out credentials, and which is not link-local. Nobody has an endpoint there.
_CLOUDS = frozenset(
    map(
        ip_address,
        (
            "168.63.129.16",  # Azure, of all addresses a public one
            "100.100.100.200",  # Alibaba
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # Amazon
            "fd20:ce::254",  # Google
            "fd00:c1::a9fe:a9fe",  # Oracle
        ),
    )
)

IPAddress = IPv4Address | IPv6Address


class AddressRefused(Exception):
    """The name of an endpoint has an address that must not be connected to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is allowed besides ``https`` to public addresses."""

    allow_http: bool = False
    allow_private: bool = False
    """Loopback and private networks; never link-local, multicast and reserved addresses, nor where clouds hand out
    credentials."""
    ports: frozenset[int] = frozenset((80, 443))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A URL, taken apart."""

    scheme: str
    host: str
    port: int
    path: str
    """Path and query, as they are requested."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One that was looked at and may be connected to."""

    family: int
    sockaddr: tuple[object, ...]


def parse_url(url: str, rules: Rules) -> Target:
    """The parts of an absolute URL. Raises ValueError with the reason when it is none, or against the rules."""
    if len(url) > LONGEST_URL or not _VISIBLE.fullmatch(url) or "\\" in url:
        raise ValueError(
            f"A URL has visible ASCII characters only, no backslash, and {LONGEST_URL} at most; write a name of other "
            "letters in its 'xn--' form."
        )
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("A URL begins with 'https://' and the name of a host.")
    if parts.scheme == "http" and not rules.allow_http:
        raise ValueError("Only https is allowed.")
    if "@" in parts.netloc:
        raise ValueError("A URL must not have a user name or a password.")
    if "#" in url:
        raise ValueError("A URL must not have a fragment.")
    if not _HOST.fullmatch(parts.hostname):
        raise ValueError("The name of the host is none.")
    port = parts.port or DEFAULT_PORTS[parts.scheme]  # of a port that is none it raises ValueError itself
    if port not in rules.ports:
        raise ValueError(f"Port {port} is not one of the allowed: {', '.join(map(str, sorted(rules.ports)))}.")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(scheme=parts.scheme, host=parts.hostname, port=port, path=path)


def addresses_of(target: Target, rules: Rules) -> list[Address]:
    """All addresses of the host, in the resolver's order. Raises AddressRefused if one of them is not allowed, OSError if
    there is none.

    One is enough to refuse: a name with a public and a private address is no mistake of its owner.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    addresses = []
    for family, _, _, _, sockaddr in found:
        text = str(sockaddr[0])
        if not _is_allowed(text, rules):
            raise AddressRefused(f"{target.host} is {text}, which webhooks must not connect to.")
        addresses.append(Address(family=family, sockaddr=sockaddr))
    return addresses


def _is_allowed(text: str, rules: Rules) -> bool:
    if "%" in text:  # of one link only
        return False
    return all(_is_harmless(address, rules) for address in _meanings(ip_address(text)))


def _meanings(address: IPAddress) -> Iterator[IPAddress]:
    """The address, or the one that it stands for or leads to."""
    if not isinstance(address, IPv6Address):
        yield address
    elif address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    elif any(address in network for network in _NAT64):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    elif address in _COMPATIBLE and int(address) > 1:
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    else:
        yield address
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield from address.teredo


def _is_harmless(address: IPAddress, rules: Rules) -> bool:
    if address.is_loopback:  # before is_reserved, which says so of ::1
        return rules.allow_private
    if address in _CLOUDS or address in _NAT64_ELSEWHERE:
        return False
    if address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    is_public = address.is_global and (isinstance(address, IPv4Address) or address in _GLOBAL_UNICAST)
    return is_public or (rules.allow_private and address.is_private)
