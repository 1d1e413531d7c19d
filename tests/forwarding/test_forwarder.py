from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase, override_settings
from django.test.utils import CaptureQueriesContext

from django_eventstore import EventForwarder, EventStore, Outcome, handles
from django_eventstore.consumers import Consumer, OffsetStore, acquire, pause
from django_eventstore.exceptions import EpochChanged, EventStoreError, UnknownConsumer
from django_eventstore.forwarding import Forwarded, forward_all, make_sender
from django_eventstore.forwarding import forwarder as forwarder_module
from django_eventstore.handlers import handler_registry
from django_eventstore.models import ConsumerState
from tests.consumers.test_leases import MINUTE
from tests.delivery import (
    COUNTED,
    RecordingSender,
    failures,
    forwarder_of,
    numbers_of,
    offset_of,
    record_numbers,
    refunds,
    retry_now,
    state_of,
    writes,
)
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

SENT: dict[str, list[int]] = {}


class Failed(Exception):
    pass


class NamedSender(RecordingSender):
    """A sender as the settings configure it: by its path and options. What it sent is in SENT."""

    def __init__(self, *, name: str = "sent", broken: bool = False) -> None:
        super().__init__()
        self.name = name
        self.broken = broken
        self.batches = []

    def send(self, batch):
        if self.broken:
            raise Failed("broker down")
        SENT.setdefault(self.name, []).extend(numbers_of(batch.entries))
        return Outcome(done=len(batch.entries))


class NoSender:
    pass


@pytest.fixture(autouse=True)
def _nothing_sent():
    SENT.clear()


def sending(**consumers):
    """Settings with these consumers, each from the beginning; ``a={"broken": True}`` are options of its sender."""
    path = f"{__name__}.NamedSender"
    return override_settings(
        EVENTSTORE={
            "CONSUMERS": {
                name: {"SENDER": path, "OPTIONS": {"name": name, **options}, "START": "beginning", "EVENTS": [COUNTED]}
                for name, options in consumers.items()
            }
        }
    )


# --- one consumer ---


def test_a_forwarder_sends_what_is_new_and_says_how_many():
    sender = RecordingSender()
    record_numbers(1, 2)
    assert Forwarded(delivered=2) == forwarder_of(sender).get_and_send()
    record_numbers(3)
    assert Forwarded(delivered=1) == forwarder_of(sender).get_and_send()
    assert Forwarded() == forwarder_of(sender).get_and_send()
    assert [[1, 2], [3]] == sender.batches


@pytest.mark.parametrize("limit, batches", [(None, [[0, 1, 2], [3, 4, 5], [6]]), (5, [[0, 1, 2, 3, 4], [5, 6]])])
def test_batches_are_as_large_as_the_sender_likes_unless_the_consumer_says_otherwise(limit, batches):
    sender = RecordingSender()
    sender.batch_size = 3
    record_numbers(*range(7))
    assert 7 == forwarder_of(sender, limit=limit).get_and_send().delivered
    assert batches == sender.batches


def test_a_forwarder_of_a_name_has_the_declared_sender():
    record_numbers(1)
    with sending(warehouse={}):
        assert 1 == EventForwarder("warehouse").get_and_send().delivered
    assert {"warehouse": [1]} == SENT


def test_a_forwarder_of_an_unknown_name_is_an_error():
    with pytest.raises(UnknownConsumer):
        EventForwarder("nobody")


def test_bounds_are_those_of_the_settings_unless_they_are_given():
    record_numbers(*range(6))
    sender = RecordingSender()
    forwarder = forwarder_of(sender, limit=1)
    with override_settings(EVENTSTORE={"FORWARD_EVENTS": 2}):
        assert Forwarded(delivered=2, more=True) == forwarder.get_and_send()
        assert Forwarded(delivered=3, more=True) == forwarder.get_and_send(most_events=3)
    assert Forwarded(delivered=1) == forwarder.get_and_send()


def test_time_is_a_bound():
    record_numbers(*range(3))
    sender = RecordingSender(lambda batch: time.sleep(0.02) or Outcome(done=1))
    forwarder = forwarder_of(sender, limit=1)
    assert Forwarded(delivered=1, more=True) == forwarder.get_and_send(longest=timedelta(milliseconds=10))


def test_inside_a_transaction_it_is_refused():
    forwarder = forwarder_of(RecordingSender())
    with transaction.atomic(), pytest.raises(EventStoreError, match="inside a transaction"):
        forwarder.get_and_send()
    with transaction.atomic(), pytest.raises(EventStoreError, match="inside a transaction"):
        forward_all()


def test_without_autocommit_it_is_refused():
    forwarder = forwarder_of(RecordingSender())
    transaction.set_autocommit(False)
    try:
        with pytest.raises(EventStoreError, match="AUTOCOMMIT"):
            forwarder.get_and_send()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)


