"""drain(): what follows from the recorded events, now, in every kind of test."""

from __future__ import annotations

import pickle
import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from asgiref.sync import async_to_sync
from django.core.management import call_command
from django.db import transaction
from django.test import TestCase, TransactionTestCase, override_settings

from django_eventstore import EventSender, EventStore, Outcome, handles, record
from django_eventstore.consumers import pause, resume
from django_eventstore.exceptions import EventStoreError, UnknownConsumer
from django_eventstore.forwarding import forward_all
from django_eventstore.forwarding.celery import wake_up
from django_eventstore.handlers import handler_registry
from django_eventstore.models import ConsumerState, Epoch, FailedDelivery
from django_eventstore.signals import delivery_failed, events_committed, send
from django_eventstore.store import log_state
from django_eventstore.testing import (
    DeliveryFailed,
    Drained,
    EndlessDelivery,
    Faults,
    RecordingSender,
    adrain,
    drain,
    freeze_forwarding,
)
from tests.delivery import COUNTED, numbers_of, offset_of, record_numbers, refunds, rolled_back
from tests.shop.events import OrderCancelled
from tests.shop.models import Order, Refund

pytestmark = pytest.mark.django_db


class Refused(Exception):
    pass


def refunding():
    @handles(COUNTED, name="refund")
    def refund(event):
        Refund.objects.create(order_id=event["n"])

    return refund


class RealSender(EventSender):
    """A sender as the settings name it. ``log``: what happened to any of them."""

    log: list[str] = []

    def send(self, batch):
        self.log.append(f"sent {numbers_of(batch.entries)}")
        return Outcome(done=len(batch.entries))

    def close(self):
        self.log.append("closed")


@pytest.fixture
def warehouse():
    """A consumer of the settings whose sender goes outside."""
    RealSender.log.clear()
    sender = f"{__name__}.RealSender"
    with override_settings(
        EVENTSTORE={"WAKE_UP": False, "CONSUMERS": {"warehouse": {"SENDER": sender, "EVENTS": [COUNTED]}}}
    ):
        yield


each_kind = pytest.mark.usefixtures("each_kind_of_test")


@pytest.fixture(autouse=True)
def _no_wake_up():
    with override_settings(EVENTSTORE={"WAKE_UP": False}):
        yield


# --- delivering ---


@each_kind
def test_what_was_recorded_is_delivered_and_what_is_recorded_next_is_by_the_next_drain():
    refunding()
    record_numbers(1)
    assert Drained(delivered={"refund": 1}, sent={}) == drain()
    assert [1] == refunds()
    record_numbers(2, 3)
    assert {"refund": 2} == drain().delivered
    assert {} == drain().delivered
    assert [1, 2, 3] == refunds()


@each_kind
def test_what_handlers_record_is_delivered_too_whatever_their_order():
    @handles("test.Third", name="a")
    def third(event):
        Refund.objects.create(order_id=3)

    @handles("test.Second", name="b")
    def second(event):
        record("test.Third", {})

    @handles("test.First", name="c")
    def first(event):
        record("test.Second", {})

    with transaction.atomic():
        record("test.First", {})
    assert {"a": 1, "b": 1, "c": 1} == drain().delivered
    assert [3] == refunds()


@each_kind
def test_once_over_the_consumers_leaves_what_that_records():
    @handles("test.Second", name="a")
    def second(event): ...

    @handles("test.First", name="b")
    def first(event):
        record("test.Second", {})

    with transaction.atomic():
        record("test.First", {})
    assert {"b": 1} == drain(until_quiet=False).delivered
    assert {"a": 1} == drain(until_quiet=False).delivered


@each_kind
def test_what_did_not_go_through_record_is_delivered(recorded_events):
    refunding()
    drain()
    EventStore().save(COUNTED, {"n": 1})
    drain()
    assert [1] == refunds()


@each_kind
def test_what_was_rolled_back_is_not_delivered():
    refunding()
    with rolled_back():
        record(COUNTED, {"n": 1})
    with transaction.atomic():
        record(COUNTED, {"n": 2})
        with rolled_back():
            record(COUNTED, {"n": 3})
    drain()
    assert [2] == refunds()


