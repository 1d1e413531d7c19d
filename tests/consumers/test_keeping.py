"""Runs that keep their lease for the next one, and runs that are asked to stop."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from django_eventstore import Outcome
from django_eventstore.consumers import ConsumerLoop, acquire, declared_consumer, move, pause, resume, set_partitions
from django_eventstore.consumers.leases import LONG_AGO, Tenure
from django_eventstore.models import ConsumerOffset, FailedDelivery, Lease
from django_eventstore.senders import HandlerSender
from django_eventstore.store import LogReader
from tests.delivery import (
    ENOUGH,
    Elsewhere,
    RecordingSender,
    consumer,
    failures,
    forwarder_of,
    offset_of,
    record_numbers,
    retry_now,
)

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)


def loop_of(sender: RecordingSender, **declared: object) -> ConsumerLoop:
    return ConsumerLoop(consumer=consumer(**declared), deliver=sender.send, using="default", lease=MINUTE)


def is_free() -> bool:
    tenure = acquire("numbers", using="default", length=MINUTE)
    if tenure is not None:
        tenure.release()
    return tenure is not None


def test_a_kept_lease_is_held_until_it_is_let_go_of() -> None:
    record_numbers(1)
    loop = loop_of(RecordingSender())
    loop.run(**ENOUGH, keep=True)
    assert loop.is_kept
    assert not is_free()
    loop.let_go()
    assert not loop.is_kept
    assert is_free()


def test_without_keep_the_lease_is_released_also_when_it_was_kept_before() -> None:
    record_numbers(1)
    loop = loop_of(RecordingSender())
    loop.run(**ENOUGH, keep=True)
    record_numbers(2)
    loop.run(**ENOUGH)
    assert not loop.is_kept
    assert is_free()


def test_the_next_run_goes_on_under_the_same_tenure_with_half_of_the_statements() -> None:
    sender = RecordingSender()
    loop = loop_of(sender)
    record_numbers(1)
    with CaptureQueriesContext(connection) as first:
        loop.run(**ENOUGH, keep=True)
    token = Lease.objects.get().token
    record_numbers(2)
    extent = LogReader("default").extent()
    with CaptureQueriesContext(connection) as second:
        assert 1 == loop.run(**ENOUGH, keep=True, extent=extent).delivered
    assert token == Lease.objects.get().token
    assert [[1], [2]] == sender.batches
    assert 2 == offset_of()
    assert len(second) * 2 <= len(first)
    if connection.vendor != "mysql":  # where the session's time-outs are set and put back
        assert 3 == len(second)  # may it go on, what is there, how far it came
    loop.let_go()


def test_each_run_counts_its_own_events() -> None:
    loop = loop_of(RecordingSender(), limit=2)
    record_numbers(1, 2, 3)
    assert 3 == loop.run(**ENOUGH, keep=True).delivered
    record_numbers(4, 5, 6, 7)
    run = loop.run(most_events=2, longest=MINUTE, keep=True)
    assert (2, True) == (run.delivered, run.more)
    assert not loop.is_kept  # it did not come to the end
    assert 2 == loop.run(**ENOUGH, keep=True).delivered
    loop.let_go()


def test_a_paused_consumer_is_let_go_of_and_delivers_nothing() -> None:
    sender = RecordingSender()
    loop = loop_of(sender)
    record_numbers(1)
    loop.run(**ENOUGH, keep=True)
    pause("numbers", reason="", using="default")
    record_numbers(2)
    loop.run(**ENOUGH, keep=True)
    assert [[1]] == sender.batches
    assert is_free()
    resume("numbers", using="default")
    loop.run(**ENOUGH)
    assert [[1], [2]] == sender.batches


def test_a_move_takes_a_kept_lease_away_and_is_followed() -> None:
    sender = RecordingSender()
    loop = loop_of(sender)
    record_numbers(1, 2)
    loop.run(**ENOUGH, keep=True)
    move(consumer(), 0, using="default")
    record_numbers(3)
    loop.run(**ENOUGH, keep=True)  # finds out when it saves
    assert not loop.is_kept
    loop.run(**ENOUGH, keep=True)
    assert [1, 2, 3] == sender.numbers[-3:]
    assert 3 == offset_of()
    loop.let_go()


def test_another_number_of_partitions_ends_the_keeping() -> None:
    sender = RecordingSender()
    loop = loop_of(sender)
    record_numbers(1)
    loop.run(**ENOUGH, keep=True)
    set_partitions(consumer(), 2, using="default")
    record_numbers(2)
    loop.run(**ENOUGH, keep=True)
    assert not loop.is_kept
    assert [[1]] == sender.batches


def test_events_that_failed_are_looked_after_by_a_full_run() -> None:
    def refuse_the_first(batch) -> Outcome:
        return Outcome(done=len(batch.entries), refused={1: ValueError("no")} if batch.entries[0].position == 1 else {})

    sender = RecordingSender(refuse_the_first)
    loop = loop_of(sender)
    record_numbers(1)
    loop.run(**ENOUGH, keep=True)
    assert [1] == [position for position, _, _ in failures()]
    sender.script = None
    retry_now()
    loop.run(**ENOUGH, keep=True)
    assert [] == failures()
    loop.let_go()


def test_progress_is_pruned_also_when_the_lease_is_kept_for_long() -> None:
    loop = loop_of(RecordingSender())
    for number in range(130):
        record_numbers(number)
        loop.run(**ENOUGH, keep=True)
    loop.let_go()
    assert ConsumerOffset.objects.count() < 130
    assert 130 == offset_of()


def test_a_lease_whose_release_failed_is_released_before_the_next_run(monkeypatch: pytest.MonkeyPatch) -> None:
    release, broken = Tenure.release, [True]

    def fail_once(tenure: Tenure) -> None:
        if broken.pop() if broken else False:
            raise OperationalError("server closed the connection")
        release(tenure)

    monkeypatch.setattr(Tenure, "release", fail_once)
    sender = RecordingSender()
    loop = loop_of(sender)
    record_numbers(1)
    with pytest.raises(OperationalError):
        loop.run(**ENOUGH)
    assert Lease.objects.get().owner != ""

    record_numbers(2)
    assert 1 == loop.run(**ENOUGH).delivered
    assert [[1], [2]] == sender.batches
    assert "" == Lease.objects.get().owner


def test_what_the_driver_raises_as_a_cursor_is_closed_is_an_error_of_django_for_who_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And Django then looks whether the connection is still of use."""

    def lose(tenure: Tenure) -> None:
        raise connection.Database.OperationalError(2013, "Lost connection to server during query")

    sender = RecordingSender()
    forwarder = forwarder_of(sender)
    record_numbers(1)
    with monkeypatch.context() as patch:
        patch.setattr(Tenure, "release", lose)
        with pytest.raises(OperationalError, match="Lost connection"):
            forwarder.get_and_send()
    assert connection.errors_occurred
    record_numbers(2)
    assert 1 == forwarder.get_and_send().delivered
    assert [[1], [2]] == sender.batches


