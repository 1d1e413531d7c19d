"""Streams: their names, and expected_version between writers that know nothing of each other."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from threading import Event

import pytest
from django.db import connections, transaction

from django_eventstore import EventEntry, EventStore
from django_eventstore.exceptions import ConcurrencyError, MixedStreamError
from django_eventstore.models import StreamVersion
from django_eventstore.store.streams import is_versioned, stream_name
from tests.shop.models import Order

from .conftest import Connect, Elsewhere
from .log import execute, log_numbers, save

pytestmark = pytest.mark.django_db(transaction=True)


def _versioned(expected: int, *numbers: int, using: str = "default", stream: str = "s") -> list[EventEntry]:
    """One save of one event per number."""
    from tests.shop.events import OrderCancelled

    events = [OrderCancelled(order_id=number, reason="") for number in numbers]
    return EventStore(using).save(*events, stream=stream, expected_version=expected)


def _stored() -> list[tuple[int, int | None]]:
    return [(entry.data["order_id"], entry.stream_version) for entry in EventEntry.objects.order_by("id")]


def test_a_saved_instance_names_its_stream() -> None:
    order = Order.objects.create(total=1)

    assert f"order-{order.pk}" == stream_name(order)
    assert "as it is" == stream_name("as it is")
    assert "" == stream_name(None)
    [entry] = EventStore().save("test.Counted", {"n": 1}, stream=order)
    assert f"order-{order.pk}" == entry.stream


def test_a_proxy_and_a_deferred_instance_name_the_same_stream() -> None:
    class Special(Order):
        class Meta:
            proxy = True
            app_label = "shop"

    order = Order.objects.create(total=1)

    assert stream_name(order) == stream_name(Special.objects.get()) == stream_name(Order.objects.only("pk").get())


def test_an_unsaved_instance_names_no_stream() -> None:
    with pytest.raises(ValueError, match="no primary key yet"):
        EventStore().save("test.Counted", {"n": 1}, stream=Order(total=1))

    assert 0 == EventEntry.objects.count()


def test_versions_count_from_one_over_several_calls_and_events() -> None:
    _versioned(0, 10)
    _versioned(1, 11, 12, 13)
    _versioned(4, 14)

    assert [(10, 1), (11, 2), (12, 3), (13, 4), (14, 5)] == _stored()
    assert [1, 2, 3, 4, 5] == [entry.stream_version for entry in EventStore().get(stream="s").entries]


@pytest.mark.parametrize("expected, actual", [(0, 2), (1, 2), (3, 2), (2**63 - 2, 2)])
def test_another_version_than_the_expected_one_is_refused_with_the_facts(expected: int, actual: int) -> None:
    _versioned(0, 1, 2)

    with pytest.raises(ConcurrencyError) as caught:
        _versioned(expected, 3)

    assert ("s", expected, actual) == (caught.value.stream, caught.value.expected, caught.value.actual)
    assert [(1, 1), (2, 2)] == _stored()


@pytest.mark.parametrize("expected", [-1, True, "1", 1.0, 2**63])
def test_an_expected_version_that_is_none_is_refused(expected: object) -> None:
    with pytest.raises(ValueError, match="expected_version must be an integer"):
        _versioned(expected, 1)  # type: ignore[arg-type]


def test_an_expected_version_needs_a_stream() -> None:
    with pytest.raises(ValueError, match="name the stream"):
        EventStore().save("test.Counted", {"n": 1}, expected_version=0)


def test_streams_are_told_apart_byte_by_byte() -> None:
    for stream in ("a", "A", "a ", "\xe1", "a\u0301"):
        _versioned(0, 1, stream=stream)

    assert 5 == StreamVersion.objects.count()
    assert ["a "] == [entry.stream for entry in EventStore().get(stream="a ").entries]
    assert "a" == is_versioned({"a", "b"}, "default")
    assert is_versioned({"b"}, "default") is None


def test_a_rolled_back_version_is_free_again() -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        _versioned(0, 1)
        raise ZeroDivisionError
    with transaction.atomic():
        with suppress(ZeroDivisionError), transaction.atomic():
            _versioned(0, 2)
            raise ZeroDivisionError
        _versioned(0, 3)

    assert [(3, 1)] == _stored()


def test_a_conflict_caught_inside_atomic_leaves_the_transaction_usable_and_nothing_behind() -> None:
    _versioned(0, 1)

    with transaction.atomic():
        with pytest.raises(ConcurrencyError):
            _versioned(0, 2, 3)
        _versioned(1, 4)

    assert [(1, 1), (4, 2)] == _stored()
    assert 2 == StreamVersion.objects.count()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_of_two_open_transactions_with_one_version_the_second_waits_and_is_refused(
    second: str, elsewhere: Elsewhere
) -> None:
    began = Event()

    def late() -> str:
        with transaction.atomic():
            began.set()
            with pytest.raises(ConcurrencyError) as caught:
                _versioned(0, 2, 3)
            # Refused by the primary key alone: still usable, and nothing of the claim is left.
            _versioned(1, 4)
        return f"{caught.value.expected} {caught.value.actual}"

    with transaction.atomic(using=second):
        _versioned(0, 1, using=second)
        other: Future[str] = elsewhere(late)
        assert began.wait(10)
        with pytest.raises(TimeoutError):
            other.result(0.3)

    assert "0 1" == other.result(10)
    assert [(1, 1), (4, 2)] == _stored()


@pytest.mark.postgresql
@pytest.mark.mariadb
def test_the_second_goes_on_when_the_first_is_rolled_back(second: str, elsewhere: Elsewhere) -> None:
    other: Future[list[EventEntry]] | None = None
    with suppress(ZeroDivisionError), transaction.atomic(using=second):
        _versioned(0, 1, using=second)
        other = elsewhere(_versioned, 0, 2)
        with pytest.raises(TimeoutError):
            other.result(0.3)
        raise ZeroDivisionError

    assert other is not None
    assert [1] == [entry.stream_version for entry in other.result(10)]
    assert [(2, 1)] == _stored()


@pytest.mark.parametrize("writers", [6])
def test_of_many_writers_of_one_version_exactly_one_wins(elsewhere: Elsewhere, writers: int) -> None:
    go = Event()

    def write(number: int) -> bool:
        connections["default"].ensure_connection()
        go.wait(10)
        try:
            _versioned(0, number)
        except ConcurrencyError:
            return False
        return True

    futures = [elsewhere(write, number) for number in range(writers)]
    go.set()

    assert [False] * (writers - 1) + [True] == sorted(future.result(30) for future in futures)
    assert 1 == EventEntry.objects.count() == StreamVersion.objects.count()


@pytest.mark.postgresql
def test_at_repeatable_read_the_loser_gets_a_concurrency_error_too(connect: Connect) -> None:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    strict = connect("strict", options={"isolation_level": IsolationLevel.REPEATABLE_READ})

    @transaction.atomic(using=strict)
    def lose() -> None:
        execute("SELECT count(*) FROM eventstore_entry", using=strict)
        _versioned(0, 1)
        _versioned(0, 2, using=strict)

    with pytest.raises(ConcurrencyError) as caught:
        lose()

    assert caught.value.actual is None
    assert [(1, 1)] == _stored()


@pytest.mark.mariadb
def test_at_repeatable_read_the_loser_goes_on_after_the_error(connect: Connect) -> None:
    strict = connect("strict", options={"isolation_level": "repeatable read"})
    with transaction.atomic(using=strict):
        execute("SELECT count(*) FROM eventstore_entry", using=strict)
        _versioned(0, 1)
        with pytest.raises(ConcurrencyError) as caught:
            _versioned(0, 2, using=strict)
        _versioned(0, 3, using=strict, stream="another")

    assert caught.value.actual is None
    assert [(1, 1), (3, 1)] == _stored()


def test_a_versioned_event_on_a_plain_stream_is_refused() -> None:
    save(1, stream="s")

    with transaction.atomic():
        with pytest.raises(MixedStreamError) as caught:
            _versioned(0, 2)
        save(3, stream="s")

    assert ("s", False) == (caught.value.stream, caught.value.versioned)
    assert [1, 3] == log_numbers()
    assert 0 == StreamVersion.objects.count()


def test_a_plain_event_on_another_stream_is_not_disturbed_by_versioned_ones() -> None:
    _versioned(0, 1)

    save(2, stream="S")
    save(3)

    assert [2, 3] == [entry.data["n"] for entry in EventStore().get(1).entries]