def test_it_runs_on_the_calling_thread():
    threads = []

    @handles(COUNTED, name="thread")
    def note(event):
        threads.append(threading.get_ident())

    record_numbers(1)
    drain()
    assert [threading.get_ident()] == threads


@each_kind
def test_consumers_are_chosen_by_name_or_function():
    @handles(COUNTED, name="other")
    def other(event): ...

    refund = refunding()
    record_numbers(1)
    assert {"other": 1} == drain(consumers=["other"]).delivered
    assert {"refund": 1} == drain(consumers=[refund]).delivered
    record_numbers(2)
    assert {"refund": 1} == drain(consumers=refund).delivered
    assert {"other": 1} == drain(consumers="other").delivered


def test_what_is_no_consumer_is_an_error():
    refunding()
    with pytest.raises(UnknownConsumer, match="refund"):
        drain(consumers=["refnud"])
    with pytest.raises(UnknownConsumer):
        drain(senders={"refnud": RecordingSender()})
    with pytest.raises(TypeError, match=r"no durable handler\. Declared consumers: refund"):
        drain(consumers=[record_numbers])
    with pytest.raises(ValueError, match="senders must be"):
        drain(senders="fake")


def test_a_paused_consumer_stays_paused():
    refunding()
    pause("refund", reason="stock-taking", using="default")
    record_numbers(1)
    assert {} == drain().delivered
    resume("refund", using="default")
    assert {"refund": 1} == drain().delivered


@pytest.mark.django_db(databases=["default", "other"])
def test_using_names_another_log():
    numbers = []

    @handles(COUNTED, name="numbers")
    def note(event):
        numbers.append(event["n"])

    record_numbers(1, using="other")
    assert {} == drain().delivered
    assert {"numbers": 1} == drain(using="other").delivered
    assert [1] == numbers


def test_inside_atomic_it_is_an_error():
    with transaction.atomic(), pytest.raises(EventStoreError, match="inside a transaction"):
        drain()


def test_while_forwarding_is_frozen_it_is_an_error():
    with freeze_forwarding(), pytest.raises(EventStoreError, match="Forwarding is frozen"):
        drain()


def test_in_async_code_it_is_awaited():
    refunding()
    record_numbers(1)

    async def deliver():
        return await adrain(consumers="refund")

    assert {"refund": 1} == async_to_sync(deliver)().delivered


# --- senders ---


@each_kind
def test_a_sender_of_the_settings_is_replaced_by_one_that_records(warehouse):
    record_numbers(1, 2)
    drained = drain()
    assert [1, 2] == numbers_of(drained.sent["warehouse"].entries)
    assert {"warehouse": 2} == drained.delivered
    assert [] == RealSender.log


def test_each_drain_shows_what_it_has_sent(warehouse):
    record_numbers(1)
    drain()
    record_numbers(2)
    assert [2] == numbers_of(drain().sent["warehouse"].entries)
    assert [] == drain().sent.get("warehouse", RecordingSender()).entries


@each_kind
def test_real_senders_are_made_for_the_drain_and_closed(warehouse):
    record_numbers(1, 2)
    assert Drained(delivered={"warehouse": 2}, sent={}) == drain(senders="real")
    assert ["sent [1, 2]", "closed"] == RealSender.log


def test_a_given_sender_is_used_and_the_others_record(warehouse):
    refund = RecordingSender()
    refunding()
    record_numbers(1)
    drained = drain(senders={"refund": refund})
    assert refund is drained.sent["refund"]
    assert [1] == numbers_of(refund.entries)
    assert [1] == numbers_of(drained.sent["warehouse"].entries)
    assert [] == refunds()


def test_a_sender_that_cannot_be_made_is_no_matter_until_it_is_wanted():
    consumers = {"lost": {"SENDER": "nowhere.Sender", "EVENTS": [COUNTED]}}
    with override_settings(EVENTSTORE={"WAKE_UP": False, "CONSUMERS": consumers}):
        record_numbers(1)
        assert {"lost": 1} == drain().delivered
        record_numbers(2)
        with pytest.raises(Exception, match="cannot be imported"):
            drain(senders="real")


# --- failures ---


