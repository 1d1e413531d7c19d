"""The hook that record() leaves for the commit: it tells of the commit, once, and stops nobody."""

from __future__ import annotations

from functools import partial

import pytest
from django.db import connection, transaction
from django.test import TestCase

from django_eventstore import EventStore, record
from django_eventstore.signals import events_committed
from tests.delivery import COUNTED, numbers_of, record_numbers, rolled_back


class Failed(Exception):
    pass


@pytest.fixture
def told():
    """The aliases that events_committed named, in order."""
    aliases = []

    def receiver(*, using, **kwargs):
        aliases.append(using)

    events_committed.connect(receiver)
    yield aliases
    events_committed.disconnect(receiver)


pytestmark = pytest.mark.django_db(transaction=True)


def test_a_commit_is_told_after_it(told):
    with transaction.atomic():
        record(COUNTED, {"n": 1})
        assert [] == told
    assert ["default"] == told


def test_a_commit_of_many_events_is_told_once(told):
    with transaction.atomic():
        for number in range(5):
            record(COUNTED, {"n": number})
    assert ["default"] == told


def test_a_transaction_has_one_hook_however_many_events_it_records():
    with transaction.atomic():
        record(COUNTED, {"n": 0})
    with transaction.atomic():
        for number in range(5):
            record(COUNTED, {"n": number})
        assert 1 == len(connection.run_on_commit)


def test_each_commit_is_told(told):
    for number in range(3):
        with transaction.atomic():
            record(COUNTED, {"n": number})
    assert ["default"] * 3 == told


def test_a_commit_with_other_hooks_between_its_events_is_told_once(told):
    with transaction.atomic():
        for number in range(5):
            record(COUNTED, {"n": number})
            transaction.on_commit(lambda: None)
    assert ["default"] == told


def test_a_commit_with_many_savepoints_is_told_once(told):
    record_numbers(0)
    told.clear()
    with transaction.atomic():
        for number in range(200):
            with transaction.atomic():
                record(COUNTED, {"n": number})
        assert 1 == len(connection.run_on_commit)
    assert ["default"] == told


def test_a_rolled_back_transaction_is_not_told_and_the_next_one_is(told):
    with rolled_back():
        record(COUNTED, {"n": 1})
    assert [] == told
    with transaction.atomic():
        record(COUNTED, {"n": 2})
    assert ["default"] == told


def test_a_commit_whose_only_event_was_in_a_rolled_back_savepoint_is_not_told(told):
    with transaction.atomic(), rolled_back():
        record(COUNTED, {"n": 1})
    assert [] == told


def test_after_a_rolled_back_savepoint_the_next_event_registers_again(told):
    with transaction.atomic():
        with rolled_back():
            record(COUNTED, {"n": 1})
        record(COUNTED, {"n": 2})
    assert ["default"] == told


def test_a_hook_of_the_outer_block_survives_the_rollback_of_an_inner_one(told):
    with transaction.atomic():
        record(COUNTED, {"n": 1})
        with rolled_back():
            record(COUNTED, {"n": 2})
    assert ["default"] == told


def test_a_hook_of_a_released_savepoint_does_not_stand_for_one_that_is_rolled_back_with_it(told):
    with transaction.atomic():
        with rolled_back(), transaction.atomic():
            record(COUNTED, {"n": 1})
        with transaction.atomic():
            record(COUNTED, {"n": 2})
    assert ["default"] == told


def test_the_last_of_many_savepoints_rolled_back_leaves_the_wake_up_of_the_others(told):
    with transaction.atomic():
        with transaction.atomic():
            record(COUNTED, {"n": 1})
        with rolled_back():
            record(COUNTED, {"n": 2})
    assert ["default"] == told


def fail():
    raise Failed("another hook")


def test_a_robust_hook_that_raises_before_it_does_not_stop_it(told, caplog):
    with transaction.atomic():
        transaction.on_commit(fail, robust=True)
        record(COUNTED, {"n": 1})
    assert ["default"] == told
    assert "another hook" in caplog.text


