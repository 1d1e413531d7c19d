from __future__ import annotations

import sys
from datetime import timedelta

import pytest
from django.contrib.admin.models import ADDITION, LogEntry
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_eventstore import Batch, EventEntry, EventForwarder, EventStore, Outcome, handles, record
from django_eventstore.consumers import acquire, declared_consumer
from django_eventstore.exceptions import EventDecodingError, LeaseLost
from django_eventstore.forwarding import make_sender
from django_eventstore.models import ConsumerOffset
from django_eventstore.senders import HandlerSender
from django_eventstore.senders import handlers as sender_module
from django_eventstore.senders.base import position_of
from tests.consumers.test_leases import MINUTE, expire
from tests.delivery import COUNTED, Clock, failure_of, failures, offset_of, record_numbers, refunds, retry_now, writes
from tests.shop.events import OrderCancelled
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = pytest.mark.parametrize("scope", ["event", "batch"])


class Failed(Exception):
    pass


def declare(function, *, scope="event", events=(COUNTED,), **given):
    """A durable handler of the numbers, from the beginning of the log."""
    return handles(
        *events, **{"name": "numbers", "consumer": "numbers", "start": "beginning", "transaction": scope, **given}
    )(function)


def forward(**bounds):
    return EventForwarder("numbers").get_and_send(**bounds)


def refund(event):
    Refund.objects.create(order_id=event["n"])


@BOTH
def test_each_event_is_handled_once_in_order(scope):
    seen = []
    declare(lambda event: seen.append(event["n"]), scope=scope)
    record_numbers(1, 2, 3)
    assert 3 == forward().delivered
    assert 0 == forward().delivered
    assert [1, 2, 3] == seen
    assert 3 == offset_of()


@pytest.mark.parametrize("scope, size", [("event", 100), ("batch", 1_000)])
def test_batches_of_a_batch_handler_are_larger(scope, size):
    declare(lambda event: None, scope=scope)
    assert size == make_sender(declared_consumer("numbers")).batch_size


def test_one_transaction_and_one_progress_row_per_event():
    inside = []

    def look(event):
        inside.append((connection.in_atomic_block, offset_of()))
        refund(event)

    declare(look)
    record_numbers(1, 2, 3)
    forward()
    assert [(True, 0), (True, 1), (True, 2)] == inside
    assert [0, 1, 2, 3] == list(ConsumerOffset.objects.order_by("id").values_list("offset", flat=True))


def test_one_transaction_and_one_progress_row_per_batch():
    inside = []

    def look(event):
        inside.append((connection.in_atomic_block, offset_of()))
        refund(event)

    declare(look, scope="batch")
    record_numbers(1, 2, 3)
    forward()
    assert [(True, 0)] * 3 == inside
    assert [0, 3] == list(ConsumerOffset.objects.order_by("id").values_list("offset", flat=True))


@BOTH
def test_a_failing_event_is_put_aside_and_the_others_are_kept(scope):
    def follow(event):
        refund(event)
        if event["n"] == 3:
            raise Failed("three")

    declare(follow, scope=scope)
    record_numbers(1, 2, 3, 4)
    run = forward()
    assert (3, False) == (run.delivered, run.more)
    assert [1, 2, 4] == refunds()
    assert 4 == offset_of()
    assert [(3, "blocked", 1)] == failures()
    assert "three" in failure_of(3).error
    assert "test_handlers.py" in failure_of(3).error  # the traceback leads to the handler


@BOTH
def test_after_the_fix_the_failed_event_is_handled(scope):
    broken = True

    def follow(event):
        refund(event)
        if event["n"] == 2 and broken:
            raise Failed

    declare(follow, scope=scope)
    record_numbers(1, 2, 3)
    forward()
    retry_now()
    forward()
    assert ([1, 3], [(2, "blocked", 2)]) == (refunds(), failures())
    broken = False
    retry_now()
    assert 1 == forward().delivered
    assert [1, 2, 3] == refunds()
    assert [] == failures()


