"""Epochs: whose offset is of this history, and how a new one begins."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import pytest
from django.db import transaction

from django_eventstore import EventStore
from django_eventstore.exceptions import EpochChanged, EventStoreError
from django_eventstore.models import Epoch
from django_eventstore.store import LogState, begin_epoch, ensure_log, log_state

from .log import log_numbers, numbers, save

LOG = UUID(int=7)
# Three histories: 1 is shared up to 50, 2 up to 30 (a restore went back below the first change), 3 is in force.
EPOCHS = ((1, 0), (2, 50), (3, 30))

CASES = [
    # offset, the reader's epoch, head, shared?
    (0, 1, 100, True),
    (30, 1, 100, True),
    (31, 1, 100, False),
    (50, 1, 100, False),
    (30, 2, 100, True),
    (31, 2, 100, False),
    (31, 3, 100, True),
    (100, 3, 100, True),
    (101, 3, 100, False),
    (100, None, 100, True),
    (101, None, 100, False),
    (0, 4, 100, False),
    (0, 0, 100, False),
    (0, -1, 100, False),
    (0, 3, 0, True),
    (1, 3, 0, False),
]


@pytest.mark.no_database
@pytest.mark.parametrize("offset, epoch, head, shared", CASES)
def test_only_shared_history_goes_on(offset: int, epoch: int | None, head: int, shared: bool) -> None:
    state = LogState(log=LOG, epochs=EPOCHS, head=head, last_type=0)

    if shared:
        state.require_shared_history(offset=offset, epoch=epoch)
        return
    with pytest.raises(EpochChanged) as caught:
        state.require_shared_history(offset=offset, epoch=epoch)
    error = caught.value
    assert (LOG, 3, epoch, offset, head) == (error.log, error.epoch, error.reader_epoch, error.offset, error.head)
    assert (0 if epoch is not None and epoch < 1 else 30) == error.began_after


@pytest.mark.no_database
@pytest.mark.parametrize(
    "offset, epoch, shared",
    [
        (101, 3, True),  # the standby is behind
        (101, None, True),
        (101, 4, True),  # and has not heard of the new epoch
        (5, 4, True),
        (31, 1, False),  # what it knows to be another history stays one
        (5, 0, False),
    ],
)
def test_a_connection_that_may_lag_lets_pass_what_it_cannot_know(offset: int, epoch: int | None, shared: bool) -> None:
    state = LogState(log=LOG, epochs=EPOCHS, head=100, last_type=0)

    if shared:
        state.require_shared_history(offset=offset, epoch=epoch, may_lag=True)
        return
    with pytest.raises(EpochChanged):
        state.require_shared_history(offset=offset, epoch=epoch, may_lag=True)


@pytest.mark.no_database
def test_the_error_tells_the_lowest_position_that_is_surely_shared() -> None:
    state = LogState(log=LOG, epochs=((1, 0), (2, 10), (3, 90)), head=100, last_type=0)

    with pytest.raises(EpochChanged) as caught:
        state.require_shared_history(offset=95, epoch=1)
    assert 10 == caught.value.began_after
    with pytest.raises(EpochChanged) as caught:
        state.require_shared_history(offset=95, epoch=2)
    assert 90 == caught.value.began_after
    state.require_shared_history(offset=90, epoch=2)


@pytest.mark.django_db(transaction=True)
def test_the_log_keeps_its_id_over_epochs_and_events() -> None:
    first = log_state("default")
    save(1, 2)
    log_numbers()
    begin_epoch("default", reason="by hand")
    ensure_log("default")

    state = log_state("default")

    assert first.log == state.log == EventStore().get().log
    assert (((1, 0), (2, 2)), 2, 2) == (state.epochs, state.epoch, state.head)


@pytest.mark.django_db(transaction=True)
def test_a_new_epoch_begins_after_the_head_or_a_position_below_it() -> None:
    save(1, 2, 3)
    log_numbers()

    made = [begin_epoch("default", reason="one"), begin_epoch("default", after=1, reason="two")]
    made.append(begin_epoch("default", after=0, reason="three"))

    assert [(2, 3, "one"), (3, 1, "two"), (4, 0, "three")] == [(e.number, e.began_after, e.reason) for e in made]
    assert 4 == EventStore().get().epoch
    assert 1 == len({epoch.log for epoch in Epoch.objects.all()})


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("after", [-1, 4, 2**63])
def test_a_new_epoch_cannot_begin_outside_the_log(after: int) -> None:
    save(1, 2, 3)
    log_numbers()

    with pytest.raises(EventStoreError, match="between 0 and the head, 3"):
        begin_epoch("default", after=after, reason="no")

    assert 1 == Epoch.objects.count()


@pytest.mark.django_db(transaction=True)
def test_readers_of_an_older_epoch_go_on_from_shared_history_only() -> None:
    save(*range(5))
    log_numbers()
    begin_epoch("default", after=3, reason="a restore")

    page = EventStore().get(3, epoch=1)
    assert ([3, 4], 2) == (numbers(page), page.epoch)
    assert [4] == numbers(EventStore().get(4, epoch=2))
    assert [4] == numbers(EventStore().get(4))
    with pytest.raises(EpochChanged) as caught:
        EventStore().get(4, epoch=1)
    error = caught.value
    assert (2, 1, 4, 5, 3) == (error.epoch, error.reader_epoch, error.offset, error.head, error.began_after)
    with pytest.raises(EpochChanged):
        EventStore().get(0, epoch=9)


@pytest.mark.django_db(transaction=True)
def test_a_missing_log_row_is_made_again_once() -> None:
    Epoch.objects.all().delete()

    first = log_state("default")

    assert ((1, 0),) == first.epochs
    assert first.log == log_state("default").log
    ensure_log("default")
    assert 1 == Epoch.objects.count()


@pytest.mark.django_db(transaction=True)
def test_an_epoch_begun_in_a_transaction_that_is_rolled_back_never_was() -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        begin_epoch("default", reason="not meant")
        raise ZeroDivisionError

    assert 1 == EventStore().get().epoch
