"""From record() to a stream of NATS JetStream: what was received is compared with the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_eventstore.consumers import declared_consumers, move, retry
from django_eventstore.forwarding import forward_all, forwarder
from django_eventstore.models import ConsumerState, FailedDelivery
from tests.delivery import retry_now
from tests.services.jetstream import SHORT, JetStream, ids, wanted
from tests.services.recording import log, offset, record_orders

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.needs("nats")]


@pytest.fixture
def jetstream() -> Iterator[JetStream]:
    jetstream = JetStream()
    options = {
        "stream": jetstream.name,
        "subject": f"{jetstream.name}.{{type}}",
        "url": jetstream.url,
        "timeout": SHORT,
        "connect_timeout": SHORT,
        "max_bytes": 5_000,
    }
    warehouse = {
        "SENDER": "django_eventstore.senders.nats.NATSSender",
        "OPTIONS": options,
        "EVENTS": ["orders.*"],
        "START": "beginning",
    }
    with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": warehouse}}):
        yield jetstream
    for each in forwarder._forwarders.values():
        each.sender.close()
    jetstream.close()


def test_every_event_of_the_log_is_received_once_and_in_order(jetstream):
    record_orders(350)
    record_orders(1, type="elsewhere.Happened")
    assert 350 == forward_all().delivered
    assert wanted(log()[:350]) == ids(jetstream.read(350))
    assert 351 == offset()


def test_a_server_that_is_gone_makes_the_consumer_wait_and_loses_nothing(jetstream):
    record_orders(150)
    forward_all()
    jetstream.proxy.cut()
    record_orders(150, first=151)
    assert 0 == forward_all().delivered
    assert "NATS" in ConsumerState.objects.get(pk="warehouse").error
    assert 0 == FailedDelivery.objects.count()
    assert 150 == offset()
    jetstream.proxy.open()
    retry_now("warehouse")
    assert 150 == forward_all().delivered
    assert wanted(log()) == ids(jetstream.read(300))


def test_a_replay_is_received_although_the_stream_drops_repeats(jetstream):
    record_orders(20)
    forward_all()
    move(declared_consumers()["warehouse"], 5, using="default")
    assert 15 == forward_all().delivered
    assert wanted([*log(), *log()[5:]]) == ids(jetstream.read(35))


def test_a_stream_that_was_blocked_has_its_newest_event_last(jetstream):
    """Although the stream of NATS has had it before, and drops repeats."""
    for number in (1, 8, 15):  # of one stream
        record_orders(1, first=number, text="x" * (6_000 if number == 8 else 1))
    forward_all()
    [failed] = FailedDelivery.objects.all()
    assert ("order-1", 2) == (failed.stream, failed.position)
    first, second, third = wanted(log())
    assert [first] == ids(jetstream.read(1))  # a receiver that had the third would drop the second as an old one
    [running] = forwarder._forwarders.values()
    running.sender.max_bytes = 10_000
    retry(FailedDelivery.objects.all(), by="tests")
    forward_all()
    assert 0 == FailedDelivery.objects.count()
    assert [first, second, third] == ids(jetstream.read(3))
