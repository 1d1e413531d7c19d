from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import TestCase
from django.test.utils import CaptureQueriesContext

from django_eventstore import EventStore, OffsetStore, Outcome
from django_eventstore.consumers import ConsumerLoop, Partition, acquire, move, pause, resume, set_partitions
from django_eventstore.consumers import loop as loop_module
from django_eventstore.delivery import DeliveryPolicy
from django_eventstore.exceptions import EpochChanged
from django_eventstore.models import ConsumerOffset, ConsumerState, Lease
from django_eventstore.models.fields import DatabaseNow
from django_eventstore.signals import batch_delivered, consumer_waiting, delivery_failed
from django_eventstore.store import LogReader, begin_epoch, log_state
from tests.consumers.test_leases import MINUTE, expire
from tests.delivery import (
    ENOUGH,
    Clock,
    RecordingSender,
    consumer,
    failure_of,
    failures,
    numbers_of,
    offset_of,
    record_numbers,
    retry_now,
    state_of,
    writes,
)

pytestmark = pytest.mark.django_db(transaction=True)


class Unavailable(Exception):
    pass


def loop_of(deliver=None, *, sender=None, clock=time.monotonic, **declared):
    sender = sender or RecordingSender()
    return ConsumerLoop(
        consumer=consumer(**declared), deliver=deliver or sender.send, using="default", lease=MINUTE, clock=clock
    )


@pytest.fixture
def sender():
    return RecordingSender()


@pytest.fixture
def loop(sender):
    return loop_of(sender=sender)


def offsets():
    return list(ConsumerOffset.objects.order_by("id").values_list("offset", flat=True))


# --- what is delivered ---


def test_it_delivers_what_is_after_the_offset_and_saves_the_next_one(loop, sender):
    record_numbers(1, 2, 3)
    run = loop.run(**ENOUGH)
    assert (3, False) == (run.delivered, run.more)
    assert [[1, 2, 3]] == sender.batches
    assert 3 == offset_of()


def test_the_next_run_goes_on_after_it(loop, sender):
    record_numbers(1, 2)
    loop.run(**ENOUGH)
    record_numbers(3)
    loop.run(**ENOUGH)
    assert [[1, 2], [3]] == sender.batches


def test_another_process_goes_on_after_it(loop, sender):
    record_numbers(1, 2)
    loop.run(**ENOUGH)
    record_numbers(3)
    loop_of(sender=sender).run(**ENOUGH)
    assert [[1, 2], [3]] == sender.batches


def test_batches_have_at_most_as_many_entries_as_the_consumer_says(sender):
    record_numbers(*range(7))
    assert 7 == loop_of(sender=sender, limit=3).run(**ENOUGH).delivered
    assert [[0, 1, 2], [3, 4, 5], [6]] == sender.batches
    assert [0, 3, 6, 7] == offsets()


def test_a_batch_tells_what_it_is_of():
    record_numbers(1)
    got = []

    def deliver(batch):
        got.append(batch)
        assert batch.still_held()
        return Outcome(done=1)

    loop_of(deliver).run(**ENOUGH)
    (batch,) = got
    state = log_state("default")
    assert ("numbers", state.log, state.epoch, "default") == (batch.consumer, batch.log, batch.epoch, batch.using)
    assert [1] == [entry.position for entry in batch.entries]


def test_only_wanted_events_are_delivered(sender):
    for name in ("orders.Placed", "orders.lines.Added", "orders2.Placed", "billing.Paid", "orders.Placed"):
        record_numbers(1, type=name)
    got = []

    def deliver(batch):
        got.extend(entry.type for entry in batch.entries)
        return Outcome(done=len(batch.entries))

    loop_of(deliver, events=("orders.*", "billing.Paid")).run(**ENOUGH)
    assert ["orders.Placed", "orders.lines.Added", "billing.Paid", "orders.Placed"] == got
    assert 5 == offset_of()


def test_a_type_that_appears_later_is_found_where_nothing_was_wanted_before(loop, sender):
    record_numbers(1, 2, type="test.Other")
    assert 0 == loop.run(**ENOUGH).delivered
    record_numbers(3)
    assert 1 == loop.run(**ENOUGH).delivered
    assert [3] == sender.numbers


def test_more_than_thirty_two_types_are_wanted(sender):
    types = [f"many.Type{n}" for n in range(40)]
    for n, name in enumerate(types):
        record_numbers(n, type=name)
        record_numbers(-1, type="test.Other")
    loop_of(sender=sender, events=("many.*",)).run(**ENOUGH)
    assert list(range(40)) == sender.numbers


