from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import transaction

from django_eventstore import OffsetStore
from django_eventstore.consumers import acquire
from django_eventstore.exceptions import LeaseLost
from django_eventstore.models import Lease
from django_eventstore.models.fields import DatabaseNow
from tests.delivery import Clock, offset_of
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)


def take(**given):
    return acquire("numbers", **{"using": "default", "length": MINUTE, **given})


def expire(consumer="numbers"):
    """Let the lease be over, as time does."""
    Lease.objects.filter(consumer=consumer).update(expires_at=DatabaseNow() - timedelta(seconds=1))


def left() -> timedelta:
    """How long the lease lasts by the database's clock."""
    row = Lease.objects.annotate(now=DatabaseNow()).get()
    return row.expires_at - row.now


def test_the_first_to_ask_holds_it_and_the_second_gets_none():
    assert 1 == take().token
    assert take() is None


def test_consumers_have_leases_of_their_own():
    assert take() is not None
    assert acquire("others", using="default", length=MINUTE) is not None


def test_its_row_names_the_owner_and_ends_after_its_length():
    take()
    row = Lease.objects.get()
    assert row.owner.endswith(f":{threading.get_ident()}")
    assert timedelta(seconds=50) < left() <= MINUTE


def test_after_its_end_the_next_gets_a_higher_token():
    take()
    expire()
    assert 2 == take().token


def test_a_short_lease_ends_by_itself():
    take(length=timedelta(seconds=2))
    assert take() is None
    time.sleep(2.1)
    assert 2 == take().token


def test_the_end_is_judged_by_the_clock_of_the_database():
    clock = Clock()
    held = take(clock=clock)
    clock.now += 3_600
    assert not held.still_held()
    assert take() is None


def test_a_released_lease_is_free_at_once():
    take().release()
    assert "" == Lease.objects.get().owner
    assert 2 == take().token


def test_a_late_release_does_not_end_the_lease_of_the_successor():
    first = take()
    expire()
    take()
    first.release()
    assert take() is None


def test_renewing_begins_the_time_anew():
    held = take()
    expire()
    held.renew()
    assert timedelta(seconds=50) < left() <= MINUTE
    assert take() is None


def test_renewing_a_lost_lease_is_an_error_and_changes_nothing():
    first = take()
    expire()
    second = take(length=timedelta(minutes=10))
    with pytest.raises(LeaseLost) as raised:
        first.renew()
    assert ("numbers", first.token) == (raised.value.consumer, raised.value.token)
    assert second.token == Lease.objects.get().token
    assert timedelta(minutes=9) < left()


def test_it_is_renewed_only_when_half_of_its_time_has_passed():
    clock = Clock()
    held = take(clock=clock)
    expire()
    clock.now += 30
    held.renew_if_due()
    assert left() < timedelta(0)
    clock.now += 0.1
    held.renew_if_due()
    assert timedelta(seconds=50) < left()
    assert held.still_held()


def test_it_is_held_by_its_own_clock_until_its_length_has_passed_since_it_was_renewed():
    clock = Clock()
    held = take(clock=clock)
    clock.now += 59.9
    assert held.still_held()
    clock.now += 0.2
    assert not held.still_held()
    held.renew()
    assert held.still_held()


def test_a_renewal_that_is_due_finds_out_that_the_lease_is_lost():
    clock = Clock()
    first = take(clock=clock)
    expire()
    take()
    clock.now += 31
    with pytest.raises(LeaseLost):
        first.renew_if_due()


def test_two_workers_with_connections_of_their_own_take_turns(elsewhere):
    first = elsewhere(take).result(10)
    assert elsewhere(take).result(10) is None
    expire()
    second = elsewhere(take).result(10)
    assert first.token + 1 == second.token
    with pytest.raises(LeaseLost):
        elsewhere(first.renew).result(10)
    with pytest.raises(LeaseLost):
        elsewhere(OffsetStore().advance, "numbers", 5, epoch=1, token=first.token).result(10)


def test_of_many_workers_that_ask_at_once_one_gets_it(elsewhere):
    barrier = threading.Barrier(6)

    def ask():
        barrier.wait(10)
        return take()

    for _ in range(3):
        got = [tenure.result(30) for tenure in [elsewhere(ask) for _ in range(6)]]
        assert 1 == len([tenure for tenure in got if tenure is not None])
        expire()
    assert 3 == Lease.objects.get().token


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_what_a_worker_did_before_it_learns_that_its_lease_is_lost_is_rolled_back(elsewhere):
    worked, go_on = threading.Event(), threading.Event()

    def slow():
        tenure = take()
        with transaction.atomic():
            Refund.objects.create(order_id=1)
            worked.set()
            assert go_on.wait(10)
            OffsetStore().advance("numbers", 5, epoch=1, token=tenure.token)

    slow_worker = elsewhere(slow)
    assert worked.wait(10)
    expire()
    second = take()
    with transaction.atomic():
        Refund.objects.create(order_id=1)
        OffsetStore().advance("numbers", 5, epoch=1, token=second.token)
    go_on.set()
    with pytest.raises(LeaseLost):
        slow_worker.result(10)
    assert 1 == Refund.objects.count()
    assert 5 == offset_of()


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize("write", ["advance", "renew"])
def test_asking_does_not_wait_for_a_worker_in_the_middle_of_a_transaction(elsewhere, write):
    held = take()
    expire()
    written, go_on = threading.Event(), threading.Event()

    def work():
        with transaction.atomic():
            if write == "advance":
                OffsetStore().advance("numbers", 5, epoch=1, token=held.token)
            else:
                held.renew()
            written.set()
            assert go_on.wait(20)

    worker = elsewhere(work)
    assert written.wait(10)
    began = time.monotonic()
    assert take() is None  # overdue, but its holder is about to commit
    assert time.monotonic() - began < 2
    go_on.set()
    worker.result(10)
