"""Handlers with mode="after_commit": when they run, on which thread, and what becomes of those that fail."""

from __future__ import annotations

import logging
import os
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction
from django.test import TestCase, override_settings

from django_eventstore import arecord, event_context, get_event_context, handles, record
from django_eventstore.forwarding import forward_all
from django_eventstore.handlers import handler_registry
from django_eventstore.models import EventEntry
from django_eventstore.recording import drain_after_commit, handler_threads
from django_eventstore.recording.handler_threads import HandlerThreads
from django_eventstore.signals import events_committed, handler_failed
from tests.delivery import COUNTED, record_numbers, refunds, rolled_back
from tests.shop.events import OrderCancelled
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

SOON = timedelta(seconds=10)


class Failed(Exception):
    pass


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    """Threads of this test's alone, which have ended after it."""
    threads = HandlerThreads()
    monkeypatch.setattr(handler_threads, "_threads", threads)
    yield threads
    threads.wait(SOON)
    threads.close()
    assert threads.wait(SOON)


@pytest.fixture
def failures():
    """What handler_failed told: name of the handler, event id, error."""
    told = []

    def receiver(*, handler, entry, error, **kwargs):
        told.append((handler.name, entry.event_id, error))

    handler_failed.connect(receiver)
    yield told
    handler_failed.disconnect(receiver)


def follow_numbers(**declared):
    """A handler of the numbers; what it was called with."""
    numbers = []

    @handles(COUNTED, name="follow", mode="after_commit", **declared)
    def follow(event):
        numbers.append(event["n"])

    return numbers


# --- when ---


def test_it_runs_after_the_commit_and_sees_what_was_committed():
    seen = []

    @handles(OrderCancelled, mode="after_commit")
    def follow(event, entry):
        seen.append((event.order_id, EventEntry.objects.filter(pk=entry.pk).exists(), connection.in_atomic_block))
        Refund.objects.create(order_id=event.order_id)

    with transaction.atomic():
        record(OrderCancelled(order_id=7, reason=""))
        assert [] == seen
    drain_after_commit()
    assert [(7, True, False)] == seen
    assert [7] == refunds()


def test_nothing_runs_for_a_rolled_back_transaction():
    numbers = follow_numbers()
    with rolled_back():
        record(COUNTED, {"n": 1})
    drain_after_commit()
    assert [] == numbers


def test_nothing_runs_for_a_rolled_back_savepoint():
    numbers = follow_numbers()
    with transaction.atomic():
        record(COUNTED, {"n": 1})
        with rolled_back():
            record(COUNTED, {"n": 2})
            with transaction.atomic():
                record(COUNTED, {"n": 3})
        with transaction.atomic():
            record(COUNTED, {"n": 4})
    drain_after_commit()
    assert [1, 4] == sorted(numbers)


def test_each_event_of_a_call_has_a_call_of_each_handler_that_wants_it():
    numbers = follow_numbers()
    orders = []

    @handles(OrderCancelled, COUNTED, mode="after_commit")
    def both(event):
        orders.append(event if isinstance(event, dict) else event.order_id)

    with transaction.atomic():
        record(*(OrderCancelled(order_id=number, reason="") for number in range(3)))
        record(COUNTED, {"n": 9})
    drain_after_commit()
    assert [9] == numbers
    assert 4 == len(orders)


def test_no_worker_runs_it():
    numbers = follow_numbers()
    assert () == handler_registry.durable()
    record_numbers(1)
    drain_after_commit()
    forward_all()
    assert [1] == numbers


def test_a_repeated_event_id_runs_it_once():
    numbers = follow_numbers()
    id_ = record_numbers(1)[0].event_id
    for _ in range(2):
        with transaction.atomic():
            record(COUNTED, {"n": 2}, event_id=id_)
    drain_after_commit()
    assert [1, 2] == numbers


def test_one_that_lost_the_race_for_an_event_id_runs_nothing(monkeypatch):
    numbers = follow_numbers()
    (first,) = record_numbers(1)
    with transaction.atomic():
        record(COUNTED, {"n": 2}, event_id=first.event_id)
    from django_eventstore.store import EventStore

    known = EventStore.recorded
    answers = iter([None])
    # Not there when it is looked for first, as when the other commits between the look and the insert.
    monkeypatch.setattr(EventStore, "recorded", lambda self, id_: next(answers, known(self, id_)))
    with transaction.atomic():
        (again,) = record(COUNTED, {"n": 3}, event_id=first.event_id)
    drain_after_commit()
    assert again.data == {"n": 2}
    assert [1, 2] == numbers