def test_batch_delivered_tells_consumer_number_and_offset(loop):
    record_numbers(1, 2)
    got = []

    def receiver(*, consumer, delivered, offset, **kwargs):
        got.append((consumer, delivered, offset))

    batch_delivered.connect(receiver)
    try:
        loop.run(**ENOUGH)
    finally:
        batch_delivered.disconnect(receiver)
    assert [("numbers", 2, 2)] == got


def test_a_receiver_that_raises_does_not_stop_the_delivery(loop, sender):
    record_numbers(1, 2)

    def bad(**kwargs):
        raise Unavailable

    batch_delivered.connect(bad)
    try:
        assert 2 == loop.run(**ENOUGH).delivered
    finally:
        batch_delivered.disconnect(bad)
    assert 2 == offset_of()


# --- the bounds of a run ---


def test_it_stops_at_its_number_of_events_and_says_that_there_is_more(sender):
    record_numbers(*range(10))
    loop = loop_of(sender=sender, limit=2)
    run = loop.run(most_events=4, longest=timedelta(minutes=1))
    assert (4, True) == (run.delivered, run.more)
    assert 4 == offset_of()
    run = loop.run(**ENOUGH)
    assert (6, False) == (run.delivered, run.more)
    assert list(range(10)) == sender.numbers


def test_at_the_end_of_the_log_there_is_no_more_though_the_number_was_reached(sender):
    record_numbers(*range(4))
    run = loop_of(sender=sender, limit=2).run(most_events=4, longest=timedelta(minutes=1))
    assert 4 == run.delivered


def test_it_stops_when_its_time_is_over_and_says_that_there_is_more(sender):
    record_numbers(*range(10))
    clock = Clock()

    def slow(batch):
        clock.now += 5
        return Outcome(done=len(batch.entries))

    sender.script = slow
    run = loop_of(sender=sender, limit=2, clock=clock).run(most_events=100, longest=timedelta(seconds=9))
    assert (4, True) == (run.delivered, run.more)


def test_a_long_run_renews_its_lease(sender):
    record_numbers(*range(10))
    clock = Clock()
    left = []

    def slow(batch):
        left.append(Lease.objects.get().expires_at)
        assert batch.still_held()
        clock.now += 40
        return Outcome(done=len(batch.entries))

    sender.script = slow
    run = loop_of(sender=sender, limit=2, clock=clock).run(most_events=100, longest=timedelta(hours=1))
    assert 10 == run.delivered
    assert left == sorted(set(left))


def test_it_releases_the_lease_at_its_end(loop):
    record_numbers(1)
    loop.run(**ENOUGH)
    assert acquire("numbers", using="default", length=MINUTE) is not None


def test_it_releases_the_lease_when_the_worker_is_stopped():
    record_numbers(1)

    def deliver(batch):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop_of(deliver).run(**ENOUGH)
    assert 0 == offset_of()
    assert acquire("numbers", using="default", length=MINUTE) is not None


# --- what is written ---


def test_an_idle_consumer_writes_nothing(loop):
    record_numbers(1)
    loop.run(**ENOUGH)
    with CaptureQueriesContext(connection) as captured:
        loop.run(**ENOUGH)
        loop.run(**ENOUGH)
    assert [] == writes(captured)


def test_a_consumer_that_wants_none_of_the_new_events_writes_nothing(loop):
    record_numbers(1)
    loop.run(**ENOUGH)
    record_numbers(*range(20), type="test.Other")
    EventStore().get()  # sequenced by somebody
    with CaptureQueriesContext(connection) as captured:
        loop.run(**ENOUGH)
    assert [] == writes(captured)
    assert 1 == offset_of()


def test_what_was_passed_over_is_not_looked_at_again(loop):
    record_numbers(*range(20), type="test.Other")
    EventStore().get()
    state = log_state("default")
    assert loop.is_behind(state)
    loop.run(**ENOUGH)
    assert not loop.is_behind(state)
    record_numbers(1)
    EventStore().get()
    assert loop.is_behind(log_state("default"))


@pytest.mark.parametrize("unwanted, saved", [(999, 0), (1_000, 1_000)])
def test_passing_over_unwanted_events_is_saved_only_every_thousand(loop, unwanted, saved):
    record_numbers(1, type="test.Other")
    EventStore().save(*[many(number) for number in range(unwanted - 1)])
    assert 0 == loop.run(**ENOUGH).delivered
    assert saved == offset_of()


