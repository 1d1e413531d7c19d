"""RecordingSender: what it keeps, and what it answers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from django_eventstore import Outcome, record
from django_eventstore.testing import RecordingSender
from tests.delivery import COUNTED, failure_of, failures, forwarder_of, numbers_of, record_numbers, retry_now, state_of
from tests.shop.events import OrderCancelled
from tests.shop.models import Order

pytestmark = pytest.mark.django_db


class Refused(Exception):
    pass


def batches_of(sender):
    return [numbers_of(batch.entries) for batch in sender.batches]


def test_it_accepts_and_keeps_batches_and_entries():
    sender = RecordingSender()
    record_numbers(1, 2, 3)
    forwarder_of(sender, limit=2).get_and_send()
    assert [[1, 2], [3]] == batches_of(sender)
    assert [1, 2, 3] == numbers_of(sender.entries)
    assert "<RecordingSender: 3 entries in 2 batches>" == repr(sender)


def test_its_entries_are_chosen_by_type():
    sender = RecordingSender()
    Order.place(Decimal(1)).cancel("late")
    forwarder_of(sender, events=("*",)).get_and_send()
    assert ["shop.OrderCancelled"] == sender.of(OrderCancelled).types
    assert ["shop.OrderPlaced", "shop.OrderCancelled"] == sender.of("shop.*").types


def test_it_forgets_on_request():
    sender = RecordingSender()
    record_numbers(1)
    forwarder_of(sender).get_and_send()
    sender.close()
    assert 1 == sender.closed
    sender.clear()
    assert ([], [], 0) == (sender.batches, sender.entries, sender.closed)


def test_an_exception_in_the_script_is_raised_and_the_batch_comes_again():
    sender = RecordingSender([Refused("down")])
    record_numbers(1)
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()
    assert [] == sender.entries
    assert ([], 1) == (failures(), state_of().attempts)
    retry_now()
    forwarder.get_and_send()
    assert [[1], [1]] == batches_of(sender)
    assert [1] == numbers_of(sender.entries)


def test_a_number_in_the_script_accepts_so_many_and_the_rest_comes_again():
    sender = RecordingSender([2, None, 5])
    record_numbers(1, 2, 3)
    forwarder_of(sender).get_and_send()
    assert [[1, 2, 3], [3]] == batches_of(sender)
    assert [1, 2, 3] == numbers_of(sender.entries)
    record_numbers(4)
    forwarder_of(sender).get_and_send()
    assert [1, 2, 3, 4] == numbers_of(sender.entries)


def test_an_outcome_and_a_function_in_the_script_are_the_answer():
    def refuse_the_first(batch):
        return Outcome(done=1, refused={batch.entries[0].position: Refused("not this one")})

    sender = RecordingSender([Outcome(done=1), refuse_the_first])
    record_numbers(1, 2)
    forwarder_of(sender).get_and_send()
    assert [1] == numbers_of(sender.entries)
    assert "not this one" in failure_of(2).error


def test_events_of_a_type_are_refused():
    sender = RecordingSender(refuse={COUNTED: Refused("bad")})
    record("test.Other", {"n": 1})
    [entry] = record(COUNTED, {"n": 2})
    forwarder_of(sender, events=("test.*",)).get_and_send()
    assert [1] == numbers_of(sender.entries)
    assert "bad" in failure_of(2).error
    assert entry.type == sender.batches[0].entries[1].type


def test_what_the_script_refuses_stays_refused_with_its_error():
    def refuse_all(batch):
        return Outcome(done=len(batch.entries), refused={batch.entries[0].position: Refused("by the script")})

    sender = RecordingSender([refuse_all], refuse={"*": Refused("by type")})
    record_numbers(1)
    forwarder_of(sender).get_and_send()
    assert "by the script" in failure_of(1).error


def test_a_pattern_that_selects_nothing_is_an_error():
    with pytest.raises(ValueError, match="selects no events"):
        RecordingSender(refuse={"OrderCancelled": Refused()})
