"""What is between a delivery and its saving: commits whose answer was an error, workers that fail, die or live on."""

from __future__ import annotations

import pytest
from django.db import InterfaceError, OperationalError, connection, transaction

from django_eventstore import EventForwarder, Outcome, handles, record
from django_eventstore.consumers import (
    ConsumerLoop,
    OffsetStore,
    Partition,
    acquire,
    retry,
    set_partitions,
)
from django_eventstore.exceptions import PermanentError, Unavailable
from django_eventstore.models import FailedDelivery, Lease, SlotOffset
from django_eventstore.models.fields import DatabaseNow
from tests.consumers.test_leases import MINUTE, expire
from tests.delivery import (
    COUNTED,
    ENOUGH,
    RecordingSender,
    consumer,
    failures,
    forwarder_of,
    offset_of,
    refunds,
    retry_now,
)
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = pytest.mark.parametrize("scope", ["event", "batch"])


class Failed(Exception):
    pass


def record_in(stream, *numbers):
    with transaction.atomic():
        for number in numbers:
            record(COUNTED, {"n": number}, stream=stream)


def declare(deed, *, scope="event", **given):
    """A handler that refunds and then does the deed, in the same transaction."""

    @handles(COUNTED, **{"name": "numbers", "start": "beginning", "transaction": scope, **given})
    def follow(event):
        Refund.objects.create(order_id=event["n"])
        deed(event["n"])


def forward(**bounds):
    return EventForwarder("numbers").get_and_send(**bounds)


# --- a commit whose answer was an error ---


@BOTH
def test_an_error_after_the_commit_does_not_repeat_what_was_committed(scope):
    def fail():
        raise Failed("the mail server is down")

    declare(lambda n: n == 2 and transaction.on_commit(fail), scope=scope)
    record_in("a", 1, 2, 3)
    record_in("b", 4)
    assert 4 == forward().delivered
    assert [1, 2, 3, 4] == refunds()
    assert [] == failures()
    assert 4 == offset_of()


def test_an_error_after_the_commit_of_a_retried_event_does_not_repeat_it():
    bad = {1}

    def deed(n):
        if n in bad:
            raise Failed
        transaction.on_commit(fail)

    def fail():
        raise Failed("the mail server is down")

    declare(deed)
    record_in("a", 1, 2)
    forward()
    bad.clear()
    retry_now()
    forward()
    assert [1, 2] == refunds()
    assert [] == failures()


@BOTH
def test_a_connection_that_is_lost_while_the_server_commits_doubles_nothing(scope, monkeypatch):
    """The server has committed; the answer did not arrive."""
    commit, lost = connection._commit, []

    def commit_and_lose():
        loses = Refund.objects.filter(order_id=2).exists() and not lost
        commit()
        if loses:
            lost.append(True)
            raise OperationalError("server closed the connection unexpectedly")

    declare(lambda n: None, scope=scope)
    record_in("a", 1, 2, 3)
    monkeypatch.setattr(connection, "_commit", commit_and_lose)
    assert 3 == forward().delivered
    assert lost
    assert [1, 2, 3] == refunds()
    assert [] == failures()
    assert 3 == offset_of()


@BOTH
@pytest.mark.parametrize("fails", [False, True])
def test_a_connection_that_is_lost_just_after_a_transaction_is_of_no_use_any_more(scope, fails, monkeypatch):
    """Django leaves it without autocommit, and inside of that no transaction begins or ends."""
    set_autocommit, lost = connection._set_autocommit, []

    def lose(autocommit):
        if autocommit and handled and not lost:
            lost.append(True)
            raise OperationalError("Lost connection to server during query")
        set_autocommit(autocommit)

    handled = []

    def deed(n):
        handled.append(n)
        if fails and not lost:
            raise Failed

    declare(deed, scope=scope)
    record_in("a", 1)
    record_in("b", 2)
    monkeypatch.setattr(connection, "_set_autocommit", lose)
    for _ in range(2):
        forward()
        retry_now()
    assert lost
    assert [1, 2] == refunds()
    assert [] == failures()
    assert 2 == offset_of()


