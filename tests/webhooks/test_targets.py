"""Where a webhook may go. The hostile addresses are tried by the real resolver, and against a server that is there."""

from __future__ import annotations

import socket
import ssl
from contextlib import closing

import pytest

from django_eventstore.webhooks.client import Answer, Connection, Limits
from django_eventstore.webhooks.targets import AddressRefused, Rules, addresses_of, parse_url
from tests.webhooks.receiver import receiving

pytestmark = pytest.mark.no_database

STRICT = Rules()
LENIENT = Rules(allow_http=True, allow_private=True, ports=frozenset(range(1, 65_536)))


@pytest.mark.parametrize(
    "url, reason",
    [
        ("http://example.com/", "Only https"),
        ("ftp://example.com/", "begins with"),
        ("javascript:alert(1)//https://example.com", "begins with|visible"),
        ("https:///path", "begins with"),
        ("//example.com/", "begins with"),
        ("https://user:password@example.com/", "user name"),
        ("https://user@example.com/", "user name"),
        ("https://@example.com/", "user name"),
        ("https://example.com/#part", "fragment"),
        ("https://example.com/#", "fragment"),
        ("https://example.com:22/", "Port 22"),
        ("https://example.com:99999/", "[Pp]ort"),
        ("https://example.com:x/", "[Pp]ort"),
        ("https://example.com\\@127.0.0.1/", "visible"),
        ("https://exa mple.com/", "visible"),
        ("https://example.com/\r\nX-Header: 1", "visible"),
        ("https://example.com/\x00", "visible"),
        ("https://bücher.example/", "xn--"),
        ("https://[fe80::1%25eth0]/", "host|IPv6|URL"),
        ("https://exam<ple.com/", "host"),
        ("https://example..com/", "host"),
        ("https://.example.com/", "host"),
        ("https://" + "x" * 64 + ".com/", "host"),
        ("https://example.com/" + "x" * 2_000, "2000"),
    ],
)
def test_a_url_against_the_rules_is_refused_with_the_reason(url, reason):
    with pytest.raises(ValueError, match=reason):
        parse_url(url, STRICT)


def test_a_url_is_taken_apart():
    target = parse_url("https://Hooks.Example.com/in?tenant=7", STRICT)
    assert ("https", "hooks.example.com", 443, "/in?tenant=7") == (
        target.scheme,
        target.host,
        target.port,
        target.path,
    )
    assert "/" == parse_url("https://example.com", STRICT).path
    assert 8443 == parse_url("https://example.com:8443/", Rules(ports=frozenset([8443]))).port
    assert "http" == parse_url("http://example.com/", Rules(allow_http=True)).scheme


HOSTILE = [
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::10.0.0.1]",
    "[64:ff9b:1:7f00:0:100:808:808]",
    "[2002:7f00:1::]",
    "[2002:a00:1::1]",
    "[2001:0:7f00:1::]",
    "[fc00::1]",
    "[fd12:3456::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "168.63.129.16",
    "[::ffff:168.63.129.16]",
]


def resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host.strip("[]"), 443, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", HOSTILE)
def test_a_hostile_address_is_refused_or_none(host):
    target = parse_url(f"https://{host}/", STRICT)
    expected = AddressRefused if resolves(host) else OSError
    with pytest.raises(expected):
        addresses_of(target, STRICT)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "[fd00:ec2::254]",
        "[fd20:ce::254]",
        "[fd00:c1::a9fe:a9fe]",
        "[64:ff9b:1:a00:0:100:808:808]",
    ],
)
def test_no_option_allows_link_local_multicast_and_reserved_addresses_nor_those_of_clouds(host):
    target = parse_url(f"https://{host}/", LENIENT)
    with pytest.raises((AddressRefused, OSError)):
        addresses_of(target, LENIENT)


@pytest.mark.parametrize("host", ["93.184.216.34", "8.8.8.8", "[2606:2800:220:1:248:1893:25c8:1946]"])
def test_public_addresses_are_allowed(host):
    (found,) = addresses_of(parse_url(f"https://{host}/", STRICT), STRICT)
    assert host.strip("[]") == found.sockaddr[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.1", "192.168.1.1", "[fd12:3456::1]"])
def test_private_addresses_are_allowed_by_the_option(host):
    assert addresses_of(parse_url(f"https://{host}/", LENIENT), LENIENT)


def resolver(*answers: list[str]):
    """In place of getaddrinfo: each call has the next answer, the last one for ever."""
    left = list(answers)

    def getaddrinfo(host, port, **keywords):
        chosen = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in chosen]

    return getaddrinfo


@pytest.mark.parametrize("addresses", [["93.184.216.34", "127.0.0.1"], ["10.0.0.1", "93.184.216.34"]])
def test_one_address_that_is_not_allowed_refuses_the_name(monkeypatch, addresses):
    monkeypatch.setattr(socket, "getaddrinfo", resolver(addresses))
    with pytest.raises(AddressRefused, match=r"hooks\.example is (127\.0\.0\.1|10\.0\.0\.1)"):
        addresses_of(parse_url("https://hooks.example/", STRICT), STRICT)


def post(url: str, rules: Rules) -> Answer:
    target = parse_url(url, rules)
    with closing(Connection(target, rules=rules, limits=Limits(), tls=ssl.create_default_context())) as connection:
        return connection.post(b"{}", {})


def test_the_address_that_was_looked_at_is_connected_to(monkeypatch):
    """A name that moves between the look and the connection: the second answer is never asked for."""
    connected = []
    monkeypatch.setattr(socket, "getaddrinfo", resolver(["93.184.216.34"], ["127.0.0.1"]))

    def connect(self, address):
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    with pytest.raises(ConnectionRefusedError):
        post("https://hooks.example/", STRICT)
    assert [("93.184.216.34", 443)] == connected


def test_a_private_server_is_not_reached_by_any_spelling():
    rules = Rules(allow_http=True, ports=LENIENT.ports)
    with receiving() as receiver:
        for host in ("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0", "localhost", "localhost.", "[::1]"):
            with pytest.raises((AddressRefused, OSError)):
                post(receiver.url("/", host), rules)
        assert [] == receiver.seen
        post(receiver.url("/"), LENIENT)  # it was there all the time
        assert 1 == len(receiver.seen)


def test_no_proxy_of_the_environment_is_asked(monkeypatch):
    with receiving() as proxy, receiving() as receiver:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        monkeypatch.delenv("no_proxy", raising=False)
        assert 204 == post(receiver.url("/in"), LENIENT).status
        assert ([], 1) == (proxy.seen, len(receiver.seen))