def test_an_async_handler_runs_to_its_end_on_a_thread():
    @handles(COUNTED, mode="after_commit")
    async def follow(event):
        await Refund.objects.acreate(order_id=event["n"])
        assert threading.current_thread() is not threading.main_thread()

    record_numbers(1)
    drain_after_commit()
    assert [1] == refunds()


def test_what_it_records_names_its_cause_and_not_the_request():
    contexts = []

    @handles(COUNTED, mode="after_commit")
    def follow(event):
        contexts.append(get_event_context())
        record_numbers(2, type="test.Following")

    with event_context(actor="ada", correlation_id="c-1"):
        (entry,) = record_numbers(1)
    drain_after_commit()
    effect = EventEntry.objects.get(type="test.Following")
    assert (str(entry.event_id), "c-1", "{}") == (effect.causation_id, effect.correlation_id, effect.metadata)
    assert contexts[0].actor is None


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_it_runs_after_the_commit_of_the_events_own_database():
    numbers = follow_numbers()
    with transaction.atomic():
        with transaction.atomic(using="other"):
            record(COUNTED, {"n": 1}, using="other")
        drain_after_commit()
        assert [1] == numbers


def test_without_autocommit_it_runs_when_the_transaction_is_over():
    numbers = follow_numbers()
    transaction.set_autocommit(False)
    try:
        record(COUNTED, {"n": 1})
        transaction.rollback()
        record(COUNTED, {"n": 2})
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    drain_after_commit()
    assert [2] == numbers


# --- what fails stops nobody ---


def test_one_that_raises_is_logged_and_signalled_and_stops_no_other(failures, caplog):
    error = Failed("on purpose")

    @handles(COUNTED, name="bad", mode="after_commit")
    def bad(event):
        raise error

    numbers = follow_numbers()
    entries = record_numbers(1, 2)
    drain_after_commit()
    assert [1, 2] == sorted(numbers)
    assert {("bad", entry.event_id, error) for entry in entries} == set(failures)
    assert str(entries[0].event_id) in caplog.text
    assert "on purpose" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_one_that_wants_to_end_the_process_ends_no_thread(failures, error):
    @handles(COUNTED, name="bad", mode="after_commit")
    def bad(event):
        raise error

    for number in range(6):
        record_numbers(number)
    drain_after_commit()
    numbers = follow_numbers()
    record_numbers(7)
    drain_after_commit()
    assert [7] == numbers
    assert 7 == len(failures)


def test_a_receiver_of_the_failure_that_raises_stops_nobody(caplog):
    def receiver(**kwargs):
        raise Failed("receiver")

    @handles(COUNTED, name="bad", mode="after_commit")
    def bad(event):
        raise Failed("handler")

    handler_failed.connect(receiver)
    try:
        numbers = follow_numbers()
        record_numbers(1)
        drain_after_commit()
    finally:
        handler_failed.disconnect(receiver)
    assert [1] == numbers
    assert "receiver" in caplog.text


def test_a_foreign_hook_that_raises_does_not_keep_it_from_running():
    numbers = follow_numbers()

    def fail():
        raise Failed

    with pytest.raises(Failed), transaction.atomic():  # noqa: PT012 - the commit raises
        transaction.on_commit(fail)
        record(COUNTED, {"n": 1})
        transaction.on_commit(fail)
        record(COUNTED, {"n": 2})
    drain_after_commit()
    assert [1, 2] == sorted(numbers)


def test_it_is_started_before_anybody_is_woken():
    order = []
    own = threading.Event()

    @handles(COUNTED, mode="after_commit")
    def follow(event):
        order.append("handler")
        own.set()

    def receiver(**kwargs):
        own.wait(5)
        order.append("woken")

    events_committed.connect(receiver)
    try:
        record_numbers(1)
    finally:
        events_committed.disconnect(receiver)
    assert ["handler", "woken"] == order


def test_a_payload_that_does_not_fit_is_the_handlers_failure_alone(failures):
    @handles(OrderCancelled, name="typed", mode="after_commit")
    def typed(event): ...

    with transaction.atomic():
        record("shop.OrderCancelled", {"order_id": "no number"})
    drain_after_commit()
    assert ["typed"] == [name for name, _, _ in failures]


# --- the threads ---


def test_the_committing_thread_does_not_wait():
    go = threading.Event()
    done = []

    @handles(COUNTED, mode="after_commit")
    def slow(event):
        go.wait(10)
        done.append(event["n"])

    record_numbers(1)
    assert [] == done
    go.set()
    drain_after_commit()
    assert [1] == done


def test_there_are_no_threads_before_there_is_work(own_threads):
    before = threading.active_count()
    record_numbers(1)
    assert before == threading.active_count()


