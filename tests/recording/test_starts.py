"""A consumer that starts at now misses nothing that was recorded by code which knows it."""

from __future__ import annotations

import threading

import pytest
from django.db import transaction
from django.test import override_settings

from django_eventstore import EventStore, handles, record
from django_eventstore.consumers import OffsetStore, declared_consumers
from django_eventstore.forwarding import forward_all
from django_eventstore.handlers import handler_registry
from django_eventstore.models import ConsumerOffset
from django_eventstore.recording import forget_known_consumers
from django_eventstore.store import log_state
from tests.delivery import COUNTED, offset_of, record_numbers, rolled_back

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def old_events():
    """Events of code that did not know the consumer, in the log."""
    record_numbers(-2, -1)
    EventStore().get()
    forget_known_consumers()


@pytest.fixture
def handled(old_events):
    """A new handler of the numbers; what it was called with."""
    numbers = []

    @handles(COUNTED, name="numbers")
    def follow(event):
        numbers.append(event["n"])

    return numbers


def another_process():
    """What another process of the same code knows: nothing yet."""
    forget_known_consumers()


def worker():
    forward_all()


def test_recorded_before_the_worker_first_ran(handled):
    record_numbers(1)
    worker()
    assert [1] == handled


def test_the_worker_ran_first(handled):
    worker()
    record_numbers(1)
    worker()
    assert [1] == handled


def test_recorded_by_two_processes_before_the_worker_first_ran(handled):
    record_numbers(1)
    another_process()
    record_numbers(2)
    worker()
    assert [1, 2] == handled


def test_the_first_recording_transaction_was_rolled_back(handled):
    with rolled_back():
        record(COUNTED, {"n": 1})
    assert offset_of() is None
    record_numbers(2)
    worker()
    assert [2] == handled


def test_the_first_recording_savepoint_was_rolled_back(handled):
    with transaction.atomic():
        with rolled_back():
            record(COUNTED, {"n": 1})
        record(COUNTED, {"n": 2})
    worker()
    record_numbers(3)
    worker()
    assert [2, 3] == handled


def test_the_first_recording_transaction_was_rolled_back_and_other_code_recorded_before_the_next(handled):
    with rolled_back():
        record(COUNTED, {"n": 1})
    EventStore().save(COUNTED, {"n": -3})
    EventStore().get()
    record_numbers(2)
    worker()
    assert [2] == handled


def test_after_a_commit_the_start_is_not_looked_up_again(handled, django_assert_num_queries):
    record_numbers(1)
    with transaction.atomic(), django_assert_num_queries(1):
        record(COUNTED, {"n": 2})


def test_a_handler_that_is_declared_later_has_its_start_looked_up(old_events):
    record_numbers(-3)
    EventStore().get()
    numbers = []

    @handles(COUNTED, name="late")
    def follow(event):
        numbers.append(event["n"])

    record_numbers(1)
    worker()
    assert [1] == numbers


def test_settings_that_change_have_their_consumers_looked_up(old_events):
    record_numbers(-3)
    EventStore().get()
    with override_settings(EVENTSTORE={"CONSUMERS": {"late": {"SENDER": "no.Sender"}}}):
        record_numbers(1)
        assert 3 == offset_of("late")


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_recorded_in_an_open_transaction_while_the_worker_first_ran(handled, elsewhere):
    recorded, go_on = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            record(COUNTED, {"n": 1})
            recorded.set()
            assert go_on.wait(10)

    writer = elsewhere(slow)
    assert recorded.wait(10)
    worker()
    assert [] == handled
    go_on.set()
    writer.result(10)
    worker()
    assert [1] == handled


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_an_open_transaction_and_a_quicker_one_that_commits_before_it(handled, elsewhere):
    recorded, go_on = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            record(COUNTED, {"n": 1})
            recorded.set()
            assert go_on.wait(10)

    writer = elsewhere(slow)
    assert recorded.wait(10)
    another_process()
    record_numbers(2)
    EventStore().save(COUNTED, {"n": 3})
    EventStore().get()
    another_process()
    worker()
    assert [2, 3] == handled
    go_on.set()
    writer.result(10)
    worker()
    assert [2, 3, 1] == handled


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_a_start_that_is_committed_late_does_not_take_the_consumer_back(handled, elsewhere):
    """The slow transaction saw an older head; its start row appears when the consumer is past it already."""
    recorded, go_on = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            record("test.Other", {"n": 0})
            recorded.set()
            assert go_on.wait(10)

    writer = elsewhere(slow)
    assert recorded.wait(10)
    another_process()
    record_numbers(1)
    worker()
    go_on.set()
    writer.result(10)
    worker()
    assert [1] == handled


def test_two_processes_register_at_the_same_time_and_the_lower_start_counts(handled, elsewhere):
    store = OffsetStore()
    store.register(declared_consumers().values())
    lowest = log_state("default").head
    ConsumerOffset.objects.create(consumer="numbers", offset=lowest + 5, epoch=1, token=0)
    assert lowest == offset_of()


def test_many_processes_first_record_at_the_same_time(handled, elsewhere):
    barrier = threading.Barrier(4)

    def first(number):
        barrier.wait(10)
        record_numbers(number)

    for done in [elsewhere(first, number) for number in range(4)]:
        done.result(30)
    worker()
    assert [0, 1, 2, 3] == sorted(handled)


def test_start_at_the_beginning_gets_what_was_there_before(old_events):
    numbers = []

    @handles(COUNTED, name="all", start="beginning")
    def follow(event):
        numbers.append(event["n"])

    record_numbers(1)
    worker()
    assert [-2, -1, 1] == numbers


def test_start_at_a_position_gets_what_is_after_it(old_events):
    numbers = []

    @handles(COUNTED, name="some", start=1)
    def follow(event):
        numbers.append(event["n"])

    worker()
    assert [-1] == numbers


def test_the_start_is_fixed_once(old_events):
    @handles(COUNTED, name="numbers")
    def follow(event):
        pass

    OffsetStore().register(declared_consumers().values())
    handler_registry.unregister("numbers")
    numbers = []

    @handles(COUNTED, name="numbers", start="beginning")
    def again(event):
        numbers.append(event["n"])

    record_numbers(1)
    worker()
    assert [1] == numbers


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_database_has_its_own_starts(old_events):
    @handles(COUNTED, name="numbers")
    def follow(event):
        pass

    record_numbers(1)
    record_numbers(1, using="other")
    assert 2 == OffsetStore("default").load("numbers").offset
    assert 0 == OffsetStore("other").load("numbers").offset