def many(number):
    from tests.shop.events import OrderCancelled

    return OrderCancelled(order_id=number, reason="")


def test_one_row_is_written_per_batch(sender):
    record_numbers(*range(6))
    with CaptureQueriesContext(connection) as captured:
        loop_of(sender=sender, limit=2).run(**ENOUGH)
    inserts = [sql for sql in writes(captured) if "eventstore_consumer_offset" in sql]
    assert 1 + 3 == len(inserts)  # where it starts, and three batches
    assert all(sql.lstrip().startswith("INSERT") for sql in inserts)


def test_rows_are_pruned_after_many_advances(monkeypatch, sender):
    monkeypatch.setattr(loop_module, "PRUNE_AFTER", 5)
    record_numbers(*range(10))
    loop_of(sender=sender, limit=2).run(**ENOUGH)
    assert [10] == offsets()


def test_rows_are_pruned_every_so_many_tenures(loop):
    for number in range(loop_module.PRUNE_EVERY_TENURE):
        record_numbers(number)
        loop.run(**ENOUGH)
    assert [loop_module.PRUNE_EVERY_TENURE] == offsets()


def test_few_rows_are_left_alone(loop):
    for number in range(3):
        record_numbers(number)
        loop.run(**ENOUGH)
    assert [0, 1, 2, 3] == offsets()


# --- what senders answer ---


def test_of_what_a_sender_does_not_claim_nothing_is_saved_and_it_comes_again(loop, sender):
    record_numbers(1, 2, 3)
    answers = iter([Outcome(done=1), Outcome(done=2)])
    sender.script = lambda batch: next(answers)
    assert 3 == loop.run(**ENOUGH).delivered
    assert [[1, 2, 3], [2, 3]] == sender.batches
    assert [0, 1, 3] == offsets()


def test_a_sender_that_accepts_nothing_is_asked_again_only_by_the_next_run(loop, sender):
    record_numbers(1, 2)
    sender.script = lambda batch: Outcome(done=0)
    run = loop.run(**ENOUGH)
    assert (0, False) == (run.delivered, run.more)
    assert [[1, 2]] == sender.batches
    assert 0 == offset_of()
    assert 0 == state_of().attempts


@pytest.mark.parametrize("answer", [Outcome(done=4), None, "done", 3])
def test_a_sender_that_answers_nonsense_is_unavailable(loop, sender, answer):
    record_numbers(1, 2, 3)
    sender.script = lambda batch: answer
    assert 0 == loop.run(**ENOUGH).delivered
    assert 0 == offset_of()
    assert ([], 1) == (failures(), state_of().attempts)


def test_a_claim_of_more_than_the_batch_is_named_in_the_error(loop, sender):
    record_numbers(1, 2, 3)
    sender.script = lambda batch: Outcome(done=4)
    loop.run(**ENOUGH)
    assert "claims 4 of 3" in state_of().error


def test_a_sender_that_raises_is_unavailable_and_no_event_is_blamed(loop, sender):
    record_numbers(1, 2)

    def broken(batch):
        raise Unavailable("broker down")

    sender.script = broken
    run = loop.run(**ENOUGH)
    assert (0, False) == (run.delivered, run.more)
    state = state_of()
    assert ([], 1) == (failures(), state.attempts)
    assert "broker down" in state.error
    assert state.waiting_since is not None
    assert state.retry_at is not None
    assert 0 == offset_of()


def test_an_event_refused_in_the_middle_is_put_aside_and_the_others_flow(loop, sender):
    record_numbers(*range(1, 6))
    sender.script = lambda batch: Outcome(done=5, refused={3: Unavailable("bad event")})
    run = loop.run(**ENOUGH)
    assert (4, False) == (run.delivered, run.more)
    assert 5 == offset_of()
    assert [(3, "blocked", 1)] == failures()
    assert "bad event" in failure_of(3).error


def test_several_refused_events_are_put_aside(loop, sender):
    record_numbers(*range(1, 6))
    sender.script = lambda batch: Outcome(done=5, refused={4: Unavailable(), 2: Unavailable()})
    loop.run(**ENOUGH)
    assert 5 == offset_of()
    assert [(2, "blocked", 1), (4, "blocked", 1)] == failures()