@pytest.fixture
def failing():
    """A handler that refuses the number 2, and how to let it pass."""
    refused = {2}

    @handles(COUNTED, name="failing")
    def follow(event):
        Refund.objects.create(order_id=event["n"])
        if event["n"] in refused:
            raise Refused(event["n"])

    return refused


@each_kind
def test_what_a_handler_raises_is_raised_and_names_consumer_and_event_below(failing):
    record_numbers(1, 2, 3)
    with pytest.raises(Refused) as raised:
        drain()
    below = raised.value.__cause__
    assert isinstance(below, DeliveryFailed)
    entry = below.failures[0].entry
    assert ("failing", {"n": 2}, raised.value) == (below.failures[0].consumer, entry.data, below.failures[0].error)
    assert (
        f"A delivery failed: consumer failing, {COUNTED} (position {below.failures[0].position}, event {entry.event_id}): "
        "Refused(2)"
    ) == str(below)
    assert [1, 3] == refunds()


def test_the_stream_is_named_where_there_is_one():
    @handles(OrderCancelled, name="failing")
    def follow(event):
        raise Refused

    order = Order.place(Decimal(1))
    order.cancel("late")
    with pytest.raises(Refused) as raised:
        drain()
    assert f"shop.OrderCancelled of order-{order.pk} (position" in str(raised.value.__cause__)


def test_what_the_error_says_of_its_own_cause_is_kept():
    @handles(COUNTED, name="failing")
    def follow(event):
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Refused("second") from error

    record_numbers(1)
    with pytest.raises(Refused) as raised:
        drain()
    assert isinstance(raised.value.__cause__, KeyError)
    assert isinstance(raised.value.__cause__.__cause__, DeliveryFailed)


def test_an_error_that_is_raised_again_and_again_names_the_last_time():
    always = Refused("the same object")

    @handles(COUNTED, name="failing")
    def follow(event):
        raise always

    record_numbers(1)
    for _ in range(2):
        with pytest.raises(Refused) as raised:
            drain()
    assert isinstance(raised.value.__cause__, DeliveryFailed)
    assert raised.value.__cause__.__cause__ is None


@each_kind
def test_the_other_consumers_have_run_by_then(failing):
    refunding()
    record_numbers(2)
    with pytest.raises(Refused):
        drain()
    assert [2] == refunds()


def test_the_cause_goes_from_process_to_process_in_a_parallel_run(failing):
    record_numbers(2)
    with pytest.raises(Refused) as raised:
        drain(faults=Faults(crash=True))
    cause = raised.value.__cause__
    copy = pickle.loads(pickle.dumps(cause))
    assert (str(cause), cause.failures[0].entry) == (str(copy), copy.failures[0].entry)


def test_every_failure_is_named():
    @handles(COUNTED, name="a")
    def one(event):
        raise Refused

    @handles(COUNTED, name="b")
    def other(event):
        raise Refused

    record_numbers(1)
    with pytest.raises(Refused) as raised:
        drain()
    assert ["a", "b"] == [failure.consumer for failure in raised.value.__cause__.failures]
    assert "\nAlso: consumer b, " in str(raised.value.__cause__)


@each_kind
def test_a_failure_is_tried_again_at_once_by_the_next_drain(failing):
    record_numbers(1, 2, 3)
    with pytest.raises(Refused):
        drain()
    with pytest.raises(Refused):
        drain()
    assert 2 == FailedDelivery.objects.get(consumer="failing").attempts
    failing.clear()
    drain()
    assert [1, 2, 3] == refunds()


@each_kind
def test_failures_are_returned_when_they_are_not_to_be_raised(failing):
    refunding()
    record_numbers(2)
    drained = drain(raise_errors=False)
    [failure] = drained.failures
    assert ("failing", {"n": 2}) == (failure.consumer, failure.entry.data)
    assert isinstance(failure.error, Refused)
    assert {"refund": 1} == drained.delivered
    assert [2] == refunds()


def test_a_sender_that_is_unavailable_fails_as_a_whole(warehouse):
    record_numbers(1)
    with pytest.raises(Refused) as raised:
        drain(senders={"warehouse": RecordingSender([Refused("down")])})
    assert "A delivery failed: consumer warehouse, its sender as a whole: Refused('down')" == str(
        raised.value.__cause__
    )
    assert None is raised.value.__cause__.failures[0].entry