def test_a_batch_of_failing_events_leaves_nothing():
    def follow(event):
        refund(event)
        raise Failed

    declare(follow, scope="batch")
    record_numbers(1, 2)
    assert 0 == forward().delivered
    assert [] == refunds()
    assert [(1, "blocked", 1), (2, "blocked", 1)] == failures()


@pytest.mark.parametrize(
    "bad, expected",
    [
        (1, [1, 1, 2, 3, 4]),
        (3, [1, 2, 3, 1, 2, 3, 4]),
        (4, [1, 2, 3, 4, 1, 2, 3, 4]),
    ],
)
def test_what_was_before_a_failing_event_of_a_batch_is_repeated_in_one_transaction(bad, expected):
    calls = []

    def follow(event):
        calls.append(event["n"])
        refund(event)
        if event["n"] == bad:
            raise Failed

    declare(follow, scope="batch")
    record_numbers(1, 2, 3, 4)
    assert 3 == forward().delivered
    assert expected == calls
    assert [n for n in (1, 2, 3, 4) if n != bad] == refunds()
    assert [(bad, "blocked", 1)] == failures()
    saved = [0, *([bad - 1] if bad > 1 else []), bad, *([4] if bad < 4 else [])]
    assert saved == list(ConsumerOffset.objects.order_by("id").values_list("offset", flat=True))


def test_an_event_of_a_batch_that_fails_once_is_handled_at_once():
    calls = []

    def follow(event):
        calls.append(event["n"])
        refund(event)
        if calls == [1, 2]:
            raise Failed

    declare(follow, scope="batch")
    record_numbers(1, 2, 3)
    assert 3 == forward().delivered
    assert [1, 2, 1, 2, 3] == calls
    assert [1, 2, 3] == refunds()
    assert [] == failures()


def test_a_batch_that_fails_elsewhere_when_it_is_repeated_is_repeated_event_by_event():
    calls = []

    def follow(event):
        calls.append(event["n"])
        refund(event)
        if event["n"] == 3 or len(calls) == 5:
            raise Failed

    declare(follow, scope="batch")
    record_numbers(1, 2, 3, 4)
    assert 3 == forward().delivered
    assert [1, 2, 3, 1, 2, 1, 2, 3, 4] == calls
    assert [1, 2, 4] == refunds()
    assert [(3, "blocked", 1)] == failures()


def test_a_repeated_batch_that_takes_too_long_leaves_the_failed_event_for_the_next():
    clock, calls = Clock(), []

    def follow(event):
        calls.append(event["n"])
        refund(event)
        if calls == [1, 2, 3]:
            raise Failed
        if len(calls) > 3:
            clock.now += 30

    declare(follow, scope="batch")
    record_numbers(1, 2, 3)
    consumer = declared_consumer("numbers")
    assert 3 == EventForwarder(consumer, sender=HandlerSender(**consumer.options, clock=clock)).get_and_send().delivered
    assert [1, 2, 3, 1, 2, 3] == calls
    assert [1, 2, 3] == refunds()


@BOTH
@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_worker_that_is_stopped_leaves_effect_and_offset_together(scope, stop):
    stopping = True

    def follow(event):
        refund(event)
        if event["n"] == 2 and stopping:
            raise stop

    declare(follow, scope=scope)
    record_numbers(1, 2, 3)
    with pytest.raises(stop):
        forward()
    assert len(refunds()) == offset_of()
    stopping = False
    forward()
    assert [1, 2, 3] == refunds()
    assert [] == failures()


@BOTH
def test_a_process_that_dies_between_effect_and_commit_leaves_neither(scope, spawn):
    record_numbers(1, 2, 3)
    program = f"""
import django, os
django.setup()
from django_eventstore import Batch, EventEntry, EventForwarder, EventStore, Outcome, handles, record
from tests.shop.models import Refund

@handles({COUNTED!r}, name="numbers", start="beginning", transaction={scope!r})
def follow(event):
    Refund.objects.create(order_id=event["n"])
    if event["n"] == 2:
        print("dying", flush=True)
        os._exit(9)

EventForwarder("numbers").get_and_send()
"""
    process = spawn("-c", program)
    assert 9 == process.wait(check=False)
    assert "dying" in process.output
    assert len(refunds()) == offset_of() == (1 if scope == "event" else 0)
    declare(refund, scope=scope)
    assert 0 == forward().delivered  # the dead one's lease is not over
    expire()
    forward()
    assert [1, 2, 3] == refunds()