@override_settings(EVENTSTORE={"AFTER_COMMIT_THREADS": 2})
def test_there_are_no_more_threads_than_the_setting_says():
    running, most = [], []
    go = threading.Event()

    @handles(COUNTED, mode="after_commit")
    def slow(event):
        running.append(threading.get_ident())
        most.append(len(running))
        go.wait(10)
        running.remove(threading.get_ident())

    record_numbers(*range(6))
    while len(running) < 2:
        go.wait(0.01)
    go.set()
    drain_after_commit()
    assert 6 == len(most)
    assert 2 == max(most)


def test_an_idle_thread_is_used_again():
    idents = set()

    @handles(COUNTED, mode="after_commit")
    def follow(event):
        idents.add(threading.get_ident())

    for number in range(5):
        record_numbers(number)
        drain_after_commit()
    assert 1 == len(idents)


@override_settings(EVENTSTORE={"AFTER_COMMIT_THREADS": 2})
def test_idle_threads_sleep(own_threads, monkeypatch):
    """Each that woke up for nothing once told all the others, who woke up for nothing and told it."""
    together = threading.Barrier(2)

    @handles(COUNTED, name="both", mode="after_commit")
    def both(event):
        together.wait(10)

    record_numbers(1, 2)
    drain_after_commit()
    woken = []
    notify_all = own_threads._changed.notify_all
    monkeypatch.setattr(own_threads._changed, "notify_all", lambda: woken.append(1) or notify_all())
    with own_threads._changed:
        notify_all()
    threading.Event().wait(0.2)
    assert (2, []) == (own_threads._threads, woken)


@override_settings(EVENTSTORE={"AFTER_COMMIT_THREADS": 1, "AFTER_COMMIT_QUEUE": 2})
def test_beyond_the_queue_the_committing_thread_runs_it_and_it_is_logged_once(caplog, failures):
    go, busy = threading.Event(), threading.Event()
    here, there = [], []

    @handles(COUNTED, mode="after_commit")
    def follow(event):
        if threading.current_thread() is threading.main_thread():
            here.append(event["n"])
            if event["n"] == 5:
                raise Failed
        else:
            busy.set()
            go.wait(10)
            there.append(event["n"])

    record_numbers(0)
    assert busy.wait(5)
    with caplog.at_level(logging.WARNING):
        record_numbers(1, 2, 3, 4)
        record_numbers(5)
    assert [3, 4, 5] == here
    assert 1 == caplog.text.count("wait for a thread")
    assert 1 == len(failures)
    go.set()
    drain_after_commit()
    assert [0, 1, 2] == there