def test_what_fails_again_in_the_same_drain_is_returned_once(failing):
    refunding()
    record_numbers(2)

    @handles(COUNTED, name="more")
    def more(event):
        record("test.Second", {})

    @handles("test.Second", name="a")
    def second(event): ...

    at_once = timedelta(microseconds=1)
    with override_settings(EVENTSTORE={"WAKE_UP": False, "RETRY_BASE": at_once, "RETRY_CAP": at_once}):
        drained = drain(raise_errors=False)
    assert ["failing"] == [failure.consumer for failure in drained.failures]
    assert 1 < FailedDelivery.objects.get(consumer="failing").attempts


def test_what_fails_on_another_thread_meanwhile_is_not_of_this_drain():
    @handles(COUNTED, name="thread")
    def let_another_fail(event):
        told = {"sender": ConsumerState, "consumer": "elsewhere", "position": None, "error": Refused()}
        thread = threading.Thread(target=send, args=(delivery_failed,), kwargs=told)
        thread.start()
        thread.join()

    record_numbers(1)
    assert () == drain().failures


# --- without an end ---


def endless():
    @handles("test.Ping", name="ping")
    def ping(event):
        record("test.Pong", {})

    @handles("test.Pong", name="pong")
    def pong(event):
        record("test.Ping", {})


@each_kind
@pytest.mark.parametrize("raise_errors", [True, False])
def test_handlers_that_feed_each_other_are_found_and_named(raise_errors):
    endless()
    with transaction.atomic():
        record("test.Ping", {})
    with pytest.raises(
        EndlessDelivery, match=r"test.Ping → ping; test.Pong → pong; test.Ping → ping; test.Pong → pong"
    ):
        drain(raise_errors=raise_errors)


@each_kind
def test_a_handler_that_feeds_itself_is_found():
    @handles("test.Again", name="again")
    def again(event):
        EventStore().save("test.Again", {})

    with transaction.atomic():
        record("test.Again", {})
    with pytest.raises(EndlessDelivery, match=r"test\.Again → again"):
        drain()


def test_many_events_are_no_endless_delivery():
    @handles("test.Import", name="import")
    def bring_in(event):
        record_numbers(*range(300))

    refunding()
    record("test.Import", {})
    drain()
    assert 300 == len(refunds())


def test_a_long_way_that_ends_is_no_endless_delivery():
    @handles(COUNTED, name="count")
    def count_down(event):
        if event["n"]:
            record_numbers(event["n"] - 1)

    record_numbers(40)
    assert {"count": 41} == drain().delivered


# --- after the commit ---


@pytest.fixture
def committed():
    """The aliases of the commits that were told of."""
    told = []

    def listen(using, **kwargs):
        told.append(using)

    events_committed.connect(listen)
    yield told
    events_committed.disconnect(listen)


def test_in_a_test_case_what_record_does_after_a_commit_is_done_once(committed):
    record_numbers(1)
    assert [] == committed
    drain()
    drain()
    assert ["default"] == committed
    record_numbers(2)
    drain()
    assert ["default"] * 2 == committed


def test_what_a_savepoint_has_taken_back_is_not_done(committed):
    with rolled_back():
        record(COUNTED, {"n": 1})
    drain()
    assert [] == committed


@pytest.mark.django_db(transaction=True)
def test_with_real_commits_nothing_is_done_twice(committed):
    record_numbers(1)
    drain()
    assert ["default"] == committed


@pytest.mark.django_db(transaction=True)
def test_before_a_real_commit_nothing_is_done(committed):
    with transaction.atomic():
        record_numbers(1)
        with pytest.raises(EventStoreError):
            drain()
        assert [] == committed


@each_kind
def test_handlers_after_the_commit_run_once_and_what_they_record_is_delivered():
    ran = []

    @handles(COUNTED, name="after", mode="after_commit")
    def after(event):
        ran.append(event["n"])
        with transaction.atomic():
            record("test.Second", event)

    @handles("test.Second", name="second", mode="after_commit")
    def second(event):
        with transaction.atomic():
            record("test.Third", event)

    @handles("test.Third", name="third")
    def third(event):
        Refund.objects.create(order_id=event["n"])

    record_numbers(1)
    assert {"third": 1} == drain().delivered
    assert {} == drain().delivered
    assert ([1], [1]) == (ran, refunds())


