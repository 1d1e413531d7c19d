"""From record() to a queue of RabbitMQ: what was received is compared with the log."""

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
from tests.services.broker import SHORT, Broker, ids, wanted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.needs("rabbitmq")]


@pytest.fixture
def broker() -> Iterator[Broker]:
    broker = Broker()
    options = {"exchange": broker.name, "url": broker.url, "timeout": SHORT, "connect_timeout": SHORT}
    warehouse = {
        "SENDER": "django_eventstore.senders.rabbitmq.RabbitMQSender",
        "OPTIONS": options,
        "EVENTS": ["orders.*"],
        "START": "beginning",
    }
    with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": warehouse}}):
        yield broker
    for each in forwarder._forwarders.values():
        each.sender.close()
    broker.close()


def record_orders(count: int, *, first: int = 1, type: str = "orders.OrderPlaced") -> None:
    with transaction.atomic():
        for number in range(first, first + count):
            record(type, {"n": number}, stream=f"order-{number % 7}")


def log():
    return EventStore().get(limit=10_000).entries


def offset() -> int:
    progress = OffsetStore().load("warehouse")
    return progress.offset if progress else 0


def test_every_event_of_the_log_is_received_once_and_in_order(broker):
    broker.queue("orders.#")
    record_orders(350)
    record_orders(1, type="elsewhere.Happened")
    assert 350 == forward_all().delivered
    assert wanted(log()[:350]) == ids(broker.read(350))
    assert 351 == offset()


def test_a_broker_that_is_gone_makes_the_consumer_wait_and_loses_nothing(broker):
    broker.queue("orders.#")
    record_orders(150)
    forward_all()
    broker.proxy.cut()
    record_orders(150, first=151)
    assert 0 == forward_all().delivered
    state = ConsumerState.objects.get(pk="warehouse")
    assert "RabbitMQ" in state.error
    assert 0 == FailedDelivery.objects.count()
    assert 150 == offset()
    broker.proxy.open()
    retry_now("warehouse")
    assert 150 == forward_all().delivered
    assert wanted(log()) == ids(broker.read(300))


def test_an_event_without_a_queue_stops_its_own_stream_only_and_arrives_when_there_is_one(broker):
    queue = broker.queue("orders.OrderPlaced")
    record_orders(20)
    record_orders(1, type="orders.OrderLost")
    record_orders(20, first=21)
    forward_all()
    [failed] = FailedDelivery.objects.all()
    assert ("order-1", 21) == (failed.stream, failed.position)
    assert "no queue is bound" in failed.error
    others = [entry for entry in log() if entry.stream != "order-1"]
    assert set(wanted(others)) <= set(ids(broker.read(len(others))))
    broker.channel.queue_bind(queue, broker.name, "orders.OrderLost")
    retry_now("warehouse")
    forward_all()
    assert 0 == FailedDelivery.objects.count()
    received = ids(broker.read(41))
    assert set(wanted(log())) == set(received)
    # The last to arrive of the stream is the newest.
    of_stream = wanted(entry for entry in log() if entry.stream == "order-1")
    assert of_stream[-1] == [name for name in received if name in of_stream][-1]