@pytest.mark.parametrize(
    "sender, options, reason",
    [
        ("nowhere.Sender", {}, "cannot be imported"),
        (f"{__name__}.Nobody", {}, "cannot be imported"),
        (f"{__name__}.NoSender", {}, "not a subclass of EventSender"),
        (f"{__name__}.sending", {}, "not a subclass of EventSender"),
        (f"{__name__}.NamedSender", {"colour": 1}, "does not take these OPTIONS: .*colour"),
    ],
)
def test_a_sender_that_cannot_be_made_is_an_error_that_names_the_consumer(sender, options, reason):
    with pytest.raises(ImproperlyConfigured, match=f"(?s)Consumer 'warehouse'.*{reason}"):
        make_sender(Consumer(name="warehouse", events=("*",), sender=sender, options=options))


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_forwarder_of_another_database_reads_and_saves_there():
    record_numbers(1)
    record_numbers(2, using="other")
    sender = RecordingSender()
    assert 1 == forwarder_of(sender, using="other").get_and_send().delivered
    assert [2] == sender.numbers
    assert offset_of() is None
    assert 1 == OffsetStore("other").load("numbers").offset


# --- all consumers ---


def test_a_tick_runs_every_consumer():
    record_numbers(1, 2)
    with sending(a={}, b={}):
        assert Forwarded(delivered=4) == forward_all()
    assert {"a": [1, 2], "b": [1, 2]} == SENT


def test_a_tick_of_named_consumers_runs_only_them():
    record_numbers(1)
    with sending(a={}, b={}):
        assert Forwarded(delivered=1) == forward_all(consumers=["b"])
        with pytest.raises(UnknownConsumer):
            forward_all(consumers=["c"])
    assert {"b": [1]} == SENT


def test_a_tick_without_consumers_does_nothing():
    record_numbers(1)
    assert Forwarded() == forward_all()


def test_a_sender_that_is_unavailable_does_not_stop_the_others():
    record_numbers(1)
    with sending(a={"broken": True}, b={}):
        assert Forwarded(delivered=1) == forward_all()
    assert {"b": [1]} == SENT
    assert "broker down" in state_of("a").error


def test_a_sender_that_cannot_be_made_does_not_stop_the_others_and_says_so_on_its_row():
    record_numbers(1)
    with sending(a={"colour": 1}, b={}):
        assert Forwarded(delivered=1) == forward_all()
        ConsumerState.objects.update(retry_at=datetime(2999, 1, 1, tzinfo=timezone.utc))
        assert Forwarded(delivered=0) == forward_all()  # it waits
    assert {"b": [1]} == SENT
    state = state_of("a")
    assert 1 == state.attempts
    assert "does not take these OPTIONS" in state.error
    with sending(a={}, b={}):
        retry_now("a")
        assert Forwarded(delivered=1) == forward_all()
    assert 0 == state_of("a").attempts


def test_a_tick_says_that_there_is_more_when_its_events_are_used_up():
    record_numbers(*range(4))
    with sending(a={}, b={}):
        first = forward_all(most_events=4)
        assert first.more or {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]} == SENT
        while forward_all(most_events=4).more:
            pass
    assert {"a": [0, 1, 2, 3], "b": [0, 1, 2, 3]} == SENT


def test_consumers_take_turns_so_that_a_long_backlog_of_one_does_not_starve_the_others(monkeypatch):
    monkeypatch.setattr(forwarder_module, "TURN_EVENTS", 100)
    record_numbers(*range(300))
    with sending(a={}, b={}):
        assert Forwarded(delivered=200, more=True) == forward_all(most_events=200)
        assert {"a": 100, "b": 100} == {name: len(numbers) for name, numbers in SENT.items()}
        assert Forwarded(delivered=400) == forward_all()
    assert {"a": list(range(300)), "b": list(range(300))} == SENT


def test_a_tick_says_that_there_is_more_when_its_time_is_over():
    record_numbers(1)
    with sending(a={}):
        assert Forwarded(delivered=0, more=True) == forward_all(longest=timedelta(microseconds=1))


def test_a_paused_consumer_does_not_make_ticks_ask_for_more():
    record_numbers(1)
    with sending(a={}):
        pause("a", reason="", using="default")
        assert Forwarded() == forward_all()


def test_an_idle_tick_writes_nothing():
    record_numbers(1)
    with sending(a={}, b={}):
        forward_all()
        with CaptureQueriesContext(connection) as captured:
            assert Forwarded() == forward_all()
    assert [] == writes(captured)


def test_a_tick_over_events_that_nobody_wants_writes_nothing():
    with sending(a={}, b={}):
        forward_all()
        record_numbers(*range(20), type="test.Other")
        EventStore().get()
        with CaptureQueriesContext(connection) as captured:
            assert Forwarded() == forward_all()
        with CaptureQueriesContext(connection) as idle:
            assert Forwarded() == forward_all()
    assert [] == writes(captured)
    assert len(idle) < len(captured)  # what was passed over is not looked at again


def test_a_consumer_above_the_head_is_seen_to_have_stopped():
    with sending(a={}):
        tenure = acquire("a", using="default", length=MINUTE)
        OffsetStore().advance("a", 7, epoch=1, token=tenure.token)
        tenure.release()
        assert Forwarded() == forward_all()
    assert EpochChanged.__name__ in state_of("a").error