def test_what_a_handler_after_the_commit_raises_is_raised():
    @handles(COUNTED, name="after", mode="after_commit")
    def after(event):
        raise Refused

    [entry] = record_numbers(1)
    with pytest.raises(Refused) as raised:
        drain()
    assert f"A delivery failed: consumer after, {COUNTED} (event {entry.event_id}): Refused()" == str(
        raised.value.__cause__
    )
    assert () == drain().failures  # it had its one chance


@pytest.mark.django_db(transaction=True)
def test_what_a_handler_after_a_real_commit_raises_while_it_is_waited_for_is_raised():
    go_on = threading.Event()

    @handles(COUNTED, name="after", mode="after_commit")
    def after(event):
        assert go_on.wait(10)
        raise Refused

    record_numbers(1)
    threading.Timer(0.2, go_on.set).start()
    with pytest.raises(Refused):
        drain()


def test_handlers_after_the_commit_that_feed_themselves_are_found():
    @handles("test.Again", name="again", mode="after_commit")
    def again(event):
        record("test.Again", {})

    record("test.Again", {})
    with pytest.raises(EndlessDelivery, match="after_commit"):
        drain()


@override_settings(EVENTSTORE={})
def test_no_task_is_sent_to_a_broker(monkeypatch):
    sent = []
    monkeypatch.setattr(wake_up, "_not_before", 0.0)
    monkeypatch.setattr(wake_up, "_send", lambda **kwargs: sent.append(kwargs))
    refunding()
    record_numbers(1)
    drain()
    assert [] == sent


def test_hooks_of_the_project_are_left_for_the_test(django_capture_on_commit_callbacks):
    ran = []
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        transaction.on_commit(lambda: ran.append("mine"))
        record_numbers(1)
        drain()
        assert [] == ran
    assert ["mine"] == ran
    assert 2 == len(callbacks)


# --- from test to test ---


class InSetUpTestData(TestCase):
    @classmethod
    def setUpTestData(cls):
        refunding()
        cls.addClassCleanup(handler_registry.unregister, "refund")
        record_numbers(1)

    def setUp(self):
        refunding()

    def test_what_set_up_test_data_recorded_is_delivered_in_one_test(self):
        record_numbers(2)
        drain()
        assert [1, 2] == refunds()

    def test_and_in_the_next(self):
        record_numbers(3)
        drain()
        assert [1, 3] == refunds()


class TestsInTurn(TransactionTestCase):
    def setUp(self):
        refunding()
        self.addCleanup(handler_registry.unregister, "refund")  # before the flush, which would make it known to the log

    def _once(self):
        record_numbers(1)
        assert {"refund": 1} == drain().delivered
        assert [1] == refunds()

    def test_one(self):
        self._once()

    def test_two(self):
        self._once()

    def test_by_the_forwarders_that_the_process_keeps(self):
        record_numbers(1)
        forward_all()
        assert [1] == refunds()

    def test_by_the_forwarders_that_the_process_keeps_again(self):
        self.test_by_the_forwarders_that_the_process_keeps()


@pytest.mark.django_db(transaction=True)
def test_a_forwarder_that_the_process_keeps_knows_nothing_of_a_log_that_was_emptied():
    """With serialized_rollback Django brings the rows of the migrations back, and with them the id of the log."""
    refunding()
    with transaction.atomic():
        for _ in range(3):
            record("test.Unwanted", {})
    forward_all()
    log = log_state("default").log
    call_command("flush", interactive=False, verbosity=0)
    Epoch.objects.update(log=log)
    record_numbers(1)
    forward_all()
    assert [1] == refunds()


class WithFewApps(TransactionTestCase):
    """Django empties the database without telling anybody."""

    available_apps = ["django.contrib.contenttypes", "django_eventstore", "tests.shop"]

    def test_one(self):
        refunding()
        record_numbers(1)
        drain()
        assert [1] == refunds()
        assert offset_of("refund")

    test_two = test_one
