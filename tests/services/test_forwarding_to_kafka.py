"""From record() to a topic of Kafka: what was received is compared with the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import transaction
from django.test import override_settings

from django_eventstore import EventStore, record
from django_eventstore.consumers import OffsetStore
from django_eventstore.forwarding import forward_all, forwarder
from django_eventstore.models import ConsumerState, FailedDelivery
from tests.delivery import retry_now
from tests.services.kafka import LONG, Ground, ids, kafka_of, mock_ground, wanted

# On one database: how the loop and a sender work together is tested with all of them, by others.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.sqlite, pytest.mark.needs("kafka-mock")]

KAFKA_SENDER = "django_eventstore.senders.kafka.KafkaSender"


@pytest.fixture
def ground() -> Iterator[Ground]:
    with mock_ground() as ground:
        options = {"topic": ground.topic, "url": ground.kafka.url, "timeout": LONG, "connect_timeout": LONG}
        warehouse = {"SENDER": KAFKA_SENDER, "OPTIONS": options, "EVENTS": ["orders.*"], "START": "beginning"}
        with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": warehouse}}):
            yield ground
        for each in forwarder._forwarders.values():
            each.sender.close()


def record_orders(count: int, *, first: int = 1) -> None:
    with transaction.atomic():
        for number in range(first, first + count):
            record("orders.OrderPlaced", {"n": number}, stream=f"order-{number % 7}")


def log():
    return EventStore().get(limit=10_000).entries


def offset() -> int:
    progress = OffsetStore().load("warehouse")
    return progress.offset if progress else 0


def test_every_event_of_the_log_is_received_and_an_outage_makes_the_consumer_wait(ground):
    record_orders(150)
    assert 150 == forward_all().delivered
    ground.senders = [each.sender for each in forwarder._forwarders.values()]
    ground.proxy.cut()
    ground.hurry()
    record_orders(150, first=151)
    assert 0 == forward_all().delivered
    assert "Kafka" in ConsumerState.objects.get(pk="warehouse").error
    assert (0, 150) == (FailedDelivery.objects.count(), offset())
    ground.proxy.open()
    ground.take_time()
    retry_now("warehouse")
    assert 150 == forward_all().delivered
    assert wanted(log()) == ids(ground.read(300))


def test_an_event_that_kafka_does_not_take_stops_its_own_stream_only(ground):
    record_orders(20)
    assert 20 == forward_all().delivered
    kafka_of(ground).fail_requests(10)  # too large, it says: of one event it is that one
    record_orders(1, first=21)
    forward_all()
    [failed] = FailedDelivery.objects.all()
    assert ("order-0", 21, True) == (failed.stream, failed.position, "too large" in failed.error)
    record_orders(14, first=22)
    forward_all()
    others = [entry for entry in log() if entry.position <= 20 or entry.stream != "order-0"]
    assert wanted(others) == ids(ground.read(len(others)))