def test_ticks_that_overlap_deliver_each_event_once(elsewhere):
    record_numbers(*range(50))
    barrier = threading.Barrier(4)

    def tick():
        barrier.wait(10)
        return forward_all().delivered

    with sending(a={}, b={}):
        OffsetStore().register(forwarder_module.declared_consumers().values())
        delivered = sum(done.result(60) for done in [elsewhere(tick) for _ in range(4)])
        delivered += forward_all().delivered
    assert 100 == delivered
    assert {"a": list(range(50)), "b": list(range(50))} == SENT


def test_a_consumer_whose_declaration_changed_gets_a_new_sender():
    record_numbers(1)
    with sending(a={}):
        forward_all()
    with sending(a={"name": "renamed"}):
        record_numbers(2)
        forward_all()
    assert {"a": [1], "renamed": [2]} == SENT


def test_a_sender_is_made_once_per_process(monkeypatch):
    made = []

    def counting(consumer):
        made.append(consumer.name)
        return make_sender(consumer)

    monkeypatch.setattr(forwarder_module, "make_sender", counting)
    with sending(a={}):
        for number in range(3):
            record_numbers(number)
            forward_all()
    assert ["a"] == made


def test_a_child_process_makes_its_own_sender(monkeypatch):
    with sending(a={}):
        consumer = forwarder_module.declared_consumer("a")
        mine = forwarder_module._forwarder(consumer, "default")
        monkeypatch.setattr(forwarder_module.os, "getpid", lambda: -1)
        assert mine.sender is not forwarder_module._forwarder(consumer, "default").sender


# --- inside tests of users ---


def follow_numbers():
    @handles(COUNTED, name="numbers")
    def follow(event):
        Refund.objects.create(order_id=event["n"])


class InATestCase(TestCase):
    databases = ("default", "other")

    def test_record_forward_record_forward(self):
        follow_numbers()
        record_numbers(1)
        assert Forwarded(delivered=1) == forward_all()
        assert [1] == refunds()
        record_numbers(2, 3)
        assert Forwarded(delivered=2) == forward_all()
        assert [1, 2, 3] == refunds()
        assert Forwarded() == forward_all()

    test_and_the_same_again_in_another_test = test_record_forward_record_forward

    def test_a_failing_event_leaves_the_test_usable(self):
        @handles(COUNTED, name="numbers")
        def follow(event):
            Refund.objects.create(order_id=event["n"])
            if event["n"] == 2:
                raise Failed

        record_numbers(1, 2)
        assert Forwarded(delivered=1) == forward_all()
        assert [1] == refunds()
        assert [(2, "blocked", 1)] == failures()

    def test_events_that_nobody_wants_in_one_test_hide_none_in_another_(self):
        follow_numbers()
        for _ in range(2):
            sid = transaction.savepoint()
            record_numbers(*range(5), type="test.Other")
            forward_all()
            transaction.savepoint_rollback(sid)
            sid = transaction.savepoint()
            record_numbers(1)
            assert Forwarded(delivered=1) == forward_all()
            transaction.savepoint_rollback(sid)

    def test_inside_a_block_of_the_test_it_is_refused(self):
        with transaction.atomic(), pytest.raises(EventStoreError):
            forward_all()

    def test_each_database_has_a_log_of_its_own(self):
        @handles(COUNTED, name="numbers")
        def follow(event):
            Refund.objects.create(order_id=event["n"])

        record_numbers(1)
        record_numbers(2, using="other")
        assert Forwarded(delivered=1) == forward_all(using="other")
        assert [2] == refunds()
        assert Forwarded(delivered=1) == forward_all()
        assert [1, 2] == refunds()


class InATransactionTestCase(TransactionTestCase):
    def setUp(self):
        follow_numbers()
        self.addCleanup(handler_registry.unregister, "numbers")  # before the flush at the end of the test

    def check_twice_around_a_flush(self):
        for numbers in ([1, 2], [3], [4, 5, 6]):
            record_numbers(*numbers)
            assert Forwarded(delivered=len(numbers)) == forward_all()
            assert numbers == refunds()
            self._fixture_teardown()
            assert [] == refunds()
            assert 0 == EventStore().get().head

    def test_after_a_flush_consumers_start_again(self):
        self.check_twice_around_a_flush()

    def test_after_a_flush_without_post_migrate_consumers_start_again(self):
        self.serialized_rollback, given = True, type(self).serialized_rollback
        connection._test_serialized_contents = connection.creation.serialize_db_to_string()
        try:
            self.check_twice_around_a_flush()
        finally:
            self.serialized_rollback = given
            del connection._test_serialized_contents

    def test_what_was_passed_over_before_a_flush_is_read_after_it(self):
        record_numbers(*range(5), type="test.Other")
        assert Forwarded() == forward_all()
        call_command("flush", interactive=False, verbosity=0)
        record_numbers(1)
        record_numbers(*range(9), type="test.Other")
        assert Forwarded(delivered=1) == forward_all()
        assert 0 == state_of().attempts
