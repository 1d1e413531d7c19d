"""captured_events() and the lists of entries."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.db import transaction
from django.test import TestCase

from django_eventstore import EventStore, record
from django_eventstore.testing import CapturedEvents, EntryList, captured_events
from tests.delivery import COUNTED, numbers_of, record_numbers, rolled_back
from tests.shop.events import OrderCancelled
from tests.shop.models import Order

pytestmark = pytest.mark.django_db


def test_what_is_recorded_inside_the_block_is_captured_in_order():
    record_numbers(1)
    with captured_events() as events:
        record_numbers(2, 3)
    record_numbers(4)
    assert [2, 3] == numbers_of(events)
    assert 2 == len(events)
    assert {"n": 3} == events[-1].data
    assert [3] == numbers_of(events[1:])


def test_inside_the_block_it_grows():
    with captured_events() as events:
        assert [] == list(events)
        record_numbers(1)
        assert [1] == numbers_of(events)
        record_numbers(2)
        assert [1, 2] == numbers_of(events)


def test_what_is_not_committed_yet_is_captured():
    with transaction.atomic(), captured_events() as events:
        record(COUNTED, {"n": 1})
        assert [1] == numbers_of(events)
        assert [None] == [entry.position for entry in events]


def test_what_is_rolled_back_inside_the_block_is_not():
    with captured_events() as events:
        with rolled_back():
            record(COUNTED, {"n": 1})
            assert [1] == numbers_of(events)
        record_numbers(2)
    assert [2] == numbers_of(events)


def test_a_rollback_after_the_block_changes_nothing_of_what_it_has_seen():
    with rolled_back(), captured_events() as events:
        record(COUNTED, {"n": 1})
    record_numbers(2)
    assert [1] == numbers_of(events)


def test_what_reaches_the_log_by_another_way_than_record_is_captured():
    with captured_events() as events:
        EventStore().save(COUNTED, {"n": 1})
    assert [1] == numbers_of(events)


def test_blocks_may_be_nested():
    with captured_events() as outer:
        record_numbers(1)
        with captured_events() as inner:
            record_numbers(2)
    assert [1, 2] == numbers_of(outer)
    assert [2] == numbers_of(inner)


def test_an_error_in_the_block_is_what_comes_out_of_it():
    def fail():
        with transaction.atomic(), captured_events():
            transaction.set_rollback(True)  # no query is possible any more
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


@pytest.fixture
def cancelled():
    with captured_events() as events:
        Order.place(Decimal("9.90")).cancel("late")
        record_numbers(1)
    return events


@pytest.mark.parametrize(
    "chosen, types",
    [
        (OrderCancelled, ["shop.OrderCancelled"]),
        ("shop.OrderCancelled", ["shop.OrderCancelled"]),
        ("shop.*", ["shop.OrderPlaced", "shop.OrderCancelled"]),
        ("*", ["shop.OrderPlaced", "shop.OrderCancelled", COUNTED]),
        ("shop.OrderSent", []),
    ],
)
def test_entries_are_chosen_by_class_name_or_prefix(cancelled, chosen, types):
    assert types == cancelled.of(chosen).types
    assert types == cancelled.entries.of(chosen).types
    assert isinstance(cancelled.of(chosen), EntryList)


def test_what_selects_no_type_is_an_error(cancelled):
    with pytest.raises(ValueError, match="selects no events"):
        cancelled.of("OrderCancelled")
    with pytest.raises(TypeError, match="not an event class"):
        cancelled.of(Order)


def test_it_shows_the_types(cancelled):
    assert f"<captured events: shop.OrderPlaced, shop.OrderCancelled, {COUNTED}>" == repr(cancelled)
    assert "<captured events: none>" == repr(CapturedEvents.since_now())


def test_entering_costs_one_query_and_leaving_one(django_assert_num_queries):
    with django_assert_num_queries(2), captured_events() as events:
        pass
    with django_assert_num_queries(0):
        assert 0 == len(events)


@pytest.mark.django_db(databases=["default", "other"])
def test_each_log_is_captured_apart():
    with captured_events() as default, captured_events(using="other") as other:
        record_numbers(1)
        record_numbers(2, using="other")
    assert ([1], [2]) == (numbers_of(default), numbers_of(other))


class FromSetUpTestData(TestCase):
    @classmethod
    def setUpTestData(cls):
        record_numbers(1)

    def test_what_is_in_the_log_before_is_not_captured(self):
        with captured_events() as events:
            record_numbers(2)
        assert [2] == numbers_of(events)


@pytest.mark.django_db(transaction=True)
def test_what_other_threads_commit_is_captured(elsewhere):
    with captured_events() as events:
        elsewhere(record_numbers, 1).result()
        record_numbers(2)
    assert [1, 2] == numbers_of(events)