def test_the_offset_passes_a_refused_event_with_its_failure_in_one_transaction(loop, sender):
    record_numbers(1, 2)
    sender.script = lambda batch: (
        Outcome(done=1, refused={1: Unavailable()}) if batch.entries[0].position == 1 else Outcome(done=0)
    )
    assert 0 == loop.run(**ENOUGH).delivered
    assert [0, 1] == offsets()
    assert [(1, "blocked", 1)] == failures()


def test_of_what_is_refused_beyond_done_nothing_is_claimed(loop, sender):
    record_numbers(1, 2, 3)
    answers = iter([Outcome(done=1, refused={3: Unavailable()}), Outcome(done=2)])
    sender.script = lambda batch: next(answers)
    assert 3 == loop.run(**ENOUGH).delivered
    assert [] == failures()


# --- a sender that is unavailable ---


def unavailable(batch):
    raise Unavailable("broker down")


def patient(base, cap):
    """A policy that waits as long as it may, in place of a drawn time."""
    return DeliveryPolicy(base=base, cap=cap, draw=lambda low, high: high)


HOUR = timedelta(hours=1)


def test_the_wait_grows_with_each_attempt_up_to_the_cap(sender):
    loop = loop_of(sender=sender, policy=patient(timedelta(seconds=10), timedelta(seconds=35)))
    record_numbers(1)
    sender.script = unavailable
    waits = []
    for attempts in range(1, 5):
        before = ConsumerState.objects.annotate(now=DatabaseNow()).values_list("now", flat=True).first()
        loop.run(**ENOUGH)
        assert attempts == state_of().attempts
        if before is not None:
            waits.append(round((state_of().retry_at - before).total_seconds()))
        retry_now()
    assert [20, 35, 35] == waits[-3:]


def test_while_it_waits_nothing_is_sent(sender):
    loop = loop_of(sender=sender, policy=patient(HOUR, HOUR))
    record_numbers(1)
    sender.script = unavailable
    loop.run(**ENOUGH)
    loop.run(**ENOUGH)
    assert [[1]] == sender.batches
    assert 1 == state_of().attempts


def test_the_wait_ends_by_itself(sender):
    loop = loop_of(sender=sender, policy=patient(timedelta(milliseconds=50), timedelta(milliseconds=50)))
    record_numbers(1)
    sender.script = unavailable
    loop.run(**ENOUGH)
    time.sleep(0.1)
    loop.run(**ENOUGH)
    assert 2 == state_of().attempts


def test_when_the_sender_is_back_it_goes_on_and_the_failure_is_cleared(loop, sender):
    record_numbers(1, 2, 3)
    sender.script = unavailable
    loop.run(**ENOUGH)
    retry_now()
    sender.script = None
    assert 3 == loop.run(**ENOUGH).delivered
    assert [1, 2, 3, 1, 2, 3] == sender.numbers
    state = state_of()
    assert (None, 0, "", None) == (state.waiting_since, state.attempts, state.error, state.retry_at)


def test_a_failure_of_what_is_not_wanted_any_more_is_cleared(loop, sender):
    record_numbers(1)
    sender.script = unavailable
    loop.run(**ENOUGH)
    retry_now()
    assert 0 == loop_of(events=("test.Other",)).run(**ENOUGH).delivered
    assert (0, "") == (state_of().attempts, state_of().error)


def test_a_partition_without_events_clears_no_failure_of_another(sender):
    def part(number):
        return ConsumerLoop(
            consumer=consumer(),
            deliver=sender.send,
            using="default",
            lease=MINUTE,
            partition=Partition(consumer="numbers", number=number, count=2),
        )

    set_partitions(consumer(), 2, using="default")
    record_numbers(1)  # one stream, and so in one partition
    sender.script = unavailable
    for number in range(2):
        part(number).run(**ENOUGH)
    retry_now()
    for number in reversed(range(2)):
        part(number).run(**ENOUGH)
    assert 2 == state_of().attempts
    retry_now()
    for number in range(2):
        part(number).run(**ENOUGH)
    assert 3 == state_of().attempts
    sender.script = None
    retry_now()
    assert [0, 1] == sorted(part(number).run(**ENOUGH).delivered for number in range(2))
    assert (0, "") == (state_of().attempts, state_of().error)


def test_consumer_waiting_tells_consumer_error_attempts_and_delay(sender):
    loop = loop_of(sender=sender, policy=patient(HOUR, HOUR))
    record_numbers(1)
    sender.script = unavailable
    got = []

    def receiver(*, consumer, error, attempts, retry_after, **kwargs):
        got.append((consumer, str(error), attempts, retry_after))

    consumer_waiting.connect(receiver)
    try:
        loop.run(**ENOUGH)
    finally:
        consumer_waiting.disconnect(receiver)
    assert [("numbers", "broker down", 1, HOUR)] == got


