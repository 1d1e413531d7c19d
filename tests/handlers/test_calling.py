from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

import pytest

from django_eventstore import EventContext, EventEntry, event, event_context, get_event_context, handles
from django_eventstore.events import registry
from django_eventstore.exceptions import EventDecodingError, UnknownEventType
from django_eventstore.handlers import call_handler, handler_registry
from tests.shop.events import OrderPlaced


class Failed(Exception):
    pass


def entry_of(payload='{"order_id":1,"total":"9.50"}', type="shop.OrderPlaced", version=1):
    return EventEntry(event_id=uuid4(), type=type, version=version, payload=payload, metadata="{}")


def call(entry):
    (handler,) = handler_registry.durable()
    call_handler(handler, entry)


def test_a_class_is_handed_over_as_its_instance():
    got = []

    @handles(OrderPlaced)
    def follow(event):
        got.append(event)

    call(entry_of())
    assert [OrderPlaced(order_id=1, total=Decimal("9.50"))] == got


def test_a_name_is_handed_over_as_a_dict():
    got = []

    @handles("shop.*")
    def follow(event):
        got.append(event)

    call(entry_of())
    assert [{"order_id": 1, "total": "9.50"}] == got


def test_a_class_counts_before_a_prefix_that_wants_it_too():
    got = []

    @handles("shop.*", OrderPlaced)
    def follow(event):
        got.append(event)

    call(entry_of())
    call(entry_of(type="shop.Other"))
    assert [OrderPlaced(order_id=1, total=Decimal("9.50")), {"order_id": 1, "total": "9.50"}] == got


def test_the_entry_is_handed_over_when_it_is_asked_for():
    got = []

    @handles("shop.*")
    def follow(event, entry):
        got.append(entry)

    entry = entry_of()
    call(entry)
    assert got == [entry]
    assert got[0] is entry


def test_a_coroutine_runs_to_its_end():
    got = []

    @handles("shop.*")
    async def follow(event, entry):
        got.append((event["order_id"], entry.type))

    call(entry_of())
    assert [(1, "shop.OrderPlaced")] == got


@pytest.mark.parametrize("is_async", [False, True])
def test_what_the_function_raises_goes_through(is_async):
    if is_async:

        @handles("shop.*")
        async def follow(event):
            raise Failed

    else:

        @handles("shop.*")
        def follow(event):
            raise Failed

    with pytest.raises(Failed):
        call(entry_of())


def test_a_payload_that_does_not_fit_its_class_is_an_error_and_the_function_is_not_called():
    @handles(OrderPlaced)
    def follow(event):
        raise AssertionError("called")

    with pytest.raises(EventDecodingError, match=r"shop\.OrderPlaced version 1"):
        call(entry_of('{"order_id":"no number","total":"1"}'))


def test_a_payload_that_is_no_json_object_is_an_error_for_a_name_as_well():
    @handles("shop.*")
    def follow(event):
        raise AssertionError("called")

    with pytest.raises(EventDecodingError):
        call(entry_of("[1]"))


def test_a_class_that_is_not_declared_any_more_is_an_error(monkeypatch):
    monkeypatch.setattr(registry, "_by_type", dict(registry._by_type))
    monkeypatch.setattr(registry, "_by_class", dict(registry._by_class))

    @event("test.Gone")
    @dataclass(frozen=True)
    class Gone:
        n: int

    @handles(Gone)
    def follow(event):
        raise AssertionError("called")

    del registry._by_type["test.Gone"]
    with pytest.raises(UnknownEventType, match=r"test\.Gone"):
        call(entry_of('{"n":1}', type="test.Gone"))


# --- the context of a handler ---


def test_its_context_is_the_event_and_nothing_of_whoever_runs_it():
    seen = []

    @handles("shop.*")
    def follow(event):
        seen.append(get_event_context())

    entry = entry_of()
    with event_context(actor="ada", correlation_id="elsewhere", metadata={"k": 1}):
        call(entry)
        assert "elsewhere" == get_event_context().correlation_id
    entry.correlation_id = "c-1"
    call(entry)
    id_ = str(entry.event_id)
    assert [
        EventContext(correlation_id=id_, causation_id=id_),
        EventContext(correlation_id="c-1", causation_id=id_),
    ] == seen


def test_an_error_ends_its_context_as_well():
    @handles("shop.*")
    def follow(event):
        raise Failed

    with pytest.raises(Failed):
        call(entry_of())
    assert EventContext() == get_event_context()


@pytest.mark.parametrize("metadata", ['["traceparent"]', '{"traceparent": "\\ud800"}', '"traceparent"', ""])
def test_metadata_that_cannot_be_read_costs_the_trace_and_not_the_event(metadata):
    seen = []

    @handles("shop.*")
    def follow(event):
        seen.append(get_event_context().traceparent)

    entry = entry_of()
    entry.metadata = metadata
    call(entry)
    assert [None] == seen
