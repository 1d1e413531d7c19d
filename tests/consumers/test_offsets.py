from __future__ import annotations

import threading

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_eventstore import OffsetStore
from django_eventstore.consumers import Progress, acquire
from django_eventstore.exceptions import LeaseLost
from django_eventstore.models import ConsumerOffset, Lease
from django_eventstore.store import begin_epoch
from tests.consumers.test_leases import MINUTE, expire
from tests.delivery import consumer, offset_of, record_numbers, writes
from tests.shop.models import Refund

pytestmark = pytest.mark.django_db(transaction=True)


def tenure(name="numbers"):
    return acquire(name, using="default", length=MINUTE)


def rows(name="numbers"):
    return list(ConsumerOffset.objects.filter(consumer=name).order_by("id").values_list("offset", "token"))


def test_a_consumer_that_was_never_seen_has_no_progress():
    assert OffsetStore().load("numbers") is None


def test_progress_is_what_was_saved_last():
    token = tenure().token
    OffsetStore().advance("numbers", 5, epoch=1, token=token)
    OffsetStore().advance("numbers", 9, epoch=2, token=token)
    assert Progress(offset=9, epoch=2) == OffsetStore().load("numbers")


@pytest.mark.parametrize("other", ["A", "ä", "a "])
def test_progress_is_kept_apart_by_name_byte_for_byte(other):
    OffsetStore().register([consumer("a", start=1), consumer(other, start=2)])
    assert [1, 2] == [offset_of(name) for name in ("a", other)]


def test_saving_only_inserts():
    token = tenure().token
    with CaptureQueriesContext(connection) as captured:
        for offset in range(1, 4):
            OffsetStore().advance("numbers", offset, epoch=1, token=token)
    assert ["INSERT"] * 3 == [sql.split()[0] for sql in writes(captured)]
    assert 3 == len(captured)
    assert [(1, token), (2, token), (3, token)] == rows()


def test_the_newest_row_of_the_highest_token_counts_whatever_its_offset():
    for offset, token in ((50, 3), (70, 3), (60, 3), (99, 2), (1, 0)):
        ConsumerOffset.objects.create(consumer="numbers", offset=offset, epoch=1, token=token)
    assert 60 == offset_of()


def test_of_several_starts_the_lowest_counts():
    for offset in (7, 4, 6):
        ConsumerOffset.objects.create(consumer="numbers", offset=offset, epoch=1, token=0)
    assert 4 == offset_of()


def test_a_start_counts_no_more_once_there_is_progress():
    token = tenure().token
    OffsetStore().advance("numbers", 9, epoch=1, token=token)
    ConsumerOffset.objects.create(consumer="numbers", offset=4, epoch=1, token=0)
    assert 9 == offset_of()


def test_registering_says_whether_one_was_new_and_changes_no_known_one():
    assert OffsetStore().register([consumer(start=3)])
    assert not OffsetStore().register([consumer(start=1)])
    assert [(3, 0)] == rows()


def test_registering_nothing_is_nothing_new():
    assert not OffsetStore().register([])


def test_registering_known_consumers_writes_nothing():
    OffsetStore().register([consumer()])
    with CaptureQueriesContext(connection) as captured:
        OffsetStore().register([consumer()])
    assert [] == writes(captured)


def test_a_start_keeps_the_epoch_in_force():
    begin_epoch("default", reason="test")
    OffsetStore().register([consumer()])
    assert 2 == OffsetStore().load("numbers").epoch


def test_advancing_without_a_lease_is_refused():
    with pytest.raises(LeaseLost) as raised:
        OffsetStore().advance("numbers", 5, epoch=1, token=1)
    assert ("numbers", 1) == (raised.value.consumer, raised.value.token)
    assert [] == rows()


def test_advancing_with_an_older_token_is_refused_and_takes_the_transaction_with_it():
    first = tenure()
    expire()
    second = tenure()
    with pytest.raises(LeaseLost), transaction.atomic():  # noqa: PT012 - one transaction
        Refund.objects.create(order_id=1)
        OffsetStore().advance("numbers", 5, epoch=1, token=first.token)
    assert 0 == Refund.objects.count()
    OffsetStore().advance("numbers", 3, epoch=1, token=second.token)
    assert 3 == offset_of()


def test_advancing_with_a_token_that_was_not_given_out_is_refused():
    held = tenure()
    with pytest.raises(LeaseLost):
        OffsetStore().advance("numbers", 5, epoch=1, token=held.token + 1)


def test_an_expired_lease_that_nobody_took_over_still_saves():
    held = tenure()
    expire()
    OffsetStore().advance("numbers", 5, epoch=1, token=held.token)
    assert 5 == offset_of()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_nobody_takes_over_between_the_advance_and_its_commit(elsewhere):
    held = tenure()
    expire()
    advanced, go_on = threading.Event(), threading.Event()

    def advance():
        with transaction.atomic():
            OffsetStore().advance("numbers", 5, epoch=1, token=held.token)
            advanced.set()
            assert go_on.wait(10)

    done = elsewhere(advance)
    assert advanced.wait(10)
    assert tenure() is None  # overdue, but the advance shares the row of the lease
    go_on.set()
    done.result(10)
    assert 5 == offset_of()


def test_a_rolled_back_advance_leaves_the_offset_where_it_was():
    token = tenure().token
    OffsetStore().advance("numbers", 5, epoch=1, token=token)
    with transaction.atomic():
        OffsetStore().advance("numbers", 9, epoch=1, token=token)
        transaction.set_rollback(True)
    assert 5 == offset_of()


def test_pruning_leaves_the_newest_row_and_says_how_many_went():
    OffsetStore().register([consumer(), consumer("other")])
    token = tenure().token
    for offset in (5, 9, 3):
        OffsetStore().advance("numbers", offset, epoch=1, token=token)
    assert 3 == OffsetStore().prune("numbers", token=token)
    assert [(3, token)] == rows()
    assert [(0, 0)] == rows("other")


def test_pruning_without_progress_of_its_own_removes_nothing():
    OffsetStore().register([consumer()])
    assert 0 == OffsetStore().prune("numbers", token=tenure().token)
    assert [(0, 0)] == rows()


def test_a_worker_that_lost_its_lease_prunes_nothing_of_its_successor():
    OffsetStore().advance("numbers", 5, epoch=1, token=tenure().token)
    expire()
    OffsetStore().advance("numbers", 7, epoch=1, token=tenure().token)
    OffsetStore().advance("numbers", 9, epoch=1, token=Lease.objects.get().token)
    OffsetStore().prune("numbers", token=1)
    assert [(5, 1), (7, 2), (9, 2)] == rows()
    assert 9 == offset_of()


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_each_database_keeps_offsets_of_its_own():
    record_numbers(1)
    OffsetStore("other").register([consumer(start=4)])
    assert OffsetStore("default").load("numbers") is None
    assert 4 == OffsetStore("other").load("numbers").offset