def test_a_worker_that_has_lost_its_lease_says_nothing_about_the_consumer(loop, sender):
    """Its successor may have delivered the very event meanwhile."""
    record_numbers(1)

    def overtaken(batch):
        expire()
        tenure = acquire("numbers", using="default", length=MINUTE)
        OffsetStore().advance("numbers", 1, epoch=1, token=tenure.token)
        raise Unavailable

    sender.script = overtaken
    assert 0 == loop.run(**ENOUGH).delivered
    assert 0 == state_of().attempts


def test_a_worker_that_has_lost_its_lease_saves_nothing(loop, sender):
    record_numbers(1, 2)

    def overtaken(batch):
        expire()
        tenure = acquire("numbers", using="default", length=MINUTE)
        OffsetStore().advance("numbers", 1, epoch=1, token=tenure.token)
        return Outcome(done=2)

    sender.script = overtaken
    assert 0 == loop.run(**ENOUGH).delivered
    assert 1 == offset_of()


def test_delivery_failed_tells_consumer_position_and_error(loop, sender):
    record_numbers(1)
    error, got = Unavailable(), []
    sender.script = lambda batch: Outcome(done=1, refused={1: error})

    def receiver(*, consumer, position, error, **kwargs):
        got.append((consumer, position, error))

    delivery_failed.connect(receiver)
    try:
        loop.run(**ENOUGH)
    finally:
        delivery_failed.disconnect(receiver)
    assert [("numbers", 1, error)] == got


@pytest.mark.parametrize(
    "text",
    ["nul \0 in it", "surrogate \ud800 in it", "x" * 50_000, "emoji 😀"],
    ids=["nul", "surrogate", "long", "emoji"],
)
def test_any_text_of_an_error_is_kept_as_far_as_a_database_can(loop, sender, text, caplog):
    caplog.set_level(
        "CRITICAL", logger="django_eventstore"
    )  # pytest-xdist cannot carry a surrogate from process to process
    record_numbers(1)
    sender.script = lambda batch: Outcome(done=1, refused={1: Unavailable(text)})
    loop.run(**ENOUGH)
    assert text[-5:].strip() in failure_of(1).error
    assert len(failure_of(1).error) <= 10_010


# --- pauses, epochs, and other workers ---


def test_a_paused_consumer_gets_nothing_until_it_is_resumed(loop, sender):
    record_numbers(1)
    pause("numbers", reason="moving house", using="default")
    assert 0 == loop.run(**ENOUGH).delivered
    assert "moving house" == state_of().paused_reason
    resume("numbers", using="default")
    assert 1 == loop.run(**ENOUGH).delivered
    assert (None, "") == (state_of().paused_at, state_of().paused_reason)


def test_a_pause_is_noticed_between_two_batches(sender):
    record_numbers(*range(6))

    def pausing(batch):
        pause("numbers", reason="enough", using="default")
        return Outcome(done=len(batch.entries))

    sender.script = pausing
    assert 2 == loop_of(sender=sender, limit=2).run(**ENOUGH).delivered
    assert 2 == offset_of()


def test_resuming_ends_the_wait_for_a_retry(sender):
    loop = loop_of(sender=sender, policy=patient(HOUR, HOUR))
    record_numbers(1)
    sender.script = unavailable
    loop.run(**ENOUGH)
    resume("numbers", using="default")
    sender.script = None
    assert 1 == loop.run(**ENOUGH).delivered


def test_a_new_epoch_that_shares_the_offset_stops_nobody(loop, sender):
    record_numbers(1, 2)
    loop.run(**ENOUGH)
    begin_epoch("default", reason="test")
    record_numbers(3)
    assert 1 == loop.run(**ENOUGH).delivered
    assert 2 == OffsetStore().load("numbers").epoch


def test_a_new_epoch_that_does_not_share_the_offset_is_a_visible_failure(loop, sender):
    record_numbers(1, 2)
    loop.run(**ENOUGH)
    begin_epoch("default", after=1, reason="test")
    record_numbers(3)
    assert 0 == loop.run(**ENOUGH).delivered
    assert [[1, 2]] == sender.batches
    assert EpochChanged.__name__ in state_of().error
    assert 1 == state_of().attempts