@BOTH
def test_a_failure_at_the_commit_is_the_failure_of_its_event(scope):
    """Foreign keys are checked when the transaction commits (on MariaDB at once)."""

    def follow(event):
        if event["n"] == 2:
            LogEntry.objects.create(user_id=4_711, action_flag=ADDITION, object_repr="of a user who does not exist")
        refund(event)

    declare(follow, scope=scope)
    record_numbers(1, 2, 3)
    assert 2 == forward().delivered
    assert [1, 3] == refunds()
    assert 3 == offset_of()
    assert [(2, "blocked", 1)] == failures()
    assert "IntegrityError" in failure_of(2).error


@BOTH
def test_a_failed_statement_of_an_event_does_not_spoil_the_next(scope):
    def follow(event):
        if event["n"] == 2:
            with connection.cursor() as cursor:
                cursor.execute("SELECT nonsense FROM nowhere")
        refund(event)

    declare(follow, scope=scope)
    record_numbers(1, 2, 3)
    assert 2 == forward().delivered
    assert [1, 3] == refunds()
    assert [(2, "blocked", 1)] == failures()


@BOTH
def test_an_async_handler_and_its_effects_are_in_the_transaction(scope):
    async def follow(event):
        await Refund.objects.acreate(order_id=event["n"])
        if event["n"] == 2:
            raise Failed

    declare(follow, scope=scope)
    record_numbers(1, 2)
    forward()
    assert [1] == refunds()
    assert [(2, "blocked", 1)] == failures()


def test_a_typed_handler_with_a_payload_that_does_not_fit_is_a_failing_event():
    def follow(event):
        raise AssertionError("called")

    declare(follow, events=(OrderCancelled,))
    with transaction.atomic():
        record("shop.OrderCancelled", {"order_id": "no number", "reason": ""})
    assert 0 == forward().delivered
    assert [(1, "blocked", 1)] == failures()
    assert EventDecodingError.__name__ in failure_of(1).error


@BOTH
def test_handlers_of_one_consumer_run_in_order_in_one_transaction(scope):
    calls = []

    def first(event):
        calls.append(("first", event["n"]))
        refund(event)

    def second(event):
        calls.append(("second", event["n"]))
        if event["n"] == 2:
            raise Failed

    declare(first, scope=scope, name="first")
    declare(second, scope=scope, name="second")
    record_numbers(1, 2)
    forward()
    assert [1] == refunds()
    assert [("first", 1), ("second", 1), ("first", 2), ("second", 2)] == calls[-4:]


def test_a_handler_of_a_shared_consumer_gets_only_what_it_wants():
    seen = []
    declare(lambda event: seen.append("first"), name="first", events=("test.Other",))
    declare(lambda event: seen.append("second"), name="second")
    record_numbers(1)
    forward()
    assert ["second"] == seen


@BOTH
def test_of_a_batch_that_takes_too_long_the_rest_is_left_for_the_next(scope):
    clock, sizes = Clock(), []
    held = acquire("numbers", using="default", length=MINUTE)
    held.release()

    def slow(event):
        clock.now += 3
        sizes.append(event["n"])

    declare(slow, scope=scope)
    record_numbers(*range(6))
    consumer = declared_consumer("numbers")
    sender = HandlerSender(**consumer.options, clock=clock)
    forwarder = EventForwarder(consumer, sender=sender)
    outcomes = []
    (loop,) = forwarder.loops(1)
    send = loop.deliver

    def watched(batch):
        outcomes.append(send(batch))
        return outcomes[-1]

    loop.deliver = watched
    assert 6 == forwarder.get_and_send().delivered
    assert [2, 2, 2] == [outcome.done for outcome in outcomes]
    assert [0, 1, 2, 3, 4, 5] == sizes
    assert timedelta(seconds=5) == sender_module.LONGEST_BATCH


