from __future__ import annotations

import dataclasses

import pytest
from django.test import override_settings

from django_eventstore import handles
from django_eventstore.consumers import Consumer, declared_consumer, declared_consumers
from django_eventstore.exceptions import UnknownConsumer
from django_eventstore.handlers import handler_registry
from tests.shop.events import OrderCancelled

WAREHOUSE = {"SENDER": "warehouse.Sender", "OPTIONS": {"exchange": "e"}, "EVENTS": ["shop.*"], "START": 7, "LIMIT": 9}


@override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": WAREHOUSE}})
def test_a_consumer_of_the_settings_is_as_they_say():
    expected = Consumer(
        name="warehouse", events=("shop.*",), sender="warehouse.Sender", options={"exchange": "e"}, start=7, limit=9
    )
    assert {"warehouse": expected} == declared_consumers()


def test_each_durable_handler_is_a_consumer_named_after_it():
    @handles(OrderCancelled, "billing.*")
    def refund(event): ...

    (consumer,) = declared_consumers().values()
    name = f"{__name__}.test_each_durable_handler_is_a_consumer_named_after_it.<locals>.refund"
    assert (name, ("shop.OrderCancelled", "billing.*"), "now") == (consumer.name, consumer.events, consumer.start)
    assert {"handlers": handler_registry.durable(), "transaction": "event"} == consumer.options


def test_a_sync_handler_is_no_consumer():
    @handles(OrderCancelled, mode="sync")
    def check(event): ...

    assert {} == declared_consumers()


def test_handlers_that_share_a_consumer_are_one_with_the_patterns_of_all_in_order():
    @handles("a.A", "a.B", name="one", consumer="shared")
    def one(event): ...

    @handles("a.B", "a.C", name="two", consumer="shared")
    def two(event): ...

    (consumer,) = declared_consumers().values()
    assert ("shared", ("a.A", "a.B", "a.C")) == (consumer.name, consumer.events)
    assert ["one", "two"] == [handler.name for handler in consumer.options["handlers"]]


@pytest.mark.parametrize("differing", [{"transaction": "batch"}, {"start": "beginning"}])
def test_handlers_that_share_a_consumer_must_agree(differing):
    @handles("a.A", name="one", consumer="shared")
    def one(event): ...

    @handles("a.A", name="two", consumer="shared", **differing)
    def two(event): ...

    with pytest.raises(ValueError, match="'one' and 'two' share the consumer 'shared'"):
        declared_consumers()


@override_settings(EVENTSTORE={"CONSUMERS": {"warehouse": WAREHOUSE}})
def test_a_handler_must_not_name_a_consumer_of_the_settings():
    @handles("a.A", name="one", consumer="warehouse")
    def one(event): ...

    with pytest.raises(ValueError, match="'warehouse'"):
        declared_consumers()


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    @handles("a.A", name="one")
    def one(event): ...

    with pytest.raises(UnknownConsumer, match="one") as raised:
        declared_consumer("two")
    assert ("two", ("one",)) == (raised.value.consumer, raised.value.known)


def test_a_consumer_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Consumer(name="a", events=(), sender="s").name = "b"