@pytest.mark.parametrize("again", [False, True])
def test_an_extent_that_is_older_than_what_others_did_is_looked_at_again(sender, again):
    """One pass serves all consumers of a tick; meanwhile another worker may deliver, and an epoch may begin."""
    record_numbers(1)
    extent = LogReader("default").extent()
    record_numbers(2)
    if again:
        begin_epoch("default", reason="test")
    loop_of(sender=sender).run(**ENOUGH)
    record_numbers(3)
    assert 1 == loop_of(sender=sender).run(**ENOUGH, extent=extent).delivered
    assert [[1, 2], [3]] == sender.batches
    assert 0 == state_of().attempts


def test_after_a_reset_into_the_new_epoch_it_goes_on_and_the_failure_is_cleared(loop, sender):
    record_numbers(1, 2)
    loop.run(**ENOUGH)
    begin_epoch("default", after=1, reason="test")
    loop.run(**ENOUGH)
    move(consumer(), 2, using="default")
    assert 0 == loop.run(**ENOUGH).delivered
    assert (0, "") == (state_of().attempts, state_of().error)
    record_numbers(3)
    assert 1 == loop.run(**ENOUGH).delivered


def test_a_new_epoch_is_told_apart_by_what_was_passed_over(loop, sender):
    """What this process passed over was in the other history."""
    record_numbers(*range(4), type="test.Other")
    loop.run(**ENOUGH)
    begin_epoch("default", after=2, reason="test")
    record_numbers(5)
    assert 1 == loop.run(**ENOUGH).delivered
    assert 0 == state_of().attempts


def test_an_offset_above_the_head_is_a_visible_failure(loop):
    OffsetStore().register([consumer(start=7)])
    assert loop.is_behind(log_state("default"))
    loop.run(**ENOUGH)
    assert EpochChanged.__name__ in state_of().error


def test_a_consumer_that_another_worker_holds_is_left_to_it(loop, sender):
    record_numbers(1)
    held = acquire("numbers", using="default", length=MINUTE)
    assert 0 == loop.run(**ENOUGH).delivered
    assert [] == sender.batches
    held.release()
    assert 1 == loop.run(**ENOUGH).delivered


def test_two_workers_at_once_never_deliver_at_the_same_time(elsewhere):
    record_numbers(*range(40))
    inside, most, got = 0, 0, []
    lock = threading.Lock()

    def deliver(batch):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.005)
        with lock:
            inside -= 1
            got.extend(numbers_of(batch.entries))
        return Outcome(done=len(batch.entries))

    def work():
        loop = loop_of(deliver, limit=2)
        until = time.monotonic() + 20
        while offset_of() != 40 and time.monotonic() < until:
            loop.run(most_events=4, longest=timedelta(seconds=5))

    for worker in [elsewhere(work) for _ in range(3)]:
        worker.result(60)
    assert 1 == most
    assert list(range(40)) == got


def test_what_somebody_delivered_between_the_look_and_the_lease_is_not_delivered_again(loop, sender, monkeypatch):
    record_numbers(1, 2, 3)

    def late(*args, **kwargs):
        tenure = acquire(*args, **kwargs)
        OffsetStore().advance("numbers", 2, epoch=1, token=tenure.token)
        tenure.release()
        return acquire(*args, **kwargs)

    monkeypatch.setattr(loop_module, "acquire", late)
    loop.run(**ENOUGH)
    assert [[3]] == sender.batches


def test_a_log_that_was_emptied_and_begun_anew_is_read_from_its_beginning(loop, sender):
    from django.core.management import call_command

    record_numbers(*range(5), type="test.Other")
    loop.run(**ENOUGH)
    call_command("flush", interactive=False, verbosity=0)
    record_numbers(1)
    record_numbers(*range(9), type="test.Other")
    assert 1 == loop.run(**ENOUGH).delivered


class InATestCase(TestCase):
    """Two tests with one log, which begins at position 1 in each of them."""

    loop = None

    def passed_over_in_another_test(self):
        record_numbers(*range(5), type="test.Other")
        self.loop.run(**ENOUGH)

    def test_what_a_rolled_back_test_passed_over_is_forgotten(self):
        sender = RecordingSender()
        self.loop = loop_of(sender=sender)
        sid = transaction.savepoint()
        self.passed_over_in_another_test()
        transaction.savepoint_rollback(sid)
        record_numbers(1)
        EventStore().get()
        assert self.loop.is_behind(log_state("default"))
        assert 1 == self.loop.run(**ENOUGH).delivered