def test_where_no_thread_can_be_started_the_committing_thread_runs_it(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    numbers = follow_numbers()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    record_numbers(1)
    assert [1] == numbers


def test_its_connections_are_closed_when_it_has_nothing_to_do():
    used = []

    @handles(COUNTED, mode="after_commit")
    def follow(event):
        Refund.objects.create(order_id=event["n"])
        used.append(connections["default"])

    record_numbers(1, 2, 3)
    drain_after_commit()
    assert [1, 2, 3] == refunds()
    assert connection not in used
    assert [None] * 3 == [each.connection for each in used]


def test_draining_says_what_has_not_ended():
    go = threading.Event()

    @handles(COUNTED, name="slow", mode="after_commit")
    def slow(event):
        go.wait(10)

    (entry,) = record_numbers(1)
    with pytest.raises(TimeoutError, match=f"slow for event {entry.event_id}"):
        drain_after_commit(timeout=timedelta(milliseconds=50))
    go.set()
    drain_after_commit()


def test_draining_waits_for_what_handlers_record_themselves():
    numbers = []

    @handles(COUNTED, mode="after_commit")
    def follow(event):
        numbers.append(event["n"])
        if event["n"]:
            record_numbers(event["n"] - 1)

    record_numbers(3)
    drain_after_commit()
    assert [3, 2, 1, 0] == numbers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_has_no_threads_and_starts_its_own():
    read, write = os.pipe()
    numbers = follow_numbers()
    record_numbers(1)
    drain_after_commit()
    pid = os.fork()
    if not pid:  # the child: nothing of pytest may run here, and no connection of the parent may be used
        try:
            fresh = handler_threads._threads is None
            from django_eventstore.recording.handler_threads import Call

            (handler,) = handler_registry.after_commit_for(COUNTED)
            entry = EventEntry(type=COUNTED, version=1, payload='{"n": 2}', metadata="{}", event_id="x")
            accepted = handler_threads.handler_threads().submit(Call(handler=handler, entry=entry))
            drain_after_commit()
            os.write(write, repr((fresh, accepted, numbers)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    assert b"(True, True, [1, 2])" == os.read(read, 1000)
    os.close(read)
    assert [1] == numbers


# --- the end of the process ---

PROGRAM = """
import time
from datetime import timedelta
from django.conf import settings
settings.EVENTSTORE = {settings}
import django
django.setup()
from django.db import transaction
from django_eventstore import handles, record
from tests.shop.models import Refund

@handles("test.Counted", name="slow", mode="after_commit")
{function}

with transaction.atomic():
    print(record("test.Counted", {{"n": 1}})[0].event_id)
    print(record("test.Counted", {{"n": 2}})[0].event_id, flush=True)
{then}
"""
WRITES = "def slow(event):\n    time.sleep(0.4)\n    Refund.objects.create(order_id=event['n'])"
WRITES_ASYNC = "async def slow(event):\n    await Refund.objects.acreate(order_id=event['n'])"
HANGS = "def slow(event):\n    time.sleep(60)"
ONE_THREAD = "{'AFTER_COMMIT_THREADS': 1, 'WAKE_UP': False}"
SHORT = "{'AFTER_COMMIT_THREADS': 1, 'AFTER_COMMIT_EXIT': timedelta(seconds=0.2), 'WAKE_UP': False}"


@pytest.mark.parametrize("function", [WRITES, WRITES_ASYNC], ids=["plain", "async"])
def test_a_process_that_ends_waits_for_what_was_committed(spawn, function):
    process = spawn("-c", PROGRAM.format(settings=ONE_THREAD, function=function, then=""))
    process.wait()
    assert [1, 2] == refunds()


def test_a_process_that_exits_waits_as_well(spawn):
    process = spawn("-c", PROGRAM.format(settings=ONE_THREAD, function=WRITES, then="raise SystemExit(0)"))
    process.wait()
    assert [1, 2] == refunds()


def test_a_process_that_has_waited_long_enough_logs_what_was_not_run(spawn):
    process = spawn("-c", PROGRAM.format(settings=SHORT, function=HANGS, then=""))
    process.wait()
    first, second = process.output.split()
    assert "2 calls of handlers have not ended" in process.errors
    assert first in process.errors
    assert second in process.errors


# --- in a TestCase ---


@pytest.mark.usefixtures("in_class")
class InATestCase(TestCase):
    numbers: list[object]
    failures: list[object]

    def test_it_runs_when_callbacks_are_captured_and_executed(self):
        with self.captureOnCommitCallbacks(execute=True):
            record(COUNTED, {"n": 1})
            assert [] == self.numbers
        assert [1] == self.numbers

    def test_it_does_not_run_without(self):
        record(COUNTED, {"n": 1})
        drain_after_commit()
        assert [] == self.numbers

    def test_nothing_runs_for_a_rolled_back_savepoint(self):
        with self.captureOnCommitCallbacks(execute=True):
            with rolled_back():
                record(COUNTED, {"n": 1})
            record(COUNTED, {"n": 2})
        assert [2] == self.numbers

    def test_it_runs_on_this_thread_and_sees_the_data(self):
        seen = []

        @handles(OrderCancelled, mode="after_commit")
        async def follow(event, entry):
            seen.append(await EventEntry.objects.filter(pk=entry.pk).aexists())

        with self.captureOnCommitCallbacks(execute=True):
            record(OrderCancelled(order_id=1, reason=""))
        assert [True] == seen

    def test_one_that_fails_in_the_database_leaves_the_test_its_transaction(self):
        @handles(OrderCancelled, name="bad", mode="after_commit")
        def bad(event):
            Refund.objects.create(order_id=1)
            Refund.objects.create(order_id=None)

        with self.captureOnCommitCallbacks(execute=True):
            record(OrderCancelled(order_id=1, reason=""))
            record(COUNTED, {"n": 1})
        assert [] == refunds()
        assert [1] == self.numbers
        assert ["bad"] == [name for name, _, _ in self.failures]

    def test_what_it_records_is_followed_too(self):
        @handles(OrderCancelled, mode="after_commit")
        def follow(event):
            record(COUNTED, {"n": event.order_id})

        with self.captureOnCommitCallbacks(execute=True):
            record(OrderCancelled(order_id=7, reason=""))
        assert [7] == self.numbers


@pytest.fixture
def in_class(request, clean_process, failures):
    request.cls.numbers = follow_numbers()
    request.cls.failures = failures


def test_recorded_by_async_code_it_runs_as_well():
    from asgiref.sync import async_to_sync

    numbers = follow_numbers()
    with override_settings(EVENTSTORE={"OUTSIDE_TRANSACTION": "allow"}):
        async_to_sync(arecord)(COUNTED, {"n": 1})
    drain_after_commit()
    assert [1] == numbers