# --- stopping ---


def test_asked_to_stop_it_begins_nothing_more_and_keeps_nothing() -> None:
    sender = RecordingSender()
    loop = loop_of(sender, limit=1)
    record_numbers(1, 2, 3)
    loop.run(**ENOUGH, stopping=lambda: len(sender.batches) == 2, keep=True)
    assert [[1], [2]] == sender.batches
    assert 2 == offset_of()
    assert not loop.is_kept
    assert is_free()


@pytest.mark.parametrize("transaction", ["event", "batch"])
def test_a_batch_of_handlers_stops_after_the_event_in_hand_and_what_it_did_stays(transaction) -> None:
    from django_eventstore import handles
    from django_eventstore.handlers import handler_registry

    called: list[int] = []
    handles("test.Counted", name="numbers", transaction=transaction, start="beginning")(
        lambda event: called.append(event["n"])
    )
    declared = declared_consumer("numbers")
    sender = HandlerSender(handlers=handler_registry.durable(), transaction=transaction)
    loop = ConsumerLoop(consumer=declared, deliver=sender.send, using="default", lease=MINUTE)
    record_numbers(*range(1, 11))

    loop.run(**ENOUGH, stopping=lambda: len(called) == 3)

    assert [1, 2, 3] == called
    assert 3 == offset_of()


def test_a_stop_right_after_a_worker_had_died_counts_as_no_further_death() -> None:
    sender = RecordingSender()
    loop = loop_of(sender)
    record_numbers(1)
    acquire("numbers", using="default", length=MINUTE)  # and never let go of
    Lease.objects.update(expires_at=LONG_AGO)
    loop.run(**ENOUGH, stopping=lambda: True)
    assert [] == sender.batches
    assert not FailedDelivery.objects.exists()


# --- threads ---


def test_what_one_thread_keeps_no_other_uses_or_releases(elsewhere: Elsewhere) -> None:
    sender = RecordingSender()
    loop = loop_of(sender)
    record_numbers(1)
    loop.run(**ENOUGH, keep=True)
    record_numbers(2)

    assert 0 == elsewhere(loop.run, **ENOUGH).result(30).delivered
    elsewhere(loop.let_go).result(30)

    assert [[1]] == sender.batches
    assert not is_free()
    assert 1 == loop.run(**ENOUGH).delivered
    assert is_free()
