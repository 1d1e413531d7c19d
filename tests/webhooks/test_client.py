"""The HTTP client against servers that answer as no server should."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from django_eventstore.webhooks.client import Answer, AnswerTooLong, Connection, Limits
from django_eventstore.webhooks.targets import Rules, parse_url
from tests.webhooks.certificates import make_certificate, server_context
from tests.webhooks.receiver import (
    Receiver,
    drip,
    flood,
    flood_headers,
    hang,
    in_turn,
    receiving,
    refusing,
    vanish,
)

pytestmark = pytest.mark.no_database

RULES = Rules(allow_http=True, allow_private=True, ports=frozenset(range(1, 65_536)))
SHORT = {"timeout": timedelta(seconds=0.3)}
BOUND = 20
"""Seconds in which a short wait has ended on any machine."""

Connect = Callable[..., Connection]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def connect() -> Iterator[Connect]:
    with ExitStack() as stack:

        def make(url: str, *, tls: ssl.SSLContext | None = None, **limits) -> Connection:
            context = tls or ssl.create_default_context()
            connection = Connection(parse_url(url, RULES), rules=RULES, limits=Limits(**limits), tls=context)
            stack.callback(connection.close)
            return connection

        yield make


def test_the_body_and_the_headers_arrive_as_they_are(receiver, connect):
    body = '{"text":"ñ 漢字"}'.encode()
    answer = connect(receiver.url("/in?tenant=7")).post(body, {"webhook-id": "1", "Content-Type": "application/json"})
    assert Answer(status=204) == answer
    (request,) = receiver.seen
    assert ("/in?tenant=7", body) == (request.path, request.body)
    assert "1" == request.headers["webhook-id"]
    assert f"127.0.0.1:{receiver.port}" == request.headers["host"]


def test_a_connection_is_used_again(receiver, connect):
    ports = []
    receiver.answers["/in"] = lambda handler, request: (ports.append(handler.client_address[1]), handler.say(200, b"x"))
    connection = connect(receiver.url("/in"))
    for _ in range(3):
        connection.post(b"{}", {})
    assert 3 == len(ports)
    assert 1 == len(set(ports))


def test_a_connection_that_the_other_side_has_closed_is_made_anew(receiver, connect):
    def goodbye(handler, request):
        handler.say(200)  # it does not tell that it closes
        handler.close_connection = True

    receiver.answers["/in"] = goodbye
    connection = connect(receiver.url("/in"))
    for _ in range(5):
        assert 200 == connection.post(b"{}", {}).status
    assert 5 == len(receiver.seen)


def test_a_new_connection_that_ends_without_an_answer_is_an_error(receiver, connect):
    receiver.answers["/in"] = vanish
    with pytest.raises(http.client.RemoteDisconnected):
        connect(receiver.url("/in")).post(b"{}", {})
    assert 1 == len(receiver.seen)


@pytest.mark.parametrize("status", [200, 301, 302, 307, 308, 400, 404, 500])
def test_the_status_is_returned_and_no_redirect_followed(receiver, connect, status):
    with receiving() as elsewhere:
        receiver.answers["/in"] = refusing(status, Location=elsewhere.url("/secret"))
        assert status == connect(receiver.url("/in")).post(b"{}", {}).status
        assert ([], 1) == (elsewhere.seen, len(receiver.seen))


@pytest.mark.parametrize("answer", [hang, drip])
def test_a_request_ends_when_its_time_is_over(receiver, connect, answer):
    receiver.answers["/in"] = answer
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connect(receiver.url("/in"), **SHORT).post(b"{}", {})
    assert time.monotonic() - began < BOUND


def test_a_large_request_that_is_not_read_ends_when_its_time_is_over(receiver, connect):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        connection = connect(f"http://127.0.0.1:{deaf.getsockname()[1]}/", **SHORT)
        with pytest.raises(TimeoutError):
            connection.post(b"x" * 50_000_000, {})


def test_of_a_huge_answer_no_more_is_read_than_allowed(receiver, connect, monkeypatch):
    receiver.answers["/in"] = flood
    connection = connect(receiver.url("/in"), max_answer=10_000)
    assert 200 == connection.post(b"{}", {}).status
    assert not connection.is_open  # what is left of the answer is on it


def test_a_huge_header_is_an_error(receiver, connect):
    receiver.answers["/in"] = flood_headers
    with pytest.raises(AnswerTooLong):
        connect(receiver.url("/in"), max_answer=10_000).post(b"{}", {})


def test_an_answer_that_is_no_http_is_an_error(receiver, connect):
    receiver.answers["/in"] = lambda handler, request: handler.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    with pytest.raises(http.client.BadStatusLine):
        connect(receiver.url("/in")).post(b"{}", {})


def test_an_answer_that_is_cut_off_after_its_status_counts_and_its_connection_does_not(receiver, connect):
    def cut(handler, request):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        handler.close_connection = True

    receiver.answers["/in"] = cut
    connection = connect(receiver.url("/in"))
    assert 200 == connection.post(b"{}", {}).status
    assert not connection.is_open


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 1000000000000000\r\n\r\nabc",
        b"Content-Length: 99999999999999999999999999\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\nabc",
        b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n",
    ],
)
def test_a_size_that_an_answer_only_claims_to_have_takes_no_memory_and_changes_nothing(receiver, connect, rest):
    def boast(handler, request):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + rest)
        handler.close_connection = True

    receiver.answers["/in"] = boast
    connection = connect(receiver.url("/in"))
    assert 200 == connection.post(b"{}", {}).status
    assert not connection.is_open


@pytest.mark.parametrize("interim", [b"102 Processing", b"103 Early Hints\r\nLink: </style.css>"])
def test_an_interim_answer_is_not_taken_for_the_final_one(receiver, connect, interim):
    """Or the final one would be read as the answer to the next request, which it does not accept."""

    def answer(handler, request):
        handler.wfile.write(b"HTTP/1.1 " + interim + b"\r\n\r\n")
        handler.server.receiver.going_on.wait(0.1)  # the next request would be on its way by then
        handler.say(204 if request.body == b"good" else 500)

    receiver.answers["/in"] = answer
    connection = connect(receiver.url("/in"))
    assert [204, 500, 204] == [connection.post(body, {}).status for body in (b"good", b"bad", b"good")]


def test_a_connection_that_speaks_something_else_now_is_not_used_again(receiver, connect):
    receiver.answers["/in"] = lambda handler, request: handler.wfile.write(b"HTTP/1.1 101 Go on\r\n\r\n")
    connection = connect(receiver.url("/in"))
    assert 101 == connection.post(b"{}", {}).status
    assert not connection.is_open


def test_a_connection_may_be_used_again_after_an_error(receiver, connect):
    receiver.answers["/in"] = in_turn(vanish, refusing(200))
    connection = connect(receiver.url("/in"))
    with pytest.raises(http.client.RemoteDisconnected):
        connection.post(b"{}", {})
    assert 200 == connection.post(b"{}", {}).status


def test_nobody_listening_is_an_error(connect, unused_port):
    with pytest.raises(ConnectionRefusedError):
        connect(f"http://127.0.0.1:{unused_port}/").post(b"{}", {})


@pytest.fixture
def unused_port() -> Iterator[int]:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and it does not listen
        yield silent.getsockname()[1]


def test_retry_after_is_read_in_seconds_and_as_a_date(receiver, connect):
    later = format_datetime(datetime.now(timezone.utc) + timedelta(minutes=10), usegmt=True)
    earlier = format_datetime(datetime.now(timezone.utc) - timedelta(minutes=10), usegmt=True)
    beyond = ["Mon, 01 Jan 2020 00:00:00 +99999999999999999999", "2 Jan 999999996999 00:00:00 GMT"]
    said = ["120", " 7 ", later, earlier, "soon", "-5", "1.5", "9" * 100, "", *beyond]
    receiver.answers["/in"] = in_turn(*[refusing(429, Retry_After=text) for text in said], refusing(429))
    connection = connect(receiver.url("/in"))
    found = [connection.post(b"{}", {}).retry_after for _ in range(len(said) + 1)]
    assert [timedelta(seconds=120), timedelta(seconds=7)] == found[:2]
    assert timedelta(minutes=9) < found[2] <= timedelta(minutes=10)
    assert timedelta(0) == found[3]
    assert [None, None, None] == found[4:7]
    assert timedelta(days=365) < found[7]
    assert [None] * 4 == found[8:]


# --- TLS ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    return {name: make_certificate(directory, name) for name in ("IP:127.0.0.1", "DNS:elsewhere.example")}


@pytest.fixture
def encrypted(certificates) -> Iterator[Callable[[str], Receiver]]:
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(receiving(tls=server_context(certificates[name])))


@pytest.mark.needs("openssl")
def test_a_webhook_goes_by_tls_when_the_certificate_is_right(encrypted, certificates, connect):
    receiver = encrypted("IP:127.0.0.1")
    trusted = ssl.create_default_context(cafile=certificates["IP:127.0.0.1"][0])
    connection = connect(receiver.url("/in"), tls=trusted)
    for _ in range(3):
        assert 204 == connection.post(b"{}", {}).status


@pytest.mark.needs("openssl")
def test_a_certificate_that_is_not_trusted_is_an_error(encrypted, connect):
    receiver = encrypted("IP:127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(receiver.url("/in")).post(b"{}", {})
    assert [] == receiver.seen


@pytest.mark.needs("openssl")
def test_a_certificate_of_another_name_is_an_error(encrypted, certificates, connect):
    receiver = encrypted("DNS:elsewhere.example")
    trusted = ssl.create_default_context(cafile=certificates["DNS:elsewhere.example"][0])
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(receiver.url("/in"), tls=trusted).post(b"{}", {})
    assert [] == receiver.seen


def test_a_server_that_does_not_answer_the_handshake_ends_when_its_time_is_over(connect):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        connection = connect(url, connect_timeout=timedelta(seconds=0.3))
        with pytest.raises(TimeoutError):
            connection.post(b"{}", {})