def test_an_event_that_takes_longer_than_a_batch_may_is_still_handled():
    clock = Clock()

    def slow(event):
        clock.now += 30

    declare(slow)
    record_numbers(1, 2)
    consumer = declared_consumer("numbers")
    assert 2 == EventForwarder(consumer, sender=HandlerSender(**consumer.options, clock=clock)).get_and_send().delivered


@pytest.mark.postgresql  # SQLite has one writer at a time: nobody takes over inside its transaction
@pytest.mark.mariadb
@BOTH
def test_an_event_whose_lease_was_lost_meanwhile_leaves_nothing(scope, elsewhere):
    def overtaken(event):
        refund(event)

        def take_over():
            expire()
            return acquire("numbers", using="default", length=MINUTE)

        assert elsewhere(take_over).result(10) is not None

    declare(overtaken, scope=scope)
    record_numbers(1, 2)
    assert 0 == forward().delivered
    assert [] == refunds()
    assert 0 == offset_of()
    assert [] == failures()


def send_all(*, advance=lambda position: None, still_held=lambda: True):
    """Send the whole log as one batch."""
    page = EventStore().get()
    batch = Batch(
        consumer="numbers",
        entries=page.entries,
        log=page.log,
        epoch=page.epoch,
        using="default",
        advance=advance,
        is_saved=lambda position: False,
        begin=lambda: None,
        still_held=still_held,
    )
    return make_sender(declared_consumer("numbers")).send(batch)


def test_a_lease_that_is_over_by_its_own_clock_begins_no_further_event():
    seen = []
    declare(lambda event: seen.append(event["n"]))
    record_numbers(1, 2, 3)
    assert Outcome(done=2) == send_all(still_held=lambda: len(seen) < 2)
    assert [1, 2] == seen


@BOTH
@pytest.mark.parametrize("error", [LeaseLost(consumer="numbers", token=1), KeyboardInterrupt()])
def test_what_stops_the_saving_of_the_offset_takes_the_effects_with_it(scope, error):
    declare(refund, scope=scope)
    record_numbers(1, 2)

    def advance(position):
        assert connection.in_atomic_block
        Refund.objects.create(order_id=-position)  # as the progress row is
        raise error

    with pytest.raises(type(error)):
        send_all(advance=advance)
    assert [] == refunds()


@BOTH
def test_a_handled_event_costs_no_update(scope):
    declare(refund, scope=scope)
    record_numbers(0)
    forward()
    record_numbers(*range(5))
    with CaptureQueriesContext(connection) as captured:
        forward()
    updates = [sql for sql in writes(captured) if sql.lstrip().startswith("UPDATE") and "eventstore_lease" not in sql]
    assert [] == [sql for sql in updates if "offset" in sql or "state" in sql]


def test_what_a_handler_records_is_in_its_transaction():
    def follow(event):
        record("test.Consequence", event)
        if event["n"] == 2:
            raise Failed

    declare(follow)
    record_numbers(1, 2)
    forward()
    assert [1] == [entry.data["n"] for entry in EventStore().get(types=["test.Consequence"]).entries]


def test_the_sender_of_handlers_is_made_from_their_consumer():
    declare(refund, scope="batch")
    sender = make_sender(declared_consumer("numbers"))
    assert isinstance(sender, HandlerSender)
    assert "batch" == sender.transaction
    assert ["numbers"] == [handler.name for handler in sender.handlers]


def test_an_entry_that_does_not_come_from_the_log_is_refused():
    with pytest.raises(ValueError, match="has no position"):
        position_of(EventEntry(type=COUNTED))


def test_a_handler_that_recurses_too_deeply_is_a_failing_event():
    def follow(event):
        follow(event)

    declare(follow)
    record_numbers(1)
    limit = sys.getrecursionlimit()
    assert 0 == forward().delivered
    assert "RecursionError" in failure_of(1).error
    assert limit == sys.getrecursionlimit()