def test_what_was_rolled_back_at_its_commit_is_not_passed_over_when_the_consumer_then_waits(monkeypatch):
    """The batch came as far as saving its offset, and its commit failed; then its last event found no payment service."""
    commit, refusals = connection._commit, [OperationalError("deferred constraint")]
    down = []

    def refuse():
        if Refund.objects.count() == 3 and refusals:
            down.append(True)
            connection.rollback()
            raise refusals.pop()
        commit()

    def deed(n):
        if n == 3 and down:
            raise Unavailable("the payment service is down")

    declare(deed, scope="batch")
    record_in("", 1, 2, 3)
    forwarder = EventForwarder("numbers")
    monkeypatch.setattr(connection, "_commit", refuse)
    forwarder.get_and_send()
    assert [1, 2] == refunds()
    down.clear()
    retry_now()
    record_in("", 4)
    forwarder.get_and_send()
    forwarder.get_and_send()
    assert [1, 2, 3, 4] == refunds()


# --- a lost connection is nobody's fault ---


def cut():
    """End this process's session on the server, as a restart does."""
    with connection.copy("cutter").cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s)", [connection.connection.info.backend_pid])
        else:
            cursor.execute(f"KILL {connection.connection.thread_id()}")
        cursor.connection.close()


@pytest.mark.postgresql
@pytest.mark.mariadb
@BOTH
def test_a_connection_that_is_cut_burns_no_attempt_and_nothing_is_lost_or_doubled(scope):
    cuts = [True, True]

    def deed(n):
        if n == 2 and cuts:
            cuts.pop()
            cut()

    declare(deed, scope=scope, max_attempts=1)
    record_in("a", 1, 2, 3)
    for _ in range(5):
        try:
            forward()
        except (OperationalError, InterfaceError):
            connection.close()
            expire()
        retry_now()
    assert [] == cuts
    assert [1, 2, 3] == refunds()
    assert [] == failures()


@pytest.mark.mariadb
def test_the_time_outs_are_those_of_a_new_session_as_well():
    seen = []

    def deed(n):
        if n == 1:
            connection.close()
            raise Failed
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@SESSION.idle_transaction_timeout")
            seen.append(cursor.fetchone()[0])

    declare(deed)
    record_in("", 1, 2)
    forward()
    assert 0 < seen[0] <= 60


# --- careful workers ---


def leave_dead():
    """Somebody took the lease and never let go of it."""
    assert acquire("numbers", using="default", length=MINUTE) is not None
    expire()


def test_a_sender_that_is_unavailable_to_a_careful_worker_kills_nobody():
    record_in("a", 1, 2)

    def down(batch):
        raise ConnectionError("broker down")

    sender = RecordingSender(down)
    forwarder = forwarder_of(sender)
    leave_dead()
    for _ in range(6):
        forwarder.get_and_send()
        retry_now()
    assert [] == failures()
    sender.script, sender.batches = None, []
    forwarder.get_and_send()
    assert [1, 2] == sender.numbers


def test_an_event_that_fails_in_the_hands_of_careful_workers_is_not_taken_for_deadly():
    record_in("a", 1)
    sender = RecordingSender(lambda batch: Outcome(done=1, refused={1: Failed()}))
    forwarder = forwarder_of(sender)
    for attempts in range(1, 7):
        leave_dead()
        forwarder.get_and_send()
        assert [(1, "blocked", attempts)] == failures()
        retry_now()


def test_a_careful_worker_is_careful_with_its_page_though_much_was_due_before():
    bad = set(range(5))
    sender = RecordingSender(
        lambda batch: Outcome(
            done=len(batch.entries), refused={e.position: Failed() for e in batch.entries if e.data["n"] in bad}
        )
    )
    forwarder = forwarder_of(sender, limit=5)
    for number in range(5):
        record_in(f"order-{number}", number)
    forwarder.get_and_send()
    record_in("", 10, 11, 12)
    retry_now()
    leave_dead()
    sender.batches = []
    forwarder.get_and_send()
    assert [[10], [11], [12]] == sender.batches[-3:]


def test_a_handler_that_ends_its_process_in_order_counts_as_deadly_all_the_same(settings):
    settings.EVENTSTORE = {"MAX_CRASHES": 2}

    def deed(n):
        if n == 1:
            raise SystemExit(3)

    declare(deed)
    record_in("a", 1)
    record_in("b", 2)
    for _ in range(3):  # once unknowing, twice knowing
        with pytest.raises(SystemExit):
            forward()
    forward()
    assert [2] == refunds()
    assert [(1, "parked", 0)] == failures()


