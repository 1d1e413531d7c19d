from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from celery import Celery, current_app
from django.db import transaction
from django.test import TestCase, override_settings

from django_eventstore import handles, record
from django_eventstore.forwarding import celery
from django_eventstore.forwarding.celery import FORWARD_TASK, WakeUp, beat_heart, forward, wake_up
from django_eventstore.models import Heartbeat
from django_eventstore.signals import events_committed
from tests.delivery import COUNTED, Clock, record_numbers, refunds
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)


class BrokerDown(Exception):
    pass


def follow_numbers(**declared):
    @handles(COUNTED, name="numbers", start="beginning", **declared)
    def follow(event):
        Refund.objects.create(order_id=event["n"])


@contextmanager
def eager(*, propagates=True):
    """Tasks run where they are sent."""
    given = current_app.conf.task_always_eager, current_app.conf.task_eager_propagates
    current_app.conf.task_always_eager, current_app.conf.task_eager_propagates = True, propagates
    try:
        yield
    finally:
        current_app.conf.task_always_eager, current_app.conf.task_eager_propagates = given


@pytest.fixture
def sent(monkeypatch):
    """What ticks call apply_async with in place of sending; commits wake nobody."""
    calls = []
    monkeypatch.setattr(wake_up, "_send", lambda **options: None)
    monkeypatch.setattr(forward, "apply_async", lambda **options: calls.append(options))
    return calls


# --- the task ---


def test_the_task_has_a_name_expires_and_keeps_no_result():
    assert "django_eventstore.forward" == FORWARD_TASK == forward.name
    assert 60 == forward.expires
    assert forward.ignore_result
    assert not forward.acks_late


def test_celery_finds_the_task_in_the_tasks_module_of_the_app():
    from django_eventstore import tasks

    assert tasks.forward.name in current_app.tasks


def test_what_is_sent_expires():
    """The option counts where a message is made."""
    with Celery("test", broker="memory://", set_as_current=False) as app:
        before = datetime.now(tz=timezone.utc)
        app.tasks[FORWARD_TASK].apply_async()
        with app.connection_for_read() as connection:
            message = connection.SimpleQueue("celery").get(timeout=5)
    expires = datetime.fromisoformat(message.headers["expires"]) - before
    assert timedelta(seconds=60) <= expires < timedelta(seconds=70)
    assert message.headers["ignore_result"]


def test_one_tick_delivers_to_every_consumer_and_says_how_many(sent):
    follow_numbers()
    record_numbers(1, 2)
    sent.clear()
    assert 2 == forward()
    assert [1, 2] == refunds()
    assert [] == sent


def test_a_tick_with_more_to_do_enqueues_itself_again(sent):
    follow_numbers(transaction="event")
    record_numbers(*range(150))
    with override_settings(EVENTSTORE={"FORWARD_EVENTS": 100}):
        assert 100 == forward(source="beat")
    assert [{"kwargs": {"source": "more", "using": None}}] == sent


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_tick_of_another_database_stays_there(sent):
    follow_numbers()
    record_numbers(*range(150), using="other")
    with override_settings(EVENTSTORE={"FORWARD_EVENTS": 100}):
        assert 0 == forward()
        assert 100 == forward(using="other")
    assert [{"kwargs": {"source": "more", "using": "other"}}] == sent


def test_ticks_that_overlap_handle_each_event_once(elsewhere, sent):
    follow_numbers()
    record_numbers(*range(30))
    barrier = threading.Barrier(2)

    def tick():
        barrier.wait(10)
        return forward()

    delivered = [done.result(60) for done in [elsewhere(tick) for _ in range(2)]]
    assert 30 == sum(delivered) + forward()
    assert list(range(30)) == refunds()


# --- heartbeats ---


def beats():
    return set(Heartbeat.objects.values_list("name", flat=True))


def test_every_tick_shows_that_a_worker_runs_and_one_of_the_schedule_that_beat_does():
    forward()
    assert {"worker"} == beats()
    forward(source="more")
    assert {"worker"} == beats()
    forward(source="beat")
    assert {"worker", "beat"} == beats()


