"""assert_recorded() and assert_not_recorded(): what matches, and what they say when nothing does."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from unittest.mock import ANY

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction

from django_eventstore import event, record
from django_eventstore.models import EventEntry
from django_eventstore.testing import (
    EntryList,
    aassert_not_recorded,
    aassert_recorded,
    assert_not_recorded,
    assert_recorded,
    captured_events,
)
from tests.delivery import COUNTED, record_numbers, rolled_back
from tests.shop.events import OrderCancelled, OrderPlaced
from tests.shop.models import Order

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 27, 12, tzinfo=timezone.utc)
ID = uuid.UUID("01890000-0000-7000-8000-000000000001")


@event("test.Typed")
@dataclass(frozen=True)
class Typed:
    at: datetime
    id: uuid.UUID
    amount: Decimal
    times: int = 0
    stream: str = ""
    type: str = ""
    fields: tuple[str, ...] = ()


@pytest.fixture
def order() -> Order:
    return Order.place(Decimal("9.90"))


def failure(*arguments, **expected) -> str:
    with pytest.raises(AssertionError) as raised:
        assert_recorded(*arguments, **expected)
    return str(raised.value)


@pytest.mark.parametrize("chosen", [OrderPlaced, "shop.OrderPlaced", "shop.*", "*"])
def test_an_event_is_named_by_class_name_or_prefix(order, chosen):
    assert ["shop.OrderPlaced"] == assert_recorded(chosen).types


def test_an_event_says_all_of_its_fields(order):
    assert_recorded(OrderPlaced(order_id=order.pk, total=Decimal("9.9")))
    assert_not_recorded(OrderPlaced(order_id=order.pk, total=Decimal("9.91")))


def test_what_matches_is_returned():
    record_numbers(1, 2, 2)
    assert [{"n": 2}, {"n": 2}] == [entry.data for entry in assert_recorded(COUNTED, n=2)]


def test_what_is_not_committed_counts_and_what_was_rolled_back_does_not():
    with transaction.atomic():
        record(COUNTED, {"n": 1})
        assert_recorded(COUNTED, n=1)
    with rolled_back():
        record(COUNTED, {"n": 2})
        assert_recorded(COUNTED, n=2)
    assert_not_recorded(COUNTED, n=2)


def test_the_stream_is_an_instance_or_a_text(order):
    order.cancel("late")
    assert_recorded(OrderCancelled, stream=order)
    assert_recorded(OrderCancelled, stream=f"order-{order.pk}")
    assert_not_recorded(OrderCancelled, stream="order-0")


def test_the_empty_stream_is_no_stream(order):
    record_numbers(1)
    assert [COUNTED] == assert_recorded("*", stream="").types


def test_an_instance_without_a_key_is_an_error():
    with pytest.raises(ValueError, match="no primary key"):
        assert_recorded(OrderCancelled, stream=Order())


@pytest.mark.parametrize("times, holds", [(None, True), (0, False), (1, False), (2, True), (3, False)])
def test_times_is_exact_and_by_default_at_least_once(times, holds):
    record_numbers(1, 1)
    if holds:
        assert 2 == len(assert_recorded(COUNTED, times=times))
    else:
        assert "found 2." in failure(COUNTED, times=times)


@pytest.mark.parametrize("times", [-1, True])
def test_times_must_be_a_number(times):
    with pytest.raises(ValueError, match="times must be"):
        assert_recorded(COUNTED, times=times)


def test_fields_are_compared_as_a_handler_of_the_class_gets_them():
    record(Typed(at=NOON, id=ID, amount=Decimal("1.50")))
    later_zone = NOON.astimezone(timezone(timedelta(hours=2)))
    assert_recorded(Typed, at=NOON, id=ID, amount=Decimal("1.5"))
    assert_recorded("test.Typed", at=later_zone)
    assert_recorded("test.*", amount=Decimal("1.5"))
    assert_not_recorded(Typed, amount="1.50")
    assert_not_recorded(Typed, id=str(ID))


def test_fields_without_a_class_are_plain_values():
    record("test.Plain", {"n": 1, "lines": [{"price": "9.90"}], "none": None})
    assert_recorded("test.Plain", n=1, lines=[{"price": "9.90"}], none=None)
    assert_not_recorded("test.Plain", other=None)


def test_a_field_whose_name_is_taken_is_given_in_fields():
    record(Typed(at=NOON, id=ID, amount=Decimal(1), times=3, stream="s", fields=("a",), type="t"), stream="x")
    assert_recorded(Typed, times=1, stream="x", fields={"times": 3, "stream": "s", "fields": ("a",)}, id=ID)
    assert_recorded(Typed, type="t", id=ID)
    assert_not_recorded(Typed, fields={"times": 4})


def test_an_object_that_is_equal_to_anything_stands_for_anything():
    record_numbers(1)
    assert_recorded(COUNTED, n=ANY)
    assert_recorded(COUNTED, n=pytest.approx(1.0000001))


def test_what_does_not_fit_its_class_is_compared_as_plain_values():
    EventEntry(type="test.Typed", payload='{"at": "yesterday"}').save()
    assert_recorded(Typed, at="yesterday")


@event("test.Renamed", aliases=["test.Former"])
@dataclass(frozen=True)
class Renamed:
    n: int


def test_an_event_that_was_renamed_is_found_by_each_of_its_names():
    EventEntry(type="test.Former", payload='{"n": 1}').save()
    for name in (Renamed, Renamed(n=1), "test.Renamed", "test.Former"):
        assert ["test.Former"] == assert_recorded(name, within=captured_all()).types
    assert ["test.Former"] == captured_all().of(Renamed).types


def captured_all():
    return EntryList(EventEntry.objects.all())


def test_metadata_may_hold_more():
    record(COUNTED, {"n": 1}, metadata={"actor": "ann", "ip": "::1"})
    assert_recorded(COUNTED, metadata={"actor": "ann"})
    assert_not_recorded(COUNTED, metadata={"actor": "bob"})
    assert_not_recorded(COUNTED, metadata={"nobody": None})


def test_within_says_where_to_look():
    record_numbers(1)
    with captured_events() as events:
        record_numbers(2)
    assert_recorded(COUNTED, n=1)
    assert_not_recorded(COUNTED, n=1, within=events)
    assert_recorded(COUNTED, n=2, within=events)
    with pytest.raises(TypeError, match="leave out using"):
        assert_recorded(COUNTED, within=events, using="default")


@pytest.mark.django_db(databases=["default", "other"])
def test_using_names_another_log():
    record_numbers(1, using="other")
    assert_recorded(COUNTED, using="other")
    assert_not_recorded(COUNTED)


@pytest.mark.parametrize("check", [assert_recorded, assert_not_recorded])
def test_an_assertion_that_can_never_hold_or_never_fail_is_an_error(check):
    with pytest.raises(TypeError, match=r"has no field resaon\. It has: order_id, reason"):
        check(OrderCancelled, resaon="late")
    with pytest.raises(TypeError, match="has no field resaon"):
        check("shop.OrderCancelled", resaon="late")
    with pytest.raises(TypeError, match="not an event class"):
        check(Order)
    with pytest.raises(ValueError, match="selects no events"):
        check("OrderCancelled")
    with pytest.raises(TypeError, match="says all of its fields"):
        check(OrderCancelled(order_id=1, reason="late"), reason="late")


def test_a_failure_lists_what_was_recorded_the_nearest_first():
    for number in (1, 2):
        record(OrderPlaced(order_id=number, total=Decimal(number)), stream=f"order-{number}")
    record(OrderCancelled(order_id=2, reason="late"), stream="order-2")
    record(OrderCancelled(order_id=1, reason="late"), stream="order-1", metadata={"actor": "ann"})
    message = failure(OrderCancelled, stream="order-1", metadata={"actor": "bob"}, order_id=1, reason="dear")
    assert (
        "Expected shop.OrderCancelled(stream='order-1', order_id=1, reason='dear', metadata actor='bob') at least once, "
        "found 0.\n"
        "Recorded, the nearest first:\n"
        "  shop.OrderCancelled of order-1: metadata actor: expected 'bob', not 'ann'; reason: expected 'dear', not 'late'\n"
        "  shop.OrderCancelled of order-2: stream: expected 'order-1', not 'order-2'; metadata actor: expected 'bob', not "
        "there; order_id: expected 1, not 2; reason: expected 'dear', not 'late'\n"
        "  shop.OrderPlaced of order-1: the type is not shop.OrderCancelled; metadata actor: expected 'bob', not there; "
        "reason: expected 'dear', not there\n"
        "  shop.OrderPlaced of order-2: the type is not shop.OrderCancelled; stream: expected 'order-1', not 'order-2'; "
        "metadata actor: expected 'bob', not there; order_id: expected 1, not 2; reason: expected 'dear', not there"
    ) == message


def test_a_failure_says_when_nothing_was_recorded():
    assert f"Expected {COUNTED} at least once, found 0. Nothing was recorded." == failure(COUNTED)


def test_a_failure_shows_ten_of_many():
    record_numbers(*range(12))
    lines = failure(COUNTED, n=12).splitlines()
    assert "  … and 2 more" == lines[-1]
    assert 13 == len(lines)


def test_a_failure_for_too_many_says_which():
    record_numbers(1)
    with pytest.raises(AssertionError) as raised:
        assert_not_recorded(COUNTED, n=1)
    assert (f"Expected {COUNTED}(n=1) never, found 1.\nRecorded, the nearest first:\n  {COUNTED}: as described") == str(
        raised.value
    )


def test_in_async_code_they_are_awaited():
    record_numbers(1)

    async def check():
        entries = await aassert_recorded(COUNTED, n=1)
        await aassert_not_recorded(COUNTED, n=2)
        return entries

    assert [COUNTED] == async_to_sync(check)().types