def test_it_was_told_before_a_later_hook_raises_to_the_caller(told):
    with pytest.raises(Failed), transaction.atomic():  # noqa: PT012 - the commit raises
        record(COUNTED, {"n": 1})
        transaction.on_commit(fail)
    assert ["default"] == told


def test_a_hook_that_was_registered_before_it_and_raises_to_the_caller_does_not_stop_it(told):
    with pytest.raises(Failed), transaction.atomic():  # noqa: PT012 - the commit raises
        transaction.on_commit(fail)
        record(COUNTED, {"n": 1})
    assert ["default"] == told
    assert [1] == numbers_of(EventStore().get().entries)
    with transaction.atomic():
        record(COUNTED, {"n": 2})
    assert ["default", "default"] == told


def test_a_foreign_hook_without_a_name_that_raises_does_not_stop_it(told):
    with pytest.raises(AttributeError), transaction.atomic():  # noqa: PT012 - the commit raises, in Django itself
        transaction.on_commit(partial(fail), robust=True)
        record(COUNTED, {"n": 1})
    assert ["default"] == told


def test_among_foreign_hooks_and_savepoints_there_is_one_wake_up(told):
    record_numbers(0)
    told.clear()
    with transaction.atomic():
        for number in range(20):
            transaction.on_commit(lambda: None)
            with transaction.atomic():
                record(COUNTED, {"n": number})
            with rolled_back():
                record(COUNTED, {"n": number})
        assert 21 == len(connection.run_on_commit)
    assert ["default"] == told


def test_hooks_of_others_keep_their_order():
    order = []
    with transaction.atomic():
        transaction.on_commit(lambda: order.append(1))
        record(COUNTED, {"n": 1})
        transaction.on_commit(lambda: order.append(2))
        record(COUNTED, {"n": 2})
        transaction.on_commit(lambda: order.append(3))
    assert [1, 2, 3] == order


def test_a_receiver_that_raises_stops_neither_the_others_nor_the_caller(caplog):
    def bad(**kwargs):
        raise Failed("bad receiver")

    got = []

    def good(**kwargs):
        got.append(1)

    events_committed.connect(bad)
    events_committed.connect(good)
    try:
        with transaction.atomic():
            record(COUNTED, {"n": 1})
    finally:
        events_committed.disconnect(bad)
        events_committed.disconnect(good)
    assert [1] == got
    assert "bad receiver" in caplog.text


def test_a_hook_of_the_same_commit_that_records_is_told_of_too(told):
    with transaction.atomic():
        record(COUNTED, {"n": 1})

        def more():
            with transaction.atomic():
                record(COUNTED, {"n": 2})

        transaction.on_commit(more)
    assert ["default", "default"] == told


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_database_has_its_own_wake_up(told):
    with transaction.atomic(), transaction.atomic(using="other"):
        record(COUNTED, {"n": 1})
        record(COUNTED, {"n": 2}, using="other")
    assert ["default", "other"] == sorted(told)
    with transaction.atomic(using="other"):
        record(COUNTED, {"n": 3}, using="other")
        assert 2 == len(told)
    assert "other" == told[2]


@pytest.mark.usefixtures("told_to_class")
class InATestCase(TestCase):
    told: list[str]

    def setUp(self):
        record(COUNTED, {"n": 0})

    def test_each_capture_of_callbacks_gets_the_wake_up_of_its_own_events(self):
        for number in range(1, 4):
            with self.captureOnCommitCallbacks(execute=True):
                record(COUNTED, {"n": number})
            assert ["default"] * number == self.told

    def test_a_capture_of_several_events_wakes_once(self):
        with self.captureOnCommitCallbacks(execute=True):
            record(COUNTED, {"n": 1})
            record(COUNTED, {"n": 2})
        assert ["default"] == self.told


@pytest.fixture
def told_to_class(told, request):
    request.cls.told = told
