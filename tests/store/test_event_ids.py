"""Event ids: made by us, or supplied, and then recorded once."""

from __future__ import annotations

import time
from contextlib import suppress
from threading import Event
from uuid import UUID, uuid4

import pytest
from django.db import connections, transaction

from django_eventstore import EventEntry, EventStore
from django_eventstore.exceptions import ConcurrencyError, EventIdConflict
from django_eventstore.models import EventKey, StreamVersion
from django_eventstore.store.event_ids import uuid7

from .conftest import Elsewhere
from .log import log_numbers, save

pytestmark = pytest.mark.django_db(transaction=True)


def _once(
    event_id: UUID, n: int = 1, *, using: str = "default", type: str = "test.Once", **keywords: object
) -> EventEntry:
    [entry] = EventStore(using).save(type, {"n": n}, event_id=event_id, **keywords)  # type: ignore[arg-type]
    return entry


def test_our_ids_are_uuids_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000
    made = [uuid7() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000

    assert {7} == {id_.version for id_ in made}
    assert {"specified in RFC 4122"} == {id_.variant for id_ in made}
    assert all(before <= id_.int >> 80 <= after for id_ in made)
    assert 1_000 == len(set(made))
    # Every bit that is not fixed is random.
    ones, zeros = 0, 0
    for id_ in made:
        ones, zeros = ones | id_.int, zeros | ~id_.int
    assert (1 << 80) - 1 & ~(0x8 << 76 | 0x1 << 62) == ones & (1 << 80) - 1
    assert (1 << 80) - 1 & ~(0x7 << 76 | 0x2 << 62) == zeros & (1 << 80) - 1


def test_a_repeated_save_returns_the_first_entry_and_stores_nothing() -> None:
    event_id = uuid4()
    first = _once(event_id, 1, stream="s", subject="ann", metadata={"try": 1})

    again = _once(event_id, 2, stream="s")

    assert (first.id, event_id, first.payload, "ann") == (again.id, again.event_id, again.payload, again.subject)
    assert '{"n":1}' == again.payload
    assert 1 == EventEntry.objects.count() == EventKey.objects.count()
    assert [1] == log_numbers()


def test_a_repeated_save_with_the_expected_version_of_then_is_no_conflict() -> None:
    event_id = uuid4()
    first = _once(event_id, stream="s", expected_version=0)
    EventStore().save("test.Once", {"n": 2}, stream="s", expected_version=1)

    again = _once(event_id, stream="s", expected_version=0)

    assert (first.id, 1) == (again.id, again.stream_version)
    assert 2 == EventEntry.objects.count()


def test_a_repeated_save_in_the_same_transaction_returns_the_first_entry() -> None:
    event_id = uuid4()
    with transaction.atomic():
        first = _once(event_id)
        again = _once(event_id)

    assert first.id == again.id
    assert [1] == log_numbers()


@pytest.mark.parametrize("other", [{"type": "test.Other"}, {"stream": "another"}, {"stream": "S"}])
def test_another_event_under_a_used_id_is_a_conflict_with_the_facts(other: dict[str, str]) -> None:
    event_id = uuid4()
    _once(event_id, stream="s")

    with transaction.atomic():
        with pytest.raises(EventIdConflict) as caught:
            _once(event_id, **{"stream": "s", **other})
        save(2)

    assert (event_id, "test.Once", "s") == (caught.value.event_id, caught.value.type, caught.value.stream)
    assert [1, 2] == log_numbers()


def test_an_id_names_one_event() -> None:
    from tests.shop.events import OrderCancelled

    event = OrderCancelled(order_id=1, reason="")
    for _ in range(2):  # unknown, then known
        with pytest.raises(ValueError, match="names one event"):
            EventStore().save(event, event, event_id=UUID(int=1))
        EventStore().save(event, event_id=UUID(int=1))

    assert 1 == EventEntry.objects.count()


def test_an_id_that_was_rolled_back_is_free_again() -> None:
    event_id = uuid4()
    with suppress(ZeroDivisionError), transaction.atomic():
        _once(event_id, 1)
        raise ZeroDivisionError

    _once(event_id, 2)

    assert [2] == log_numbers()


def test_an_id_supplied_later_does_not_meet_one_that_was_made() -> None:
    """Uniqueness is asked for by supplying the id; what was recorded without is not looked through."""
    [made] = save(1)

    assert EventStore().recorded(made.event_id) is None


def test_a_failure_in_the_savepoint_takes_entry_version_and_key_back() -> None:
    EventStore().save("test.Once", {"n": 0}, stream="s", expected_version=0)

    with transaction.atomic():
        with pytest.raises(ConcurrencyError):
            _once(uuid4(), stream="s", expected_version=0)
        save(1)

    assert [0, 1] == log_numbers()
    assert 0 == EventKey.objects.count()
    assert 1 == StreamVersion.objects.count()


def _race(
    elsewhere: Elsewhere, second: str, keywords: dict[str, object], late: dict[str, object]
) -> tuple[EventEntry, EventEntry]:
    """Both are past the look whether the id is known before the first commits."""
    event_id = uuid4()
    began = Event()

    def other() -> EventEntry:
        with transaction.atomic():
            assert EventStore().recorded(event_id) is None
            began.set()
            return _once(event_id, 2, **late)  # type: ignore[arg-type]

    with transaction.atomic(using=second):
        first = _once(event_id, 1, using=second, **keywords)  # type: ignore[arg-type]
        future = elsewhere(other)
        assert began.wait(10)
        with pytest.raises(TimeoutError):
            future.result(0.3)
    return first, future.result(10)


@pytest.mark.postgresql
@pytest.mark.mariadb
@pytest.mark.parametrize("keywords", [{"stream": "s"}, {"stream": "s", "expected_version": 0}])
def test_the_later_of_two_transactions_with_one_id_returns_the_entry_of_the_first(
    second: str, elsewhere: Elsewhere, keywords: dict[str, object]
) -> None:
    first, again = _race(elsewhere, second, keywords, keywords)

    assert (first.id, first.payload) == (again.id, again.payload)
    assert [1] == log_numbers()
    assert int("expected_version" in keywords) == StreamVersion.objects.count()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_the_later_of_two_transactions_with_one_id_and_different_events_is_told(
    second: str, elsewhere: Elsewhere
) -> None:
    with pytest.raises(EventIdConflict):
        _race(elsewhere, second, {"stream": "s"}, {"stream": "s", "type": "test.Other"})

    assert [1] == log_numbers()


def test_many_threads_with_one_id_store_it_once(elsewhere: Elsewhere) -> None:
    event_id, go = uuid4(), Event()

    def write(number: int) -> int:
        connections["default"].ensure_connection()
        go.wait(10)
        return _once(event_id, number, stream="s", expected_version=0).id

    futures = [elsewhere(write, number) for number in range(6)]
    go.set()

    assert 1 == len({future.result(30) for future in futures})
    assert 1 == EventEntry.objects.count() == EventKey.objects.count() == StreamVersion.objects.count()
