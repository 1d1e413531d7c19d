"""What of the NATS sender needs no server: options, subjects, and the bookkeeping. See tests/services for the rest."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats import errors

from django_eventstore import Outcome
from django_eventstore.exceptions import PermanentError, Unavailable
from django_eventstore.senders.base import Receipts
from django_eventstore.senders.nats import NATSSender
from django_eventstore.senders.nats.address import Address
from django_eventstore.senders.nats.flight import Flight
from django_eventstore.senders.nats.repeats import names
from django_eventstore.senders.nats.subjects import escape, require_subject, takes
from django_eventstore.senders.nats.verdicts import settle
from django_eventstore.testing.contracts import SenderContract

pytestmark = pytest.mark.no_database

contract = SenderContract()
ENTRIES = contract.entries(6)
ACK = b'{"stream":"ORDERS","seq":7}'
REQUIRED = {"stream": "ORDERS", "url": "nats://127.0.0.1:1"}


def flight() -> Flight:
    flight = Flight("ORDERS", Receipts(ENTRIES))
    for number in range(len(ENTRIES)):
        flight.published(100 + number, number)
    return flight


def accepted(flight: Flight) -> list[int]:
    return [number for number in range(len(ENTRIES)) if flight.receipts.is_answered(number)]


def test_an_answer_of_the_stream_accepts_its_event_and_no_other():
    sent = flight()
    sent.answered(102, None, ACK)
    assert ([2], 5, False) == (accepted(sent), sent.in_flight, sent.has_failed)


def test_a_repeat_that_the_stream_has_dropped_is_accepted():
    sent = flight()
    sent.answered(100, None, b'{"stream":"ORDERS","seq":7,"duplicate":true}')
    assert Outcome(done=1) == sent.receipts.outcome()


def test_a_stream_is_busy_until_its_event_is_answered_in_whatever_way():
    sent = Flight("ORDERS", Receipts(ENTRIES))
    for number, order in enumerate(("a", "b", "c", "", "")):
        sent.published(100 + number, number, order)
    assert [True, True, True, False, False] == [sent.is_busy(order) for order in ("a", "b", "c", "d", "")]
    sent.answered(100, None, ACK)
    sent.answered(101, None, b'{"error":{"code":503,"err_code":10077,"description":"full"}}')
    sent.answered(102, {"Status": "503"}, b"")
    assert [False, False, False] == [sent.is_busy(order) for order in ("a", "b", "c")]


def test_an_answer_to_what_was_published_before_changes_nothing():
    sent = flight()
    sent.answered(99, None, ACK)
    sent.answered(102, None, ACK)
    sent.answered(102, None, b'{"error":{"code":503,"err_code":10077,"description":"full"}}')
    assert ([2], {}, []) == (accepted(sent), sent.complaints, sent.unheard)


def test_a_complaint_claims_nothing_and_is_remembered():
    sent = flight()
    sent.answered(101, None, b'{"error":{"code":503,"err_code":10077,"description":"full"}}')
    assert ([], True, 10077) == (accepted(sent), sent.has_failed, sent.complaints[1].err_code)


def test_nobody_who_listens_is_remembered():
    sent = flight()
    sent.answered(103, {"Status": "503"}, b"")
    assert ([], [3], True) == (accepted(sent), sent.unheard, sent.has_failed)


@pytest.mark.parametrize("body", [b"+OK", b"", b'"yes"', b"{}", b'{"stream":"OTHER","seq":1}', b'{"stream":"ORDERS"}'])
def test_what_somebody_else_answers_accepts_nothing(body):
    sent = flight()
    sent.answered(100, None, body)
    assert ([], True) == (accepted(sent), sent.has_failed)


@pytest.mark.parametrize(
    "pattern, subject, expected",
    [
        ("orders", "orders", True),
        ("orders", "orders.placed", False),
        ("orders.*", "orders.placed", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.placed.eu", False),
        ("orders.>", "orders.placed.eu", True),
        ("orders.>", "orders", False),
        ("*.placed", "orders.placed", True),
        ("*.placed", "orders.paid", False),
        (">", "orders", True),
        ("orders.placed.>", "orders.placed", False),
    ],
)
def test_a_stream_takes_the_subjects_that_its_own_cover(pattern, subject, expected):
    assert expected == takes(pattern, subject)


@given(st.text())
def test_a_value_becomes_visible_ascii_without_wildcards(value):
    assert not set(escape(value)) & set(" *>\r\n\t")
    assert escape(value).isascii()


def test_a_value_that_needs_no_change_stays():
    assert "orders.OrderPlaced-1" == escape("orders.OrderPlaced-1")
    assert "a%20%2A%3E%25%C3%A9" == escape("a *>%é")


@pytest.mark.parametrize("subject", ["orders", "orders.OrderPlaced", "a.b.c-1_2%20"])
def test_a_subject_is_taken(subject):
    require_subject(subject)


@pytest.mark.parametrize(
    "subject",
    ["", ".", "a.", ".a", "a..b", "a b", "a.*", "a.>", "é", "a\nb", "$JS.API.STREAM.DELETE.x", "_INBOX.x", "a" * 3_001],
)
def test_what_is_no_subject_refuses_the_event(subject):
    with pytest.raises(PermanentError):
        require_subject(subject)


def test_an_event_has_the_same_id_each_time_and_another_one_for_another_consumer_log_or_epoch():
    from dataclasses import replace
    from uuid import uuid4

    batch, entry = contract.batch(ENTRIES), ENTRIES[0]
    name = names(batch)(entry)
    assert name is not None
    assert name.startswith(str(entry.event_id))
    assert name == names(contract.batch(ENTRIES[:1]))(entry)
    others = [replace(batch, consumer="other"), replace(batch, log=uuid4()), replace(batch, epoch=2)]
    assert 4 == len({name, *(names(other)(entry) for other in others)})


def test_what_is_to_arrive_once_more_has_no_id():
    from dataclasses import replace

    [entry] = contract.entries(1)
    batch = contract.batch([entry])
    assert names(replace(batch, catches_up=True))(entry) is None
    entry.is_replay = True
    assert names(batch)(entry) is None


class Server:
    """Answers what is asked about the stream."""

    largest = 1_000_000

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer

    def ask(self, subject: str, *, longest: timedelta) -> bytes:
        assert "$JS.API.STREAM.INFO.ORDERS" == subject
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def verdict(answer: bytes | Exception) -> Flight:
    sent = flight()
    sent.answered(100, {"Status": "503"}, b"")
    subjects = ["orders.OrderPlaced"] * len(ENTRIES)
    settle(sent, sent.receipts, subjects, Server(answer), longest=timedelta(seconds=1))
    return sent


@pytest.mark.parametrize(
    "answer, reason",
    [
        (b'{"error":{"code":404,"err_code":10059,"description":"stream not found"}}', "'ORDERS': stream not found"),
        (b'{"config":{"subjects":["orders.*"]}}', "no leader"),
        (b"{}", "'ORDERS': no answer"),
        (errors.NoRespondersError(), "JetStream is not there"),
        (errors.TimeoutError(), "nobody listens"),
    ],
)
def test_when_nobody_listens_it_is_found_out_why(answer, reason):
    with pytest.raises(Unavailable, match=reason):
        verdict(answer)


@pytest.mark.parametrize("answer", [b'{"config":{"subjects":["other.*"]}}', b'{"config":{}}'])
def test_a_stream_that_does_not_take_the_subject_refuses_the_event(answer):
    assert {1} == set(verdict(answer).receipts.outcome().refused)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"stream": ""}, "stream"),
        ({"stream": "a.b"}, "stream"),
        ({"stream": "a b"}, "stream"),
        ({"subject": "{payload}"}, "subject"),
        ({"subject": "orders.*"}, "subject"),
        ({"subject": "two words"}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": "$JS.{type}"}, "subject"),
        ({"url": "http://127.0.0.1"}, "url"),
        ({"url": "127.0.0.1:4222"}, "url"),
        ({"url": "nats://"}, "url"),
        ({"url": "nats://a:port"}, "url"),
        ({"url": "nats://a;amqp://b"}, "url"),
        ({"url": None}, "url"),
        ({"tls": {"cafile": "ca.pem"}}, "tls"),
        ({"headers": {"Nats-Rollup": "all"}}, "headers"),
        ({"headers": {"a b": "c"}}, "headers"),
        ({"headers": {"a": "two\r\nlines"}}, "headers"),
        ({"headers": {"a": 1}}, "headers"),
        ({"format": "xml"}, "format"),
        ({"source": "a b"}, "source"),
        ({"dataschema": "nonsense"}, "dataschema"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"timeout": 30}, "timeout"),
        ({"connect_timeout": timedelta(seconds=-1)}, "connect_timeout"),
    ],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        NATSSender(**{**REQUIRED, **options})


@pytest.mark.parametrize("missing", ["stream", "url"])
def test_stream_and_url_must_be_said(missing):
    with pytest.raises(TypeError, match=missing):
        NATSSender(**{name: value for name, value in REQUIRED.items() if name != missing})


def test_a_wrong_url_is_reported_without_its_password():
    with pytest.raises(ValueError) as caught:
        NATSSender(stream="ORDERS", url="http://user:s3cret@127.0.0.1")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(Address("nats://user:s3cret@127.0.0.1", {}))


def test_a_right_sender_is_right_and_connects_to_nothing():
    assert [] == NATSSender(stream="ORDERS", url="nats://127.0.0.1:1;tls://user:password@127.0.0.1:2").check()


def test_certificate_and_name_are_looked_at_unless_that_is_turned_off():
    context = Address("tls://a", {}).context()
    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    context = Address("tls://a", {"cert_reqs": ssl.CERT_NONE}).context()
    assert (ssl.CERT_NONE, False) == (context.verify_mode, context.check_hostname)


def test_tls_is_meant_by_the_url_and_by_the_option():
    address = Address("nats://a;tls://b", {})
    assert [False, True] == [address.is_encrypted(url) for url in address.urls]
    assert Address("nats://a", {"ca_certs": "ca.pem"}).is_encrypted("nats://a")


def run(program: str) -> str:
    program = "import sys\nfrom django.conf import settings\nsettings.configure()\n" + program
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_the_senders_room_is_imported_without_the_library():
    assert "[]" == run(
        "import django_eventstore.senders\nprint([name for name in sys.modules if name.split('.')[0] == 'nats'])"
    )


def test_without_the_library_it_is_said_what_to_install():
    said = run(
        "sys.modules['nats'] = None\n"
        "try:\n    import django_eventstore.senders.nats\n"
        "except ImportError as error:\n    import json; print(json.dumps(str(error)))"
    )
    assert "pip install 'django-eventstore[nats]'" in json.loads(said)


def test_a_thread_that_cannot_begin_is_an_error_and_not_a_hang(monkeypatch):
    from django_eventstore.senders.nats.link import Link

    async def live(link: Link) -> None:
        raise OSError("Too many open files")

    monkeypatch.setattr(Link, "_live", live)
    with pytest.raises(Unavailable, match="Too many open files"):
        NATSSender(**REQUIRED).send(contract.batch(ENTRIES))