def test_a_heartbeat_is_written_only_every_few_seconds(django_assert_num_queries, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(celery, "time", clock)
    beat_heart("worker", using="default")
    first = Heartbeat.objects.get().at
    clock.now += celery.HEARTBEAT_EVERY.total_seconds() - 0.1
    with django_assert_num_queries(0):
        beat_heart("worker", using="default")
    clock.now += 0.2
    beat_heart("worker", using="default")
    assert first < Heartbeat.objects.get().at


# --- the wake-up ---


class Broker:
    def __init__(self, *, down=False):
        self.down = down
        self.sent = []

    def send(self, **options):
        self.sent.append(options)
        if self.down:
            raise BrokerDown


def waking(broker, clock):
    return WakeUp(send=broker.send, clock=clock)


def test_a_commit_sends_the_task_for_its_database_without_retries():
    follow_numbers()
    broker = Broker()
    waking(broker, Clock())(using="default")
    assert [{"kwargs": {"source": "wake-up", "using": "default"}, "retry": False}] == broker.sent


def test_the_app_connects_it_to_commits():
    assert wake_up in events_committed._live_receivers(object)[0]


def test_it_is_sent_by_the_app_that_is_the_current_one_also_when_it_was_made_late(monkeypatch):
    """Such as after django.setup()."""
    follow_numbers()
    before = current_app._get_current_object()
    with Celery("late", broker="memory://", set_as_current=False) as late:
        late.conf.task_default_queue = "late"
        late.set_current()
        try:
            wake_up(using="default")
        finally:
            before.set_current()
        with late.connection_for_read() as connection:
            message = connection.SimpleQueue("late").get(timeout=5)
    assert FORWARD_TASK == message.headers["task"]


def test_it_is_sent_after_the_commit_and_not_after_a_rollback(monkeypatch):
    follow_numbers()
    broker = Broker()
    monkeypatch.setattr(wake_up, "_send", broker.send)
    with transaction.atomic():
        record(COUNTED, {"n": 1})
        transaction.set_rollback(True)
    assert [] == broker.sent
    with transaction.atomic():
        record(COUNTED, {"n": 1})
        assert [] == broker.sent
    assert 1 == len(broker.sent)


def test_commits_within_the_interval_send_one():
    follow_numbers()
    broker, clock = Broker(), Clock()
    wake = waking(broker, clock)
    for _ in range(5):
        wake(using="default")
        clock.now += 0.02
    assert 1 == len(broker.sent)
    clock.now += 0.1
    wake(using="default")
    assert 2 == len(broker.sent)


def test_commits_of_many_threads_within_the_interval_send_one(elsewhere):
    follow_numbers()
    broker, barrier = Broker(), threading.Barrier(6)
    wake = waking(broker, Clock())

    def commit():
        barrier.wait(10)
        wake(using="default")

    for done in [elsewhere(commit) for _ in range(6)]:
        done.result(20)
    assert 1 == len(broker.sent)


@override_settings(EVENTSTORE={"WAKE_UP_INTERVAL": timedelta(seconds=3)})
def test_the_interval_is_a_setting():
    follow_numbers()
    broker, clock = Broker(), Clock()
    wake = waking(broker, clock)
    wake(using="default")
    clock.now += 2.9
    wake(using="default")
    assert 1 == len(broker.sent)


def test_without_consumers_nothing_is_sent():
    broker = Broker()
    waking(broker, Clock())(using="default")
    assert [] == broker.sent


@override_settings(EVENTSTORE={"WAKE_UP": False})
def test_a_setting_turns_it_off():
    follow_numbers()
    broker = Broker()
    waking(broker, Clock())(using="default")
    assert [] == broker.sent


def test_a_broker_that_is_down_never_reaches_the_caller_and_is_left_alone_longer_each_time(caplog):
    follow_numbers()
    broker, clock = Broker(down=True), Clock()
    wake = waking(broker, clock)
    tried = []
    for _ in range(2_000):
        before = len(broker.sent)
        wake(using="default")
        if len(broker.sent) > before:
            tried.append(clock.now)
        clock.now += 0.5
    waits = [later - earlier for earlier, later in pairwise(tried)]
    assert [2, 4, 8, 16, 32, 60, 60] == waits[:7]
    assert 60 == max(waits)
    assert "BrokerDown" in caplog.text
    assert "not trying again for 60 s" in caplog.text


def test_a_broker_that_is_back_is_woken_as_before():
    follow_numbers()
    broker, clock = Broker(down=True), Clock()
    wake = waking(broker, clock)
    for _ in range(3):
        wake(using="default")
        clock.now += 100
    broker.down = False
    wake(using="default")
    clock.now += 0.2
    wake(using="default")
    assert 5 == len(broker.sent)
    broker.down = True
    clock.now += 0.2
    wake(using="default")
    clock.now += 2.1  # as after a first failure
    wake(using="default")
    assert 7 == len(broker.sent)


def test_a_broker_that_is_down_keeps_no_event_back(monkeypatch):
    follow_numbers()
    monkeypatch.setattr(wake_up, "_send", Broker(down=True).send)
    record_numbers(1)
    assert 1 == forward()


def test_a_declaration_that_is_wrong_does_not_reach_whoever_committed(caplog):
    handles("a.A", name="one", consumer="shared")(lambda event: None)
    handles("a.A", name="two", consumer="shared", transaction="batch")(lambda event: None)
    wake_up(using="default")
    assert "share the consumer" in caplog.text


# --- eager tasks, as projects use them in their tests ---


def test_eager_tasks_handle_after_the_commit():
    follow_numbers()
    with eager(), transaction.atomic():
        record(COUNTED, {"n": 1})
        assert [] == refunds()
    assert [1] == refunds()


def test_an_eager_handler_that_fails_does_not_reach_the_caller():
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        raise BrokerDown

    with eager():
        record_numbers(1)


@override_settings(EVENTSTORE={"WAKE_UP_INTERVAL": timedelta(microseconds=1)})
def test_an_eager_handler_that_records_is_followed_by_what_it_recorded():
    follow_numbers()

    @handles("test.First", name="first", start="beginning")
    def first(event):
        record(COUNTED, {"n": 9})

    with eager():
        record_numbers(1, type="test.First")
        forward()
    assert [9] == refunds()


@override_settings(EVENTSTORE={"WAKE_UP_INTERVAL": timedelta(microseconds=1)})
class InATestCase(TestCase):
    def test_eager_tasks_handle_under_capture_on_commit_callbacks(self):
        follow_numbers()
        for number in range(3):
            with eager(), self.captureOnCommitCallbacks(execute=True) as callbacks:
                record(COUNTED, {"n": number})
            assert 1 == len(callbacks)
            assert list(range(number + 1)) == refunds()

    def test_without_it_nothing_is_handled(self):
        follow_numbers()
        with eager():
            record(COUNTED, {"n": 1})
        assert [] == refunds()

    test_the_log_of_another_test_begins_anew = test_eager_tasks_handle_under_capture_on_commit_callbacks
