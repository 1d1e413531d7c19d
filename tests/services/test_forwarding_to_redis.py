"""From record() to a stream of Redis: what was received is compared with the log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_eventstore.consumers import declared_consumers, move
from django_eventstore.forwarding import forward_all, forwarder
from django_eventstore.models import ConsumerState, FailedDelivery
from tests.delivery import retry_now
from tests.services.recording import log, offset, record_orders
from tests.services.redis_streams import SHORT, RedisStreams, ids, wanted

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.needs("redis")]


@pytest.fixture
def streams() -> Iterator[RedisStreams]:
    streams = RedisStreams()
    options = {"key": streams.key, "url": streams.url, "timeout": SHORT, "connect_timeout": SHORT}
    warehouse = {
        "SENDER": "django_eventstore.senders.redis.RedisStreamSender",
        "OPTIONS": options,
        "EVENTS": ["orders.*"],
        "START": "beginning",
    }
    with override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": warehouse}}):
        yield streams
    for each in forwarder._forwarders.values():
        each.sender.close()
    streams.close()


def test_every_event_of_the_log_is_received_once_and_in_order(streams):
    record_orders(350)
    record_orders(1, type="elsewhere.Happened")
    assert 350 == forward_all().delivered
    received = streams.read(350)
    assert wanted(log()[:350]) == ids(received)
    assert [str(number) for number in range(1, 351)] == [fields["position"] for fields in received]
    assert 351 == offset()


def test_a_server_that_is_gone_makes_the_consumer_wait_and_loses_nothing(streams):
    record_orders(150)
    forward_all()
    streams.proxy.cut()
    record_orders(150, first=151)
    assert 0 == forward_all().delivered
    assert "Redis" in ConsumerState.objects.get(pk="warehouse").error
    assert 0 == FailedDelivery.objects.count()
    assert 150 == offset()
    streams.proxy.open()
    retry_now("warehouse")
    assert 150 == forward_all().delivered
    assert wanted(log()) == ids(streams.read(300))


def test_a_replay_is_appended_behind_what_was_there(streams):
    record_orders(20)
    forward_all()
    move(declared_consumers()["warehouse"], 5, using="default")
    assert 15 == forward_all().delivered
    assert wanted([*log(), *log()[5:]]) == ids(streams.read(35))
