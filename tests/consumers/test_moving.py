"""Another offset, another number of partitions: nothing lost, nothing doubled, each stream in order."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from datetime import datetime, timedelta, timezone

import pytest
from django.db import connection, transaction

from django_eventstore import EventForwarder, OffsetStore, Outcome, handles, record
from django_eventstore.consumers import (
    ConsumerLoop,
    Partition,
    acquire,
    declared_consumer,
    move,
    moving,
    set_partitions,
)
from django_eventstore.exceptions import EventStoreError, LeaseLost
from django_eventstore.forwarding import forward_all
from django_eventstore.models import ConsumerOffset, EventEntry, FailedDelivery, Lease, SlotOffset
from django_eventstore.store import EventStore, log_state, position_before
from tests.consumers.test_leases import MINUTE, expire
from tests.delivery import (
    COUNTED,
    ENOUGH,
    RecordingSender,
    consumer,
    failures,
    forwarder_of,
    numbers_of,
    offset_of,
    record_numbers,
    refunds,
    state_of,
)
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)


def record_in(streams, numbers):
    """For each number one event about each of the streams, in one transaction per number."""
    for number in numbers:
        with transaction.atomic():
            for stream in streams:
                record(COUNTED, {"n": number}, stream=stream)


# --- another offset ---


def test_moved_back_a_consumer_has_its_events_again_and_knows_it():
    seen = []

    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event, entry):
        seen.append((event["n"], entry.is_replay))

    record_numbers(1, 2, 3)
    forward_all()
    assert 3 == move(declared_consumer("numbers"), 1, using="default")
    record_numbers(4)
    forward_all()
    assert [(1, False), (2, False), (3, False), (2, True), (3, True), (4, False)] == seen


def test_a_handler_may_want_no_repeats():
    @handles(COUNTED, name="numbers", start="beginning", replay=False)
    def follow(event):
        Refund.objects.create(order_id=event["n"])

    record_numbers(1, 2)
    forward_all()
    move(declared_consumer("numbers"), 0, using="default")
    record_numbers(3)
    forward_all()
    assert [1, 2, 3] == refunds()
    assert 3 == offset_of()


@pytest.mark.parametrize("stream", ["a", ""])
def test_what_had_failed_is_no_repeat_for_a_handler_that_wants_none(stream):
    broken = {2}

    @handles(COUNTED, name="numbers", start="beginning", replay=False)
    def follow(event):
        if event["n"] in broken:
            raise ValueError
        Refund.objects.create(order_id=event["n"])

    for number in (1, 2, 3):
        with transaction.atomic():
            record(COUNTED, {"n": number}, stream=stream)
    record_numbers(4)
    forward_all()
    assert ([1, 4] if stream else [1, 3, 4]) == refunds()
    move(declared_consumer("numbers"), 0, using="default")
    forward_all()  # fails again
    move(declared_consumer("numbers"), 0, using="default")
    broken.clear()
    forward_all()
    assert [1, 2, 3, 4] == refunds()
    move(declared_consumer("numbers"), 0, using="default")
    record_numbers(5)
    forward_all()
    assert [1, 2, 3, 4, 5] == refunds()


def test_a_partition_that_lags_behind_has_its_events_though_the_consumer_was_moved_back():
    seen = []

    @handles(COUNTED, name="numbers", start="beginning", replay=False)
    def follow(event, entry):
        seen.append(entry.stream)

    record_in(streams_of(20), [0])
    set_partitions(declared_consumer("numbers"), 2, using="default")
    EventForwarder("numbers").loops(2)[0].run(**ENOUGH)
    assert 0 < len(seen) < 20
    move(declared_consumer("numbers"), 0, using="default")
    forward_all()
    assert set(streams_of(20)) == set(seen)


def test_moved_forwards_what_lies_between_is_not_delivered():
    record_numbers(1, 2, 3)
    sender = RecordingSender()
    forwarder = forwarder_of(sender)
    assert 0 == move(consumer(), 2, using="default")
    forwarder.get_and_send()
    assert [[3]] == sender.batches


@pytest.mark.parametrize("offset", [-1, 4])
def test_it_is_not_moved_out_of_the_log(offset):
    record_numbers(1, 2, 3)
    EventStore().get()
    with pytest.raises(EventStoreError, match="between 0 and the head, 3"):
        move(consumer(), offset, using="default")
    assert offset_of() is None or offset_of() == 0


def test_what_had_failed_above_the_new_offset_is_forgotten_since_it_comes_again():
    record_in(["a"], [1, 2, 3])
    sender = RecordingSender(lambda batch: Outcome(done=len(batch.entries), refused={2: ValueError()}))
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()
    assert [(2, "blocked", 1)] == failures()
    move(consumer(), 1, using="default")
    assert [] == failures()
    sender.script, sender.batches = None, []
    forwarder.get_and_send()
    assert [[2, 3]] == sender.batches


def test_a_failure_below_the_new_offset_stays_and_its_queue_with_it():
    record_in(["a"], [1, 2, 3])
    sender = RecordingSender(lambda batch: Outcome(done=len(batch.entries), refused={1: ValueError()}))
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()
    move(consumer(), 2, using="default")
    sender.script, sender.batches = None, []
    FailedDelivery.objects.update(retry_at=None)
    forwarder.get_and_send()
    assert [1, 2, 3] == sender.numbers


def test_a_worker_in_the_middle_finds_its_lease_lost():
    record_numbers(1, 2)
    sender = RecordingSender()

    def overtaken(batch):
        move(consumer(), 0, using="default")
        return Outcome(done=len(batch.entries))

    sender.script = overtaken
    assert 0 == forwarder_of(sender).get_and_send().delivered
    assert 0 == offset_of()


def test_moving_takes_the_epoch_in_force_and_ends_a_wait():
    from django_eventstore.store import begin_epoch

    record_numbers(1, 2)
    sender = RecordingSender()
    forwarder = forwarder_of(sender)
    forwarder.get_and_send()
    begin_epoch("default", after=1, reason="test")
    forwarder.get_and_send()
    assert "EpochChanged" in state_of().error
    move(consumer(), 2, using="default")
    assert 2 == OffsetStore().load("numbers").epoch
    assert ("", None) == (state_of().error, state_of().retry_at)


def test_a_position_is_found_by_its_time():
    record_numbers(*range(20))
    EventStore().get()
    times = dict(EventEntry.objects.values_list("log_position__position", "timestamp"))
    for position, moment in times.items():
        assert position - 1 == position_before(moment, head=20, using="default")
    assert 20 == position_before(datetime(2999, 1, 1, tzinfo=timezone.utc), head=20, using="default")
    assert 0 == position_before(datetime(1999, 1, 1, tzinfo=timezone.utc), head=20, using="default")


def test_a_consumer_may_start_at_a_time():
    record_numbers(1, 2)
    time.sleep(0.01)
    moment = datetime.now(timezone.utc)
    record_numbers(3, 4)
    EventStore().get()
    sender = RecordingSender()
    forwarder_of(sender, start=moment).get_and_send()
    assert [[3, 4]] == sender.batches


# --- partitions ---


def streams_of(count):
    return [f"order-{number}" for number in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 63, 64])
def test_every_slot_belongs_to_one_partition(count):
    partitions = [Partition(consumer="numbers", number=number, count=count) for number in range(count)]
    slots = [slot for partition in partitions for slot in partition.slots or range(64)]
    assert list(range(64)) == slots


@pytest.mark.parametrize("number, count", [(0, 0), (0, 65), (2, 2), (-1, 2)])
def test_there_are_no_other_partitions(number, count):
    with pytest.raises(ValueError, match="partition"):
        Partition(consumer="numbers", number=number, count=count)


def delivered_by(sender):
    """Numbers by stream, in the order of their delivery."""
    got = defaultdict(list)
    for batch in sender.seen:
        for stream, number in batch:
            got[stream].append(number)
    return got


class StreamSender(RecordingSender):
    def __init__(self, script=None):
        super().__init__(script)
        self.seen = []
        self.partitions = set()

    def send(self, batch):
        self.partitions.add(batch.partition)
        self.seen.append([(entry.stream, entry.data["n"]) for entry in batch.entries])
        return super().send(batch)


def test_partitions_share_the_streams_and_together_deliver_everything():
    record_in(streams_of(40), range(3))
    set_partitions(consumer(), 4, using="default")
    sender = StreamSender()
    assert 120 == forwarder_of(sender).get_and_send(**ENOUGH).delivered
    assert {stream: [0, 1, 2] for stream in streams_of(40)} == delivered_by(sender)
    by_batch = [{stream for stream, _ in batch} for batch in sender.seen]
    assert 4 <= len(by_batch)
    assert {0, 1, 2, 3} == sender.partitions
    assert all(not one & other for n, one in enumerate(by_batch) for other in by_batch[n + 1 :])
    assert 4 == ConsumerOffset.objects.filter(consumer="numbers").values("partition").distinct().count()


def test_a_partition_that_another_worker_holds_holds_up_nobody():
    record_in(streams_of(40), range(2))
    set_partitions(consumer(), 2, using="default")
    held = acquire("numbers", partition=0, using="default", length=MINUTE)
    sender = StreamSender()
    forwarder_of(sender).get_and_send(**ENOUGH)
    got = delivered_by(sender)
    assert 0 < len(got) < 40
    assert all([0, 1] == numbers for numbers in got.values())
    held.release()
    forwarder_of(sender).get_and_send(**ENOUGH)
    assert {stream: [0, 1] for stream in streams_of(40)} == delivered_by(sender)


def test_slots_that_stand_apart_are_brought_together_without_doubling():
    record_in(streams_of(40), range(2))
    set_partitions(consumer(), 4, using="default")
    forwarder = forwarder_of(sender := StreamSender())
    first = forwarder.loops(4)[0]
    first.run(**ENOUGH)  # is ahead of the three others
    set_partitions(consumer(), 3, using="default")
    assert SlotOffset.objects.exists()
    record_in(streams_of(40), [2])
    forwarder_of(sender).get_and_send(**ENOUGH)
    assert {stream: [0, 1, 2] for stream in streams_of(40)} == delivered_by(sender)
    assert not SlotOffset.objects.exists()
    set_partitions(consumer(), 1, using="default")
    record_in(streams_of(40), [3])
    forwarder_of(sender).get_and_send(**ENOUGH)
    assert {stream: [0, 1, 2, 3] for stream in streams_of(40)} == delivered_by(sender)


def test_a_worker_of_the_old_partitions_saves_nothing_and_begins_nothing():
    record_in(streams_of(10), range(2))
    set_partitions(consumer(), 2, using="default")
    old = forwarder_of(sender := StreamSender()).loops(2)
    tenure = acquire("numbers", partition=1, using="default", length=MINUTE)
    set_partitions(consumer(), 3, using="default")
    with pytest.raises(LeaseLost):
        OffsetStore().advance("numbers", 5, epoch=1, token=tenure.token, partition=1)
    assert [0, 0] == [loop.run(**ENOUGH).delivered for loop in old]
    assert [] == sender.seen
    set_partitions(consumer(), 1, using="default")
    assert acquire("numbers", partition=2, using="default", length=MINUTE) is None
    assert 1 == Lease.objects.count()


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize(
    "change", [lambda: set_partitions(consumer(), 2, using="default"), lambda: move(consumer(), 0, using="default")]
)
def test_the_first_worker_of_a_consumer_gets_no_lease_while_it_is_moved(change, elsewhere, monkeypatch):
    record_numbers(1, 2)
    write, tenures = moving._write, []

    def meanwhile(*arguments, **keywords):
        tenures.append(elsewhere(acquire, "numbers", using="default", length=MINUTE).result(30))
        write(*arguments, **keywords)

    monkeypatch.setattr(moving, "_write", meanwhile)
    change()
    assert [None] == tenures
    assert {1} == set(Lease.objects.values_list("token", flat=True))


def test_the_token_of_a_partition_that_comes_back_is_one_nobody_has_had():
    set_partitions(consumer(), 2, using="default")
    tokens = [acquire("numbers", partition=1, using="default", length=MINUTE).token]
    set_partitions(consumer(), 1, using="default")
    set_partitions(consumer(), 2, using="default")
    tokens.append(acquire("numbers", partition=1, using="default", length=MINUTE).token)
    assert tokens[0] < tokens[1]


def test_the_same_number_again_changes_nothing():
    set_partitions(consumer(), 2, using="default")
    held = acquire("numbers", partition=0, using="default", length=MINUTE)
    set_partitions(consumer(), 2, using="default")
    held.renew()


def test_blocked_streams_stay_blocked_and_in_order_over_a_change():
    record_in(streams_of(20), range(2))
    bad = {"order-3", "order-11"}

    def script(batch):
        refused = {entry.position: ValueError() for entry in batch.entries if entry.stream in bad}
        return Outcome(done=len(batch.entries), refused=refused)

    sender = StreamSender(script)
    forwarder_of(sender).get_and_send(**ENOUGH)
    set_partitions(consumer(), 5, using="default")
    record_in(streams_of(20), [2])
    forwarder_of(sender).get_and_send(**ENOUGH)
    assert {"order-3", "order-11"} == set(FailedDelivery.objects.values_list("stream", flat=True))
    bad.clear()
    sender.seen.clear()
    FailedDelivery.objects.update(retry_at=None)
    forwarder_of(sender).get_and_send(**ENOUGH)
    assert {"order-3": [0, 1, 2], "order-11": [0, 1, 2]} == delivered_by(sender)
    assert [] == failures()


def test_partitions_of_different_epochs_are_left_alone():
    from django_eventstore.store import begin_epoch

    record_in(streams_of(20), range(2))
    set_partitions(consumer(), 2, using="default")
    begin_epoch("default", reason="test")
    forwarder_of(StreamSender()).loops(2)[0].run(**ENOUGH)
    with pytest.raises(EventStoreError, match="different epochs"):
        set_partitions(consumer(), 3, using="default")


def test_a_partition_with_nothing_in_a_long_stretch_passes_over_it():
    with transaction.atomic():
        for _ in range(30):
            record(COUNTED, {"n": 0}, stream="same")
    set_partitions(consumer(), 64, using="default")
    sender = StreamSender()
    forwarder = forwarder_of(sender)
    forwarder.get_and_send(**ENOUGH)
    assert [0] * 30 == delivered_by(sender)["same"]
    assert all(not loop.is_behind(log_state("default")) for loop in forwarder.loops(64))


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_their_number_changes_under_load_without_loss_doubling_or_disorder(elsewhere):
    """Effects in the database happen once; to the outside a batch in hand may come twice."""
    counter = threading.Lock()
    got, stop = defaultdict(list), threading.Event()
    streams = streams_of(24)

    def deliver(batch):
        with transaction.atomic():
            batch.begin()
            for entry in batch.entries:
                Refund.objects.create(order_id=int(entry.stream.partition("-")[2]) * 1_000 + entry.data["n"])
            batch.advance(batch.entries[-1].position)
        with counter:
            for entry in batch.entries:
                got[entry.stream].append(entry.data["n"])
        return Outcome(done=len(batch.entries))

    def work():
        while not stop.is_set():
            count = state_count()
            for number in range(count):
                ConsumerLoop(
                    consumer=consumer(limit=7),
                    deliver=deliver,
                    using="default",
                    lease=MINUTE,
                    partition=Partition(consumer="numbers", number=number, count=count),
                ).run(most_events=50, longest=timedelta(seconds=1))

    def write():
        for number in range(40):
            record_in(streams, [number])

    set_partitions(consumer(), 1, using="default")
    workers = [elsewhere(work) for _ in range(3)]
    writer = elsewhere(write)
    try:
        for count in (8, 3, 64, 1, 5):
            time.sleep(0.7)
            set_partitions(consumer(), count, using="default")
        writer.result(120)
        until = time.monotonic() + 60
        while sum(map(len, list(got.values()))) < 24 * 40 and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        stop.set()
    for worker in workers:
        worker.result(60)
    assert {stream: list(range(40)) for stream in streams} == dict(got)
    wanted = [order * 1_000 + number for order in range(24) for number in range(40)]
    assert sorted(wanted) == refunds()


def state_count():
    from django_eventstore.models import ConsumerState

    return ConsumerState.objects.get(pk="numbers").partitions


def test_a_handler_consumer_is_divided_as_any_other():
    @handles(COUNTED, name="numbers", start="beginning")
    def follow(event):
        Refund.objects.create(order_id=event["n"])

    set_partitions(declared_consumer("numbers"), 3, using="default")
    record_in(streams_of(9), [1])
    assert 9 == forward_all().delivered
    assert [1] * 9 == refunds()
    assert 0 == EventForwarder("numbers").get_and_send().delivered
    assert numbers_of(EventStore().get().entries) == [1] * 9
    assert connection.vendor


@pytest.mark.mariadb
def test_where_a_consumer_stands_is_read_when_the_batch_in_hand_is_over(elsewhere):
    """At REPEATABLE READ what is read first decides what is seen."""
    record_numbers(1, 2, 3)
    saved, waits = threading.Event(), threading.Event()

    def deliver(batch):
        with transaction.atomic():
            batch.begin()
            batch.advance(3)
            saved.set()
            waits.wait(10)
        return Outcome(done=3)

    def divide():
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        set_partitions(consumer(), 2, using="default")

    loop = ConsumerLoop(consumer=consumer(), deliver=deliver, using="default", lease=MINUTE)
    working = elsewhere(loop.run, **ENOUGH)
    assert saved.wait(10)
    dividing = elsewhere(divide)
    time.sleep(0.5)
    waits.set()
    dividing.result(10)
    assert 3 == working.result(10).delivered
    assert 3 == offset_of()


@pytest.mark.parametrize("change", ["move", "divide"])
def test_what_a_dead_worker_had_in_hand_is_delivered_carefully_also_after_a_change(change):
    record_in(streams_of(6), [0])
    acquire("numbers", using="default", length=MINUTE)
    expire()
    if change == "move":
        move(consumer(), 1, using="default")
    else:
        set_partitions(consumer(), 2, using="default")
    sender = RecordingSender()
    forwarder_of(sender).get_and_send(**ENOUGH)
    assert {1} == {len(batch) for batch in sender.batches}
    sender.batches.clear()
    record_in(streams_of(6), [1])
    forwarder_of(sender).get_and_send(**ENOUGH)
    assert 1 < max(len(batch) for batch in sender.batches)


def test_neighbouring_streams_are_spread_over_the_partitions():
    record_in(streams_of(40), [0])
    EventStore().get()
    slots = [entry.slot for entry in EventStore().get(20, 20).entries]
    assert 5 <= sum(slot < 32 for slot in slots) <= 15