def test_nothing_is_noted_about_an_event_by_a_worker_that_has_lost_its_lease(monkeypatch):
    record_in("a", 1)
    leave_dead()
    sender = RecordingSender()
    readiness = ConsumerLoop._readiness

    def overtaken(loop):
        Lease.objects.filter(expires_at__gt=DatabaseNow()).update(token=100)  # as soon as it has taken the lease
        return readiness(loop)

    monkeypatch.setattr(ConsumerLoop, "_readiness", overtaken)
    forwarder_of(sender).get_and_send()
    assert 100 == Lease.objects.get().token
    assert [] == failures()
    assert [] == sender.numbers


# --- streams that were let go ---


def test_a_parked_event_whose_stream_went_on_does_not_draw_it_back_when_it_fails_again():
    bad = {1: PermanentError("never")}

    def deed(n):
        if n in bad:
            raise bad[n]

    declare(deed, on_parked="continue")
    record_in("a", 1, 2, 3)
    forward()
    assert [2, 3] == refunds()
    bad[1] = Failed()
    retry(FailedDelivery.objects.all(), by="ada")
    forward()
    assert [(1, "blocked", 1)] == failures()
    record_in("a", 4)
    forward()
    bad.clear()
    retry_now()
    forward()
    assert [1, 2, 3, 4] == refunds()
    assert [] == failures()


# --- slots that stand apart ---


def work_for(number, count, deliver):
    loop = ConsumerLoop(
        consumer=consumer(),
        deliver=deliver,
        using="default",
        lease=MINUTE,
        partition=Partition(consumer="numbers", number=number, count=count),
    )
    return loop.run(**ENOUGH)


@pytest.mark.parametrize("first_failed", [0, 3])
def test_a_blocked_stream_gets_what_its_slot_had_passed_by_also_when_its_partition_is_behind(first_failed):
    """Regrouped, the slot is ahead of its partition: its queue reaches as far as the slot."""
    streams = [f"order-{number}" for number in range(40)]
    got, bad, is_failing = {}, set(), False

    def deliver(batch):
        refused = {}
        for entry in batch.entries:
            if is_failing and entry.data["n"] == first_failed and not bad:
                bad.add(entry.stream)
            if is_failing and entry.stream in bad:
                refused[entry.position] = Failed()
            else:
                got.setdefault(entry.stream, []).append(entry.data["n"])
        return Outcome(done=len(batch.entries), refused=refused)

    def record_numbers(numbers):
        for number in numbers:
            for stream in streams:
                record_in(stream, number)

    set_partitions(consumer(), 2, using="default")
    record_numbers(range(first_failed))
    work_for(1, 2, deliver)
    record_numbers(range(first_failed, 5))
    is_failing = True
    work_for(1, 2, deliver)  # with 3, the head itself is above where the whole partition will stand
    assert bad == set(FailedDelivery.objects.values_list("stream", flat=True))
    set_partitions(consumer(), 1, using="default")
    assert SlotOffset.objects.exists()
    is_failing = False
    retry_now()
    work_for(0, 1, deliver)
    assert {stream: [0, 1, 2, 3, 4] for stream in streams} == got
    assert [] == failures()


def test_a_worker_that_was_overtaken_takes_away_no_offsets_of_the_new_slots(monkeypatch):
    """It had looked where it stands, and was stopped before it cleaned up what it took for its own."""
    streams = [f"order-{number}" for number in range(40)]
    for stream in streams:
        record_in(stream, 0)
    set_partitions(consumer(), 2, using="default")
    work_for(0, 2, RecordingSender().send)
    set_partitions(consumer(), 1, using="default")
    ahead = dict(SlotOffset.objects.values_list("slot", "offset"))
    assert ahead
    prune, tokens = OffsetStore.prune, iter([1])

    def overtaken(store, name, **given):
        if next(tokens, None):
            # The partitions change twice, and each slot takes along where it stands: some are ahead again.
            set_partitions(consumer(), 2, using="default")
            SlotOffset.objects.bulk_create(
                SlotOffset(consumer=name, slot=slot, offset=offset) for slot, offset in ahead.items()
            )
        return prune(store, name, **given)

    monkeypatch.setattr(OffsetStore, "prune", overtaken)
    monkeypatch.setattr("django_eventstore.consumers.loop.PRUNE_AFTER", 0)
    work_for(0, 1, RecordingSender().send)
    assert ahead == dict(SlotOffset.objects.values_list("slot", "offset"))
